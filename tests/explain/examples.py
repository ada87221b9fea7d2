"""A small scan, and what its explanation knows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamt.explain.page import write_page
from gamt.explain.record import ClassRecord, Explanation, WalkRecord
from gamt.explain.recorder import explain_case
from gamt.io.case import Case
from gamt.prompts import Box, ClassPrompts, Click
from gamt.segmenters.base import Segmenter
from gamt.settings import PRESETS, Settings
from tests.doubles import (
    Mask,
    Thresholder,
    TruthTeller,
    block,
    make_case,
    picture,
)

UNLIMITED = replace(PRESETS["default"], budget=False)

# Thick slices, and no two sides alike.
SHAPE = (9, 16, 24)
SPACING = (3.0, 1.0, 1.0)
BODY = block(SHAPE, slice(2, 7), slice(4, 12), slice(6, 18))
BOX = Box(z_min=2, z_max=7, z_mid=4, y_min=4, y_max=12, x_min=6, x_max=18)

FROM_4 = block((12, 20, 24), slice(2, 6), slice(4, 10), slice(2, 10))


def explain(
    case: Case,
    segmenter: Segmenter | None = None,
    settings: Settings = UNLIMITED,
    truth: npt.NDArray[np.uint8] | None = None,
) -> Explanation:
    return explain_case(case, segmenter or Thresholder(), settings, truth)


def body_case(*prompts: ClassPrompts) -> Case:
    return make_case(picture(BODY), *(prompts or (ClassPrompts(1, BOX),)), spacing_mm=SPACING)


def only(explanation: Explanation) -> ClassRecord:
    (record,) = explanation.classes
    return record


def axial(record: ClassRecord) -> WalkRecord:
    (walk,) = record.planes[0].walks
    return walk


def corrected(*clicks: Click, truth: Mask = BODY) -> ClassRecord:
    """Corrects a previous prediction that has the first half of `BODY` in x alone."""
    previous = (BODY & block(SHAPE, slice(None), slice(None), slice(12))).astype(np.uint8)
    prompts = ClassPrompts(1, BOX, clicks)
    case = make_case(picture(truth), prompts, spacing_mm=SPACING, previous=previous)
    return only(explain(case, TruthTeller(), truth=truth.astype(np.uint8)))


def page_of(explanation: Explanation, folder: Path) -> str:
    write_page(explanation, folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")
