"""The page: what it says, and that it needs no other file."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from gamt import segmenters
from gamt.explain.page import render_page
from gamt.prompts import Box, ClassPrompts, Click
from tests.doubles import (
    Thresholder,
    TruthTeller,
    block,
    make_case,
    picture,
)
from tests.explain.examples import (
    BODY,
    BOX,
    FROM_4,
    SHAPE,
    SPACING,
    UNLIMITED,
    body_case,
    explain,
    only,
    page_of,
)


def test_the_page_names_classes_reasons_and_scores(tmp_path: Path) -> None:
    image = picture(FROM_4)
    box = Box(2, 10, 4, 4, 10, 2, 10)
    case = make_case(image, ClassPrompts(1, box), ClassPrompts(2))
    truth = (FROM_4 & block(FROM_4.shape, slice(None), slice(None), slice(6))).astype(np.uint8)
    text = page_of(explain(case, truth=truth), tmp_path)
    for expected in (
        '<a href="#class-1">Class 1</a>',
        '<section id="class-2">',
        "Box on slice z 4: z 2–9, y 4–9, x 2–9.",
        "The axial walk up from slice 4 ended early, at 6: the mask vanished. It was to go to 9.",
        "There is neither a prompt nor a previous prediction",
        "max_growth=4.0",
    ):
        assert expected in text
    assert "0.667" in text
    assert "cut it short" not in text


def test_a_page_in_memory_is_that_of_the_file(tmp_path: Path) -> None:
    explanation = explain(body_case())
    assert render_page(explanation) == page_of(explanation, tmp_path)


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    text = page_of(explain(body_case()), tmp_path)
    links = re.findall(r"""(?:src|href)="([^"]*)"|url\(([^)]*)\)""", text)
    assert links
    assert all((a or b).startswith(("data:", "#")) for a, b in links)
    assert "http://" not in text
    assert "https://" not in text
    assert "Dice" not in re.sub(r"<details.*?</details>", "", text, flags=re.S)  # there is no truth


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    segmenter = Thresholder()
    segmenter.name = "<img src=x>"
    case = replace(body_case(), name="<script>alert('a')</script>")
    text = page_of(explain(case, segmenter), tmp_path)
    assert "<script" not in text
    assert "<img src=x>" not in text
    assert "&lt;script&gt;" in text


def test_the_page_tells_of_a_round_of_corrections(tmp_path: Path) -> None:
    click = Click(4, 8, 15, True)
    previous = (BODY & block(SHAPE, slice(None), slice(None), slice(12))).astype(np.uint8)
    prompts = ClassPrompts(1, BOX, (click, Click(4, 8, 8, True)))
    case = make_case(picture(BODY), prompts, spacing_mm=SPACING, previous=previous)
    text = page_of(explain(case, TruthTeller()), tmp_path)
    assert "Click 1, inside, at z 4, y 8, x 15: added " in text
    assert "Click 2, inside, at z 4, y 8, x 8: agrees with what was found." in text
    assert "Correction at z 4, y 8, x 15" in text
    assert "nothing more to correct" in text
    assert "Planes vote on what is wrong" in text


def test_a_segmenter_that_knows_intensities_alone_has_no_votes_on_corrections(
    tmp_path: Path,
) -> None:
    previous = (BODY & block(SHAPE, slice(None), slice(None), slice(12))).astype(np.uint8)
    prompts = ClassPrompts(1, BOX, (Click(4, 8, 15, True),))
    case = make_case(picture(BODY), prompts, spacing_mm=SPACING, previous=previous)
    explanation = explain(case, segmenters.load())
    (montage,) = only(explanation).correction_montages
    assert montage.columns == ("prompts", "evidence", "result")
    text = page_of(explanation, tmp_path)
    assert "was not asked" in text
    assert "walks</summary>" not in text


def test_the_page_says_that_the_time_was_short(tmp_path: Path) -> None:
    settings = replace(UNLIMITED, budget=True, safety=1.0)
    text = page_of(explain(body_case(), settings=settings), tmp_path)
    assert "The time limit cut it short" in text
    assert "out of time" in text


def test_the_page_shows_the_body_that_a_first_click_stands_in(tmp_path: Path) -> None:
    case = body_case(ClassPrompts(1, None, (Click(4, 8, 12, True),)))
    text = page_of(explain(case, segmenters.load()), tmp_path)
    assert "<b>Body</b>" in text
    assert "The first click stands in a body that stands out clearly" in text
    assert "The planes are not asked" in text
    assert "<h3>Walks</h3>" not in text
    asked = page_of(explain(case), tmp_path)
    assert "What the planes saw confirms it" in asked
    assert "<h3>Walks</h3>" in asked
