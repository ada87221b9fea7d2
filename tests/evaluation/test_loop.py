"""The loop, against the organisers' script run from end to end (see `official.md`), and by hand."""

import io
import json
import pickletools
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from benchmarks.samples import FOLDER as SAMPLES
from evaluation.loop import CaseFiles, Ended, LateError, evaluate_case
from evaluation.records import COLUMNS, CaseRecord
from gamt.io.case import read_case
from gamt.io.npz import CaseError, object_array
from tests.evaluation import toy_method

HERE = Path(__file__).parent
OFFICIAL = pd.read_csv(HERE / "official_metrics.csv").set_index("CaseName")
OFFICIAL_CLICKS = json.loads((HERE / "official_clicks.json").read_text())
TIMES = [name for name in COLUMNS if "RunningTime" in name]

Write = Callable[[Path, int], None]


class Toy:
    """The method of the golden figures; keeps the files that it was given."""

    def __init__(self) -> None:
        self.inputs: list[bytes] = []

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        start = time.perf_counter()
        (path,) = folder.glob("inputs/*.npz")
        self.inputs.append(path.read_bytes())
        toy_method.main(folder)
        return Ended(None, time.perf_counter() - start)


class Scripted:
    """A method that does at each run what a function says."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.runs = 0

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        start = time.perf_counter()
        (path,) = folder.glob("inputs/*.npz")
        self.runs += 1
        self.write(folder / "outputs" / path.name, self.runs)
        return Ended(None, time.perf_counter() - start)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample cases and the one that is easy for the toy method."""
    folder = tmp_path_factory.mktemp("cases")
    for path in SAMPLES.glob("*.npz"):
        shutil.copy(path, folder)
    toy_method.write_easy_case(folder / "MR_easy.npz")
    return folder


def evaluate(files: CaseFiles, method: Toy | Scripted, folder: Path) -> CaseRecord:
    return evaluate_case(files, method, folder / "work", folder / "log.txt", folder / "all.npz")


def evaluate_file(path: Path, method: Toy | Scripted, folder: Path) -> CaseRecord:
    return evaluate(CaseFiles(path, path), method, folder)


def clicks_of(record: CaseRecord) -> list[list[list[object] | None]]:
    """The clicks class by class, as in the golden file."""
    runs = [one.clicks for one in record.interactions if one.number > 1]
    return [
        [click and [click.kind, list(click.voxel)] for click in clicks]
        for clicks in zip(*runs, strict=True)
    ]


@pytest.mark.parametrize("case", sorted(OFFICIAL_CLICKS))
@pytest.mark.parametrize("apart", [False, True], ids=["one-file", "truth-apart"])
def test_rows_and_clicks_equal_the_official_scripts(
    cases: Path, tmp_path: Path, case: str, apart: bool
) -> None:
    files = CaseFiles(cases / case, cases / case)
    if apart:
        (tmp_path / "images").mkdir()
        files = CaseFiles(tmp_path / "images" / case, cases / case)
        with np.load(cases / case, allow_pickle=True) as content:
            arrays = {key: content[key] for key in content.files if key != "gts"}
        np.savez_compressed(files.image, **arrays)
    method = Toy()
    record = evaluate(files, method, tmp_path)

    assert len(method.inputs) == OFFICIAL_CLICKS[case]["runs"]
    assert clicks_of(record) == OFFICIAL_CLICKS[case]["clicks"]
    assert record.predicted == (case in OFFICIAL.index)
    if record.predicted:
        row = record.row()
        assert list(row) == list(COLUMNS)
        expected = OFFICIAL.drop(columns=TIMES).to_dict("index")[case]
        for column, value in {str(key): one for key, one in expected.items()}.items():
            if column.startswith("NSD"):
                assert row[column] == pytest.approx(value, rel=0, abs=1e-12), column
            else:
                assert row[column] == value, column


def test_the_columns_are_the_official_ones() -> None:
    header = (HERE / "official_metrics.csv").read_text().partition("\n")[0]
    assert ",".join(COLUMNS) == header


def test_every_run_gets_what_the_official_script_writes(cases: Path, tmp_path: Path) -> None:
    method = Toy()
    record = evaluate_file(cases / "MR_easy.npz", method, tmp_path)
    first, *later = [np.load(io.BytesIO(one), allow_pickle=True) for one in method.inputs]
    assert set(first.files) == {"imgs", "gts", "spacing", "boxes"}
    with np.load(tmp_path / "all.npz") as file:
        predictions = file["all_segs"]
    for number, given in enumerate(later, start=1):
        keys = {"imgs", "gts", "spacing", "boxes", "clicks", "clicks_order", "prev_pred"}
        assert set(given.files) == keys
        np.testing.assert_array_equal(given["prev_pred"], predictions[number - 1])
        assert given["prev_pred"].dtype == np.uint8
        np.testing.assert_array_equal(given["imgs"], first["imgs"])
        assert given["clicks_order"].shape == (2, number)
        for one, order, run in zip(
            given["clicks"], given["clicks_order"], clicks_of(record), strict=True
        ):
            assert list(order) == [click and click[0] for click in run[:number]]
            for kind in ("fg", "bg"):
                assert one[kind] == [
                    click[1] for click in run[:number] if click and click[0] == kind
                ]


def test_a_case_without_boxes_is_run_five_times_and_scores_nothing_first(
    cases: Path, tmp_path: Path
) -> None:
    method = Toy()
    record = evaluate_file(cases / "Microscopy_phantom.npz", method, tmp_path)
    assert [one.number for one in record.interactions] == [2, 3, 4, 5, 6]
    row = record.row()
    assert row["RunningTime_1"] == row["DSC_1"] == row["NSD_1"] == 0
    given = np.load(io.BytesIO(method.inputs[0]), allow_pickle=True)
    # The file came with clicks of its own, which don't count.
    assert set(given.files) == {"imgs", "gts", "spacing", "clicks", "clicks_order", "prev_pred"}
    assert given["clicks_order"].shape == (7, 1)


def test_truth_from_elsewhere_is_kept_from_the_method(cases: Path, tmp_path: Path) -> None:
    (tmp_path / "gts").mkdir()
    shutil.copy(cases / "MR_easy.npz", tmp_path / "gts")
    method = Toy()
    files = CaseFiles(cases / "MR_easy.npz", tmp_path / "gts" / "MR_easy.npz")
    evaluate(files, method, tmp_path)
    for one in method.inputs[1:]:
        assert "gts" not in np.load(io.BytesIO(one), allow_pickle=True).files


def test_files_can_be_read_by_older_versions_of_numpy(cases: Path, tmp_path: Path) -> None:
    method = Toy()
    evaluate_file(cases / "CT_phantom.npz", method, tmp_path)
    with zipfile.ZipFile(io.BytesIO(method.inputs[-1])) as archive:
        content = archive.read("clicks.npy")
    # The header ends in a line break; what follows is the pickle.
    pickled = content[content.index(b"\n") + 1 :]
    named = [str(value) for code, value, _ in pickletools.genops(pickled) if code.name == "GLOBAL"]
    assert named
    assert all(name.split(".")[:2] != ["numpy", "_core"] for name in named)


def test_a_case_as_written_for_a_run_is_one_that_gamt_reads(cases: Path, tmp_path: Path) -> None:
    method = Toy()
    record = evaluate_file(cases / "MR_phantom.npz", method, tmp_path)
    path = tmp_path / "MR_phantom.npz"
    path.write_bytes(method.inputs[-1])
    case = read_case(path)
    for prompts, clicks in zip(case.prompts, clicks_of(record), strict=True):
        assert prompts.box is not None
        said = [["fg" if one.positive else "bg", list(one.voxel)] for one in prompts.clicks]
        assert said == clicks


def block_case(path: Path) -> npt.NDArray[np.uint8]:
    """Writes a case of one block, without a box, and returns the truth."""
    gts = np.zeros((5, 8, 9), np.uint8)
    gts[1:4, 2:6, 3:7] = 1
    np.savez_compressed(path, imgs=gts * 200, gts=gts, spacing=np.array([2.0, 1.0, 1.0]))
    return gts


def test_predictions_of_all_runs_are_kept(tmp_path: Path) -> None:
    truth = block_case(tmp_path / "CT_block.npz")

    def write(output: Path, run: int) -> None:
        segs = truth.copy()
        segs[:, :, run:] = 0
        np.savez_compressed(output, segs=segs)

    method = Scripted(write)
    record = evaluate_file(tmp_path / "CT_block.npz", method, tmp_path)
    with np.load(tmp_path / "all.npz") as file:
        assert file["all_segs"].shape == (5, 5, 8, 9)
        for run, segs in enumerate(file["all_segs"], start=1):
            assert segs.sum() == truth[:, :, :run].sum()
        np.testing.assert_array_equal(file["segs"], file["all_segs"][-1])
    # Columns 3 to 6 are the block; at run 5 its first two of four: 2 * 2 / (2 + 4).
    assert record.interactions[-1].dsc == pytest.approx(2 / 3)


def test_a_run_that_writes_nothing_is_scored_by_what_lies_there(tmp_path: Path) -> None:
    truth = block_case(tmp_path / "CT_block.npz")

    def write(output: Path, run: int) -> None:
        if run in (2, 4):
            np.savez_compressed(output, segs=truth if run == 4 else truth * (np.arange(9) < 5))

    record = evaluate_file(tmp_path / "CT_block.npz", Scripted(write), tmp_path)
    assert [one.output for one in record.interactions] == [
        "none",
        "written",
        "stale",
        "written",
        "stale",
    ]
    # Half of the block: 2 * 0.5 / 1.5.
    assert [one.dsc for one in record.interactions] == pytest.approx([0, 2 / 3, 2 / 3, 1, 1])
    # Nothing to click on any more.
    assert record.interactions[-1].clicks == (None,)


def test_surface_dice_counts_only_where_dice_is_above_a_fifth(tmp_path: Path) -> None:
    truth = block_case(tmp_path / "CT_block.npz")

    def write(output: Path, run: int) -> None:
        segs = np.zeros_like(truth)
        # 48 voxels; 5 found give 10 / 53 = 0.189, 6 give 12 / 54 = 0.222.
        segs.reshape(-1)[np.flatnonzero(truth)[: 4 + run]] = 1
        np.savez_compressed(output, segs=segs)

    first, second, *_ = evaluate_file(
        tmp_path / "CT_block.npz", Scripted(write), tmp_path
    ).interactions
    assert first.dsc == pytest.approx(10 / 53)
    assert (first.nsd, first.class_nsd) == (0, None)
    assert second.dsc == pytest.approx(12 / 54)
    assert second.nsd > 0


@pytest.mark.parametrize(
    ("segs", "message"),
    [
        (np.zeros((5, 8, 8), np.uint8), "key 'segs': found "),
        (np.zeros(3, np.uint8), "key 'segs': found "),
    ],
)
def test_a_broken_output_is_zeros_for_that_run_and_the_loop_goes_on(
    tmp_path: Path, segs: npt.NDArray[np.uint8], message: str
) -> None:
    truth = block_case(tmp_path / "CT_block.npz")
    method = Scripted(
        lambda output, run: np.savez_compressed(output, segs=segs if run == 2 else truth)
    )
    record = evaluate_file(tmp_path / "CT_block.npz", method, tmp_path)
    outputs = [one.output for one in record.interactions]
    assert outputs == ["written", "broken", "written", "written", "written"]
    assert [one.dsc for one in record.interactions] == [1, 0, 1, 1, 1]
    failures = [one.failure for one in record.interactions]
    assert failures[1] is not None
    assert message in failures[1]
    assert failures[:1] + failures[2:] == [None] * 4
    with np.load(tmp_path / "all.npz") as file:
        assert file["all_segs"][1].max() == 0


def test_the_next_click_after_a_broken_output_is_that_after_zeros(tmp_path: Path) -> None:
    truth = block_case(tmp_path / "CT_block.npz")
    seen = []

    def run_of(second: Callable[[Path], object]) -> CaseRecord:
        def write(output: Path, run: int) -> None:
            with np.load(output.parent.parent / "inputs" / output.name) as file:
                seen.append(int(file["prev_pred"].sum()))
            if run == 2:
                second(output)
            else:
                np.savez_compressed(output, segs=truth * (np.arange(9) < 5))

        return evaluate_file(tmp_path / "CT_block.npz", Scripted(write), tmp_path)

    zeros = run_of(lambda output: np.savez_compressed(output, segs=np.zeros_like(truth)))
    broken = run_of(lambda output: output.write_bytes(b"no zip"))
    assert [one.clicks for one in broken.interactions] == [one.clicks for one in zeros.interactions]
    # Half of the block, 24 voxels, was there after every run but the second.
    assert seen == [0, 24, 0, 24, 24] * 2


def test_what_is_broken_does_not_count_again_nor_does_what_was_there_before(
    tmp_path: Path,
) -> None:
    truth = block_case(tmp_path / "CT_block.npz")
    found = []

    def write(output: Path, run: int) -> None:
        found.append(output.exists())
        if run == 1:
            np.savez_compressed(output, segs=truth)
        elif run == 2:
            output.write_bytes(b"no zip")

    record = evaluate_file(tmp_path / "CT_block.npz", Scripted(write), tmp_path)
    outputs = [one.output for one in record.interactions]
    assert outputs == ["written", "broken", "none", "none", "none"]
    assert [one.dsc for one in record.interactions] == [1, 0, 0, 0, 0]
    assert found == [False, True, False, False, False]


def test_what_a_late_run_wrote_is_discarded_and_the_earlier_output_counts_again(
    tmp_path: Path,
) -> None:
    truth = block_case(tmp_path / "CT_block.npz")
    half = truth * (np.arange(9) < 5)
    lying = []

    def write(output: Path, run: int) -> None:
        if output.exists():
            with np.load(output) as file:
                lying.append(int(file["segs"].sum()))
        np.savez_compressed(output, segs=half if run == 2 else truth)
        if run != 2:
            raise LateError(0.5)

    record = evaluate_file(tmp_path / "CT_block.npz", Scripted(write), tmp_path)
    outputs = [one.output for one in record.interactions]
    assert outputs == ["none", "written", "stale", "stale", "stale"]
    # Half of the block: 2 * 0.5 / 1.5.
    assert [one.dsc for one in record.interactions] == pytest.approx([0, *(2 / 3,) * 4])
    failures = [one.failure for one in record.interactions]
    assert failures == ["stopped after 0.5 s", None, *("stopped after 0.5 s",) * 3]
    assert lying == [24, 24, 24]


def test_a_case_of_broken_outputs_alone_has_no_prediction(tmp_path: Path) -> None:
    block_case(tmp_path / "CT_block.npz")

    def write(output: Path, run: int) -> None:
        output.write_bytes(b"no zip")

    method = Scripted(write)
    record = evaluate_file(tmp_path / "CT_block.npz", method, tmp_path)
    assert not record.predicted
    assert record.row()["DSC_AUC"] == 0
    assert not (tmp_path / "all.npz").exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble, ">i4", np.bool_])
def test_an_output_may_be_of_any_type_of_number(tmp_path: Path, dtype: npt.DTypeLike) -> None:
    truth = block_case(tmp_path / "CT_block.npz")
    method = Scripted(lambda output, run: np.savez_compressed(output, segs=truth.astype(dtype)))
    record = evaluate_file(tmp_path / "CT_block.npz", method, tmp_path)
    assert {one.dsc for one in record.interactions} == {1}


def test_the_method_finds_nothing_but_its_two_folders(tmp_path: Path) -> None:
    block_case(tmp_path / "CT_block.npz")
    found: set[str] = set()

    def write(output: Path, run: int) -> None:
        found.update(one.name for one in output.parent.parent.rglob("*"))

    evaluate_file(tmp_path / "CT_block.npz", Scripted(write), tmp_path)
    assert found == {"inputs", "outputs", "CT_block.npz"}


def test_links_in_place_of_an_input_lead_no_one_to_other_files(tmp_path: Path) -> None:
    block_case(tmp_path / "CT_block.npz")
    victims = tmp_path / "victims"
    victims.mkdir()
    (victims / "CT_block.npz").write_bytes(b"mine")

    def write(output: Path, run: int) -> None:
        inputs = output.parent.parent / "inputs"
        (inputs / output.name).unlink()
        if run == 1:
            (inputs / output.name).symlink_to(victims / "CT_block.npz")
        elif run == 2:
            inputs.rmdir()
            inputs.symlink_to(victims)
        else:
            (inputs / output.name / "folder").mkdir(parents=True)

    record = evaluate_file(tmp_path / "CT_block.npz", Scripted(write), tmp_path)
    assert [one.output for one in record.interactions] == ["none"] * 5
    assert [(one.name, one.read_bytes()) for one in victims.iterdir()] == [
        ("CT_block.npz", b"mine")
    ]


@pytest.mark.parametrize("key", ["imgs", "gts", "spacing"])
def test_a_case_that_lacks_something_is_an_error(tmp_path: Path, key: str) -> None:
    block_case(tmp_path / "CT_block.npz")
    with np.load(tmp_path / "CT_block.npz") as file:
        arrays = {name: file[name] for name in file.files if name != key}
    np.savez_compressed(tmp_path / "CT_block.npz", **arrays)
    with pytest.raises(CaseError, match=f"CT_block.npz: key '{key}': found no such key"):
        evaluate_file(tmp_path / "CT_block.npz", Scripted(lambda output, run: None), tmp_path)


@pytest.mark.parametrize("key", ["imgs", "gts", "spacing", "boxes"])
def test_a_case_of_which_an_array_is_damaged_is_an_error(tmp_path: Path, key: str) -> None:
    path = tmp_path / "CT_block.npz"
    gts = np.zeros((5, 8, 9), np.uint8)
    arrays: dict[str, Any] = {"imgs": gts, "gts": gts, "spacing": np.ones(3)}
    np.savez(path, **arrays, boxes=object_array([None]))
    with zipfile.ZipFile(path) as archive:
        one = archive.getinfo(f"{key}.npy")
    # The last byte of the array: behind the local header, which numpy makes 20 bytes longer.
    damaged = bytearray(path.read_bytes())
    damaged[one.header_offset + 30 + len(one.filename) + 20 + one.file_size - 1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CaseError, match=f"CT_block.npz: key '{key}': found "):
        evaluate_file(path, Scripted(lambda output, run: None), tmp_path)


@pytest.mark.parametrize(
    ("key", "array"),
    [
        ("spacing", np.ones(2**14)),
        ("spacing", object_array(["\x1b[2J", 1, "2" * 1000])),
        ("boxes", np.zeros(2**20)),
    ],
    ids=["spacing", "text", "boxes"],
)
def test_what_is_far_too_large_or_no_number_is_told_in_a_short_line(
    tmp_path: Path, key: str, array: npt.NDArray[Any]
) -> None:
    path = tmp_path / "CT_block.npz"
    gts = np.zeros((5, 8, 9), np.uint8)
    arrays: dict[str, Any] = {"imgs": gts, "gts": gts, "spacing": np.ones(3), key: array}
    np.savez_compressed(path, **arrays)
    with pytest.raises(CaseError, match=f"CT_block.npz: key '{key}': found ") as caught:
        evaluate_file(path, Scripted(lambda output, run: None), tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
