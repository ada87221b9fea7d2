"""Small evaluations on made-up cases, as `evaluation.records` keeps them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.loop import CaseFiles
from evaluation.metrics import class_dsc, class_nsd
from evaluation.records import CaseRecord, ClassClick, Interaction, Output, TeamFolder
from gamt.io.npz import write_npz

SHAPE = (6, 10, 14)
SPACING = (3.0, 1.0, 2.0)


def make_record(
    case: str,
    dsc: Sequence[float],
    *,
    nsd: Sequence[float] | None = None,
    seconds: float = 1.0,
    output: Output = "written",
    checksum: int = 1,
) -> CaseRecord:
    """A record of one class with the given scores: six of them, or five without a box."""
    interactions = tuple(
        Interaction(
            number=7 - len(dsc) + position,
            clicks=() if 7 - len(dsc) + position == 1 else (ClassClick("fg", (3, 4, 5)),),
            seconds=seconds,
            output=output,
            failure=None,
            dsc=score,
            nsd=surface,
            class_dsc=(score,),
            class_nsd=(surface,),
        )
        for position, (score, surface) in enumerate(zip(dsc, nsd or dsc, strict=True))
    )
    checksums = {"image:imgs.npy": checksum}
    return CaseRecord(case, "", "", checksums, SPACING, (1,), interactions, own_seconds=0.1)


def write_team(
    path: Path,
    records: Sequence[CaseRecord],
    *,
    method: str = "gamt",
    strict_time: bool = False,
    missing: Sequence[str] = (),
) -> TeamFolder:
    """Writes a team's folder."""
    folder = TeamFolder(path)
    (path / "records").mkdir(parents=True)
    cases = [record.case for record in records] + list(missing)
    settings: Mapping[str, Any] = {
        "method": method,
        "strict_time": strict_time,
        "started": "2025-06-11 09:00",
        "cases": cases,
    }
    folder.write_settings(settings)
    for record in records:
        record.write(folder.record_file(record.case))
    return folder


def make_truth() -> npt.NDArray[np.uint8]:
    """Two boxes: class 1, of 4 x 4 x 5 voxels, and class 2, of 2 x 3 x 4."""
    gts = np.zeros(SHAPE, np.uint8)
    gts[1:5, 2:6, 1:6] = 1
    gts[2:4, 5:8, 9:13] = 2
    return gts


def write_drawn_team(path: Path, cases: Sequence[str], cases_folder: Path) -> TeamFolder:
    """Writes a team's folder with predictions, and the cases that they are of.

    Each run predicts one more slice of both classes, from the bottom; the sixth has them all. The
    clicks are on class 1 at (3, 3, 3) and on class 2 at (3, 6, 10).
    """
    gts = make_truth()
    image = (np.indices(SHAPE).sum(axis=0) * 8).astype(np.uint8)
    cases_folder.mkdir(parents=True, exist_ok=True)
    records = []
    for case in cases:
        source = cases_folder / case
        write_npz(source, {"imgs": image, "gts": gts, "spacing": np.array(SPACING)})
        segs = [np.where(np.arange(6)[:, None, None] < run, gts, 0) for run in range(1, 7)]
        interactions = []
        for number, prediction in enumerate(segs, start=1):
            dsc = tuple(class_dsc(gts, prediction).values())
            nsd = tuple(class_nsd(gts, prediction, SPACING).values())
            clicks = (ClassClick("fg", (3, 3, 3)), ClassClick("bg", (3, 6, 10)))
            interactions.append(
                Interaction(
                    number=number,
                    clicks=clicks if number > 1 else (),
                    seconds=2.0,
                    output="written",
                    failure=None,
                    dsc=float(np.mean(dsc)),
                    nsd=float(np.mean(nsd)),
                    class_dsc=dsc,
                    class_nsd=nsd,
                )
            )
        records.append(
            CaseRecord(
                case=case,
                image_file=str(source),
                gts_file=str(source),
                checksums=CaseFiles(source, source).checksums(),
                spacing=SPACING,
                labels=(1, 2),
                interactions=tuple(interactions),
                own_seconds=0.1,
            )
        )
    folder = write_team(path, records)
    for case in cases:
        write_npz(folder.prediction_file(case), {"segs": segs[-1], "all_segs": np.stack(segs)})
    return folder
