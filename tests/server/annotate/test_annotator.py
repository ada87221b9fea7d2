"""What all tabs of the page share, over real sockets."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from gamt import Session
from gamt.annotation import recovery, saving
from gamt.annotation.document import Document
from gamt.io.image import read_image, write_image
from gamt.prompts import SlicePrompt
from gamt.server.engine import Workspace
from tests.doubles import DEFAULTS, Mask, Thresholder, block, picture
from tests.server.annotate.annotating import (
    BODY,
    SECONDS,
    SHAPE,
    SPACING_MM,
    Page,
    annotating,
    parse_change,
    write_scan,
)
from tests.server.test_engine import Gated
from tests.server.test_turns import wait_until

OTHER = block(SHAPE, slice(0, 1), slice(0, 2), slice(17, 20))
POINT_IN_OTHER: dict[str, Any] = {"kind": "point", "voxel": [1, 13, 0]}  # (z, y, x) = (0, 0, 18)


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with annotating(write_scan(tmp_path)) as url:
        yield url


def open_page(url: str) -> Page:
    page = Page(url)
    wait_until(lambda: page.state()["scan"] is not None)
    return page


@pytest.fixture
def page(url: str) -> Iterator[Page]:
    with open_page(url) as page:
        yield page


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[Page, Gated]]:
    """A page whose segmenter can be stopped, of a scan with two bodies."""
    path = tmp_path / "two.nii.gz"
    write_image(path, picture(BODY | OTHER), spacing_mm=SPACING_MM)
    segmenter = Gated()
    with annotating(path, segmenter=segmenter) as url, open_page(url) as page:
        yield page, segmenter
        segmenter.through.set()


@pytest.fixture
def submitted(gated: tuple[Page, Gated], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Gets whatever is submitted to the thread that predicts."""
    submit, found = Workspace._submit, list[object]()

    def note(*arguments: Any) -> Any:
        found.append(arguments)
        return submit(*arguments)

    monkeypatch.setattr(Workspace, "_submit", note)
    return found


def reach(segmenter: Gated) -> None:
    assert segmenter.reached.wait(SECONDS)


# --- prompts ------------------------------------------------------------------------------------


def test_a_box_answers_with_the_part_that_changed(page: Page) -> None:
    change = page.box()
    assert (change.low, change.high) == ([5, 3, 2], [16, 11, 7])
    np.testing.assert_array_equal(page.array, BODY)
    (target,) = change.state["targets"]
    assert target["voxels"] == BODY.sum()
    assert target["volume_ml"] == pytest.approx(BODY.sum() * 3.0 * 1.0 * 0.5 / 1000)
    assert [one["kind"] for one in target["prompts"]] == ["box"]
    assert change.state["unsaved"]
    assert change.state["last"]["kind"] == "box"
    assert set(change.state["last"]["planes"]) == {"axial", "coronal", "sagittal"}


def test_prompts_of_all_kinds_give_what_a_session_gives(page: Page) -> None:
    page.box()
    page.prompt(kind="point", voxel=[9, 8, 3], positive=False)
    page.prompt(
        kind="scribble",
        plane="axial",
        index=3,
        points=[[12.0, 4.0], [14.0, 4.0]],
        radius=0.5,
        positive=False,
    )
    page.prompt(
        kind="lasso",
        plane="coronal",
        index=4,
        points=[[4.5, 1.5], [8.5, 1.5], [8.5, 4.5], [4.5, 4.5]],
        radius=0,
        positive=False,
    )
    session = Session(Thresholder(), DEFAULTS)
    session.set_image(picture(BODY)[None], {"spacing": SPACING_MM})
    buffer = np.zeros(SHAPE, np.uint8)
    session.set_target_buffer(buffer)
    session.add_bbox_interaction([[2, 7], [3, 11], [4, 15]], True)
    session.add_point_interaction([3, 5, 10], False)  # y = 13 - 8, x = 19 - 9
    line = np.ones((1, 1, 3), np.uint8)
    session.add_scribble_interaction(line, False, interaction_bbox=[[3, 4], [9, 10], [5, 8]])
    area = np.ones((3, 1, 4), np.uint8)
    session.add_lasso_interaction(area, False, interaction_bbox=[[2, 5], [9, 10], [11, 15]])
    np.testing.assert_array_equal(page.array, buffer)
    assert 0 < buffer.sum() < BODY.sum()


def test_each_answer_raises_the_revision_by_one(page: Page) -> None:
    before = page.state()["revision"]
    revisions = [page.box().state["revision"], page.change("undo", {"target": 1}).state["revision"]]
    assert revisions == [before + 1, before + 2]


def test_steps_go_back_and_forth(page: Page) -> None:
    page.box()
    page.change("undo", {"target": 1})
    assert not page.array.any()
    page.change("redo", {"target": 1})
    np.testing.assert_array_equal(page.array, BODY)
    page.change("reset", {"target": 1})
    assert not page.array.any()
    change = page.change("undo", {"target": 1})
    np.testing.assert_array_equal(page.array, BODY)
    assert change.state["targets"][0]["can_redo"]


def test_a_prompt_that_is_removed_was_never_given(page: Page) -> None:
    page.box()
    change = page.prompt(kind="point", voxel=[9, 8, 3], positive=False)
    number = change.state["targets"][0]["prompts"][1]["id"]
    page.show(page.http.delete(f"api/prompts/{number}", params={"target": 1}))
    np.testing.assert_array_equal(page.array, BODY)
    number = change.state["targets"][0]["prompts"][0]["id"]
    change = page.show(page.http.delete(f"api/prompts/{number}", params={"target": 1}))
    assert not page.array.any()
    assert change.state["targets"][0]["prompts"] == []


def test_two_tabs_show_the_same(url: str, page: Page) -> None:
    with open_page(url) as other:
        page.box()
        other.show(other.get("labels"))
        np.testing.assert_array_equal(other.labels, page.labels)
        assert other.state() == page.state()


# --- predictions that aren't wanted any more ----------------------------------------------------


def test_a_prompt_supersedes_the_prediction_that_runs_and_nothing_of_either_is_lost(
    gated: tuple[Page, Gated], submitted: list[object]
) -> None:
    page, segmenter = gated
    segmenter.stops = True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(page.box)
        reach(segmenter)
        second = threads.submit(page.prompt, **POINT_IN_OTHER)
        wait_until(lambda: len(submitted) == 2)
        segmenter.through.set()
        assert first.result().labels is None
        state = second.result().state
    assert [one["kind"] for one in state["targets"][0]["prompts"]] == ["box", "point"]
    np.testing.assert_array_equal(page.array, BODY | OTHER)


def test_a_prompt_for_another_target_waits_for_the_prediction_that_runs(
    gated: tuple[Page, Gated],
) -> None:
    page, segmenter = gated
    page.post("targets")
    segmenter.stops = True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(page.box)
        reach(segmenter)
        second = threads.submit(page.prompt, 2, **POINT_IN_OTHER)
        segmenter.through.set()
        assert first.result().labels is not None
        second.result()
    np.testing.assert_array_equal(page.array, BODY + 2 * OTHER)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "prompts/77?target=1", 404),
        ("POST", "mask?name=junk.nii.gz", 400),
        ("POST", "scale", 400),
    ],
)
def test_what_is_refused_does_not_end_the_prediction_that_runs(
    method: str, path: str, status: int, gated: tuple[Page, Gated], submitted: list[object]
) -> None:
    page, segmenter = gated
    segmenter.stops = True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(page.box)
        reach(segmenter)
        content = b'{"target": 1, "scale": "large"}'
        second = threads.submit(page.http.request, method, f"api/{path}", content=content)
        wait_until(lambda: len(submitted) == 2)
        segmenter.through.set()
        first.result()
        assert second.result().status_code == status
    page.show(page.get("labels"))
    np.testing.assert_array_equal(page.array, BODY)


def test_an_image_that_can_not_be_opened_is_not_in_the_way_of_a_prediction(
    gated: tuple[Page, Gated],
) -> None:
    page, segmenter = gated
    segmenter.stops = True
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(page.box)
        reach(segmenter)
        assert page.http.post("api/images?name=x.nii.gz", content=b"junk").status_code == 400
        assert page.state()["busy"]["kind"] == "box"
        cancelling = threads.submit(page.post, "cancel")
        _let_through_soon(segmenter)
        assert cancelling.result().json()["targets"][0]["prompts"] == []
        assert running.result().labels is None


def test_a_cancelled_prediction_leaves_no_prompt(gated: tuple[Page, Gated]) -> None:
    page, segmenter = gated
    segmenter.stops = True
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(page.box)
        reach(segmenter)
        assert page.state()["busy"]["kind"] == "box"
        cancelling = threads.submit(page.post, "cancel")
        _let_through_soon(segmenter)
        state = cancelling.result().raise_for_status().json()
        assert running.result().labels is None
    assert state["targets"][0]["prompts"] == []
    assert page.state()["busy"] is None
    page.box()
    np.testing.assert_array_equal(page.array, BODY)


def _let_through_soon(segmenter: Gated) -> None:
    threading.Timer(0.3, segmenter.through.set).start()


def test_cancelling_nothing_changes_nothing(page: Page) -> None:
    before = page.state()
    assert page.post("cancel").raise_for_status().json() == before


def test_a_prompt_whose_tab_is_closed_is_predicted_all_the_same(
    gated: tuple[Page, Gated],
) -> None:
    page, segmenter = gated
    segmenter.stops = True
    body = {"kind": "box", "low": [5, 3, 2], "high": [16, 11, 7], "positive": True, "target": 1}
    with pytest.raises(httpx.ReadTimeout):
        page.http.post("api/prompts", json=body, timeout=0.5)
    reach(segmenter)
    segmenter.through.set()
    wait_until(lambda: page.state()["busy"] is None)
    page.show(page.get("labels"))
    np.testing.assert_array_equal(page.array, BODY)


def test_names_and_colours_change_while_a_prediction_runs(gated: tuple[Page, Gated]) -> None:
    page, segmenter = gated
    segmenter.stops = True
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(page.box)
        reach(segmenter)
        changed = page.http.patch("api/targets/1", json={"name": "liver", "visible": False})
        (target,) = changed.raise_for_status().json()["targets"]
        assert (target["name"], target["visible"]) == ("liver", False)
        segmenter.through.set()
        assert running.result().state["targets"][0]["name"] == "liver"


# --- targets ------------------------------------------------------------------------------------


def test_targets_come_and_go(page: Page) -> None:
    page.box()
    state = page.post("targets", {"name": "tumour", "color": "#123456"}).json()
    assert [(one["id"], one["name"]) for one in state["targets"]][1] == (2, "tumour")
    assert state["target"] == 2
    assert page.post("target", {"target": 1}).json()["target"] == 1
    change = page.show(page.http.delete("api/targets/1"))
    assert not page.array.any()
    assert [one["id"] for one in change.state["targets"]] == [2]


def test_a_locked_target_takes_no_prompt(page: Page) -> None:
    page.box()
    page.http.patch("api/targets/1", json={"locked": True}).raise_for_status()
    refused = page.post("prompts", {"positive": True, "target": 1, **POINT_IN_OTHER})
    assert refused.status_code == 400
    assert "locked" in refused.json()["detail"]
    page.show(page.get("labels"))
    np.testing.assert_array_equal(page.array, BODY)


# --- what is looked at --------------------------------------------------------------------------


def test_the_explanation_is_a_page_without_scripts(page: Page) -> None:
    page.box()
    answer = page.get("explanation?target=1")
    assert "Target 1" in answer.text
    assert "<script" not in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_where_views_agree_there_is_no_disagreement(page: Page) -> None:
    page.box()
    change = parse_change(page.get("disagreement?target=1").content)
    assert (change.low, change.high, change.labels) == (None, None, None)


class CoronalDoubter(Thresholder):
    """A thresholder that sees nothing in the first six columns of coronal slices.

    On a grid of 0.5 mm, axial slices have 14 * 1.0 / 0.5 = 28 rows and coronal ones more; both have
    20 columns.
    """

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        found = super().segment(image, prompt)
        if image.shape[0] > 28 and image.shape[1] == SHAPE[2]:
            found[:, :6] = False
        return found


def test_where_one_view_sees_nothing_the_page_gets_that_it_disagrees(tmp_path: Path) -> None:
    path = write_scan(tmp_path)
    with annotating(path, segmenter=CoronalDoubter()) as url, open_page(url) as page:
        page.box()
        change = parse_change(page.get("disagreement?target=1").content)
    assert change.low is not None
    assert change.high is not None
    assert change.labels is not None
    amount = np.zeros(SHAPE, np.uint8)  # (k, j, i)
    amount[tuple(slice(a, b) for a, b in zip(change.low, change.high, strict=True))[::-1]] = (
        change.labels
    )
    body = BODY[:, ::-1, ::-1]
    # The coronal view looked at x = 5, beside what it saw: i = 19 - 5. It agrees from x = 6 on.
    assert (amount[:, :, 14][body[:, :, 14]] > 250).all()
    assert not amount[:, :, :14].any()


# --- files --------------------------------------------------------------------------------------


def test_saving_writes_beside_the_scan_and_asks_before_it_replaces(
    page: Page, tmp_path: Path
) -> None:
    page.box()
    saved = page.post("save", {"format": "nifti", "overwrite": False}).raise_for_status().json()
    path = tmp_path / "scan_seg.nii.gz"
    assert saved["files"][0] == str(path)
    scan = page.state()["scan"]
    assert Path(scan["output"], scan["formats"][0]["file"]) == path
    np.testing.assert_array_equal(read_image(path).array, BODY)
    assert not saved["state"]["unsaved"]
    page.post("save", {"format": "nifti", "overwrite": False}).raise_for_status()  # its own
    path.with_name("scan_seg.npz").write_bytes(b"somebody's")
    refused = page.post("save", {"format": "npz", "overwrite": False})
    assert refused.status_code == 409
    assert path.with_name("scan_seg.npz").read_bytes() == b"somebody's"
    page.post("save", {"format": "npz", "overwrite": True}).raise_for_status()


def test_downloads_are_what_is_saved(page: Page, tmp_path: Path) -> None:
    page.box()
    answer = page.get("download?format=nifti")
    assert 'filename="scan_seg.nii.gz"' in answer.headers["content-disposition"]
    path = tmp_path / "downloaded.nii.gz"
    path.write_bytes(answer.content)
    np.testing.assert_array_equal(read_image(path).array, BODY)
    wait_until(lambda: not page.state()["unsaved"])


def test_a_download_that_the_page_gives_up_is_not_saved(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, folders = saving.save, []

    def save_much(document: Document, format_id: str, folder: Path, *rest: Any) -> list[Path]:
        files = save(document, format_id, folder, *rest)
        os.truncate(files[0], 2**26)  # more than is on its way at a time
        folders.append(folder)
        return files

    monkeypatch.setattr(saving, "save", save_much)
    page.box()
    with page.http.stream("GET", "api/download?format=nifti") as answer:
        assert answer.status_code == 200
    wait_until(lambda: not folders[0].exists())
    assert page.state()["unsaved"]


def test_what_was_saved_with_a_prompt_that_is_taken_back_is_not_what_there_is(
    gated: tuple[Page, Gated],
) -> None:
    page, segmenter = gated
    page.prompt(**POINT_IN_OTHER)
    segmenter.stops = True
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(page.box)
        reach(segmenter)
        saved = page.post("save", {"format": "nifti", "overwrite": False}).raise_for_status()
        assert not saved.json()["state"]["unsaved"]
        cancelling = threads.submit(page.post, "cancel")
        _let_through_soon(segmenter)
        cancelling.result().raise_for_status()
        running.result()
    assert [one["kind"] for one in page.state()["targets"][0]["prompts"]] == ["point"]
    assert page.state()["unsaved"]


def test_a_download_says_what_it_leaves_out_as_saving_does(page: Page) -> None:
    page.post("targets", {"name": "Größe"}).raise_for_status()
    page.box(target=2)
    page.prompt(2, kind="scribble", plane="axial", index=4, points=[[8, 6], [9, 7]], radius=1)
    saved = page.post("save", {"format": "npz", "overwrite": True}).raise_for_status().json()
    # A case of the challenge knows no scribbles, and target 2, alone in it, becomes 1.
    assert saved["note"].startswith("1 prompt is left out")
    assert "Größe: 1" in saved["note"]
    assert unquote(page.get("download?format=npz").headers["gamt-note"]) == saved["note"]
    assert "gamt-note" not in page.get("download?format=nifti").headers


def test_a_mask_becomes_targets_to_go_on_from(page: Page, tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    write_image(mask, BODY + 2 * OTHER.astype(np.uint8), spacing_mm=SPACING_MM)
    answer = page.http.post("api/mask?name=mask.nii.gz", content=mask.read_bytes())
    change = page.show(answer)
    np.testing.assert_array_equal(page.array, BODY + 2 * OTHER)
    kinds = [[one["kind"] for one in target["prompts"]] for target in change.state["targets"]]
    assert kinds == [["mask"], ["mask"]]


def test_a_mask_on_another_grid_is_refused_by_name(page: Page, tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    write_image(mask, BODY[:-1].astype(np.uint8), spacing_mm=SPACING_MM)
    answer = page.http.post("api/mask?name=other.nii.gz", content=mask.read_bytes())
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("other.nii.gz: ")
    assert "scan.nii.gz" in answer.json()["detail"]


# --- images -------------------------------------------------------------------------------------


def test_a_scan_that_is_sent_is_opened_and_downloaded_from(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "sent.nii.gz"
    write_image(path, picture(OTHER), spacing_mm=SPACING_MM)
    answer = page.http.post("api/images?name=sent.nii.gz", content=path.read_bytes())
    state = answer.raise_for_status().json()
    assert [(one["name"], one["is_open"]) for one in state["images"]] == [
        ("scan", False),
        ("sent", True),
    ]
    assert state["scan"]["output"] is None
    page.prompt(**POINT_IN_OTHER)
    refused = page.post("save", {"format": "nifti", "overwrite": False})
    assert refused.status_code == 400
    assert "download" in refused.json()["detail"]
    assert page.get("download?format=nifti").content


def test_a_file_that_is_no_image_is_refused_and_the_open_scan_stays(page: Page) -> None:
    page.box()
    before = page.state()
    answer = page.http.post("api/images?name=notes.nii.gz", content=b"not an image at all")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("notes.nii.gz: ")
    assert page.state() == before


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two scans, of which the second holds another body."""
    other = tmp_path / "two.nii.gz"
    write_image(other, picture(OTHER), spacing_mm=SPACING_MM)
    return write_scan(tmp_path, "one.nii.gz"), other


def test_work_is_as_it_was_when_its_image_is_opened_again(two: tuple[Path, Path]) -> None:
    with annotating(*two) as url, open_page(url) as page:
        page.box()
        other = page.post("images/2/open").raise_for_status().json()
        assert other["recovery"] is None
        assert other["targets"][0]["prompts"] == []
        state = page.post("images/1/open").raise_for_status().json()
        assert (state["recovery"], state["unsaved"]) == (None, True)
        assert [one["kind"] for one in state["targets"][0]["prompts"]] == ["box"]
        page.show(page.get("labels"))
        np.testing.assert_array_equal(page.array, BODY)
        page.prompt(kind="point", voxel=[9, 8, 3], positive=False)
        assert page.array[3, 5, 10] == 0


def test_what_was_downloaded_is_still_saved_when_its_image_is_opened_again(
    two: tuple[Path, Path],
) -> None:
    with annotating(*two) as url, open_page(url) as page:
        page.box()
        page.get("download?format=nifti")
        assert not page.state()["unsaved"]
        page.post("images/2/open").raise_for_status()
        state = page.post("images/1/open").raise_for_status().json()
        assert (state["recovery"], state["unsaved"]) == (None, False)
        page.show(page.get("labels"))
        np.testing.assert_array_equal(page.array, BODY)
    with annotating(*two) as url, open_page(url) as page:
        assert page.state()["recovery"] is None


def test_what_was_unsaved_of_a_scan_that_was_sent_is_offered_by_its_path_too(
    tmp_path: Path,
) -> None:
    path = write_scan(tmp_path)
    with annotating() as url, Page(url) as page:
        page.http.post("api/images?name=sent.nii.gz", content=path.read_bytes())
        page.box()
    with annotating(path) as url, open_page(url) as page:
        assert page.state()["recovery"]["prompts"] == 1


def test_the_sample_is_opened_once(tmp_path: Path) -> None:
    path = write_scan(tmp_path)
    with annotating(sample=lambda: read_image(path)) as url, Page(url) as page:
        state = page.state()
        assert (state["scan"], state["targets"], state["target"]) == (None, [], None)
        for _ in range(2):
            state = page.post("images/sample").raise_for_status().json()
            assert len(state["images"]) == 1
        page.box()
        np.testing.assert_array_equal(page.array, BODY)


# --- restarts -----------------------------------------------------------------------------------


def test_what_was_unsaved_when_the_server_ended_is_restored_and_corrected(
    tmp_path: Path,
) -> None:
    path = write_scan(tmp_path)
    kept: list[Path] = []
    with annotating(path, tell_kept=kept.append) as url, open_page(url) as page:
        page.box()
    assert [one.is_file() for one in kept] == [True]
    with annotating(path) as url, open_page(url) as page:
        assert page.state()["recovery"]["targets"] == 1
        page.change("recovery", {"restore": True})
        np.testing.assert_array_equal(page.array, BODY)
        page.prompt(kind="point", voxel=[9, 8, 3], positive=False)
        assert page.array[3, 5, 10] == 0


def test_what_is_discarded_is_not_offered_again(tmp_path: Path) -> None:
    path = write_scan(tmp_path)
    with annotating(path) as url, open_page(url) as page:
        page.box()
    with annotating(path) as url, open_page(url) as page:
        assert page.change("recovery", {"restore": False}).state["recovery"] is None
    with annotating(path) as url, open_page(url) as page:
        assert page.state()["recovery"] is None


def test_looking_at_a_scan_leaves_what_an_earlier_run_kept(tmp_path: Path) -> None:
    path = write_scan(tmp_path)
    with annotating(path) as url, open_page(url) as page:
        page.box()
    for _ in range(2):
        with annotating(path) as url, open_page(url) as page:
            assert page.state()["recovery"]["prompts"] == 1
            page.post("targets")


def test_what_is_not_taken_up_is_offered_until_it_is_answered(tmp_path: Path) -> None:
    path = write_scan(tmp_path)
    for count in (3, 1, 2):  # prompts of three runs, none of which takes up what is offered
        with annotating(path) as url, open_page(url) as page:
            for k in range(count):
                page.prompt(kind="point", voxel=[9, 8, 2 + k])
    with annotating(path) as url, open_page(url) as page:
        assert page.state()["recovery"]["prompts"] == 2
        assert page.change("recovery", {"restore": False}).state["recovery"]["prompts"] == 1
        assert page.change("recovery", {"restore": False}).state["recovery"]["prompts"] == 3
        change = page.change("recovery", {"restore": True})
        assert change.state["recovery"] is None
        assert len(change.state["targets"][0]["prompts"]) == 3
    with annotating(path) as url, open_page(url) as page:
        assert page.change("recovery", {"restore": False}).state["recovery"] is None
    assert list(recovery.recovery_folder().iterdir()) == []


def test_new_work_that_makes_way_for_what_is_restored_is_offered_next(tmp_path: Path) -> None:
    path = write_scan(tmp_path)
    with annotating(path) as url, open_page(url) as page:
        page.box()
    with annotating(path) as url, open_page(url) as page:
        page.prompt(kind="point", voxel=[9, 8, 3])
        page.post("targets", {"name": "new"})
        page.prompt(2, **POINT_IN_OTHER)
        state = page.change("recovery", {"restore": True}).state
        assert [one["kind"] for one in state["targets"][0]["prompts"]] == ["box"]
        assert (state["recovery"]["targets"], state["recovery"]["prompts"]) == (2, 2)
        state = page.change("recovery", {"restore": True}).state
        assert [one["name"] for one in state["targets"]][1:] == ["new"]


def test_an_earlier_segmentation_is_no_unsaved_work(tmp_path: Path) -> None:
    path, mask = write_scan(tmp_path), tmp_path / "earlier.nii.gz"
    write_image(mask, BODY.astype(np.uint8), spacing_mm=SPACING_MM)
    with annotating(path) as url, open_page(url) as page:
        page.prompt(kind="point", voxel=[9, 8, 3])
    with annotating(path, previous=mask) as url, open_page(url) as page:
        wait_until(lambda: bool(page.state()["targets"][0]["prompts"]))
        assert not page.state()["unsaved"]
    with annotating(path) as url, open_page(url) as page:
        state = page.change("recovery", {"restore": True}).state
        assert [one["kind"] for one in state["targets"][0]["prompts"]] == ["point"]
        assert state["recovery"] is None


def test_two_runs_on_a_scan_keep_what_is_unsaved_each_for_itself(tmp_path: Path) -> None:
    path = write_scan(tmp_path)
    kept: list[Path] = []
    with annotating(path, tell_kept=kept.append) as url, open_page(url) as page:
        page.box()
        wait_until(lambda: any(recovery.recovery_folder().glob("*.npz")))
        with annotating(path, tell_kept=kept.append) as second, open_page(second) as other:
            state = other.state()
            assert state["recovery"] is None
            assert "Another run" in state["targets"][0]["note"]
            other.prompt(kind="point", voxel=[9, 8, 3])
        page.prompt(kind="point", voxel=[9, 8, 3], positive=False)
    assert len(set(kept)) == 2
    assert all(one.is_file() for one in kept)
    with annotating(path) as url, open_page(url) as page:
        state = page.state()
        assert (state["recovery"]["prompts"], state["targets"][0]["note"]) == (2, None)
        assert page.change("recovery", {"restore": False}).state["recovery"]["prompts"] == 1


def test_a_recovery_file_that_is_removed_is_written_again_at_the_end(tmp_path: Path) -> None:
    kept: list[Path] = []
    with annotating(write_scan(tmp_path), tell_kept=kept.append) as url, open_page(url) as page:
        page.box()
        wait_until(lambda: any(recovery.recovery_folder().glob("*.npz")))
        next(recovery.recovery_folder().glob("*.npz")).unlink()
    assert [one.is_file() for one in kept] == [True]


def test_saved_work_is_not_offered_in_the_same_run_and_saved_over_without_asking(
    tmp_path: Path,
) -> None:
    paths = write_scan(tmp_path, "one.nii.gz"), write_scan(tmp_path, "two.nii.gz")
    with annotating(*paths) as url, open_page(url) as page:
        page.box()
        wait_until(lambda: any(recovery.recovery_folder().glob("*.npz")))
        page.post("save", {"format": "nifti", "overwrite": False}).raise_for_status()
        page.post("images/2/open").raise_for_status()
        state = page.post("images/1/open").raise_for_status().json()
        assert state["recovery"] is None
        page.box()
        page.post("save", {"format": "nifti", "overwrite": False}).raise_for_status()


def test_a_series_that_is_sent_again_is_kept_like_the_first_time(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    write_image(folder / "pair.mhd", picture(BODY), spacing_mm=SPACING_MM)
    files = [("files", (one.name, one.read_bytes())) for one in sorted(folder.iterdir())]
    with annotating() as url, Page(url) as page:
        for _ in range(2):
            page.http.post("api/images?name=pair.mhd", files=files).raise_for_status()
            page.box()
            page.post("images/1/open").raise_for_status()  # and so the other one is kept
    (kept,) = recovery.kept_scans()
    assert sorted(one.name for one in kept.iterdir()) == sorted(name for _, (name, _) in files)


def test_saved_work_is_not_offered_again(tmp_path: Path) -> None:
    path = write_scan(tmp_path)
    kept: list[Path] = []
    with annotating(path, tell_kept=kept.append) as url, open_page(url) as page:
        page.box()
        wait_until(lambda: any(recovery.recovery_folder().glob("*.npz")))
        page.post("save", {"format": "nifti", "overwrite": False}).raise_for_status()
    assert kept == []
    with annotating(path) as url, open_page(url) as page:
        assert page.state()["recovery"] is None


def test_a_scan_that_was_sent_is_still_there_after_a_restart(tmp_path: Path) -> None:
    path = write_scan(tmp_path, "sent.nii.gz")
    with annotating() as url, Page(url) as page:
        page.http.post("api/images?name=sent.nii.gz", content=path.read_bytes())
        page.box()
    with annotating() as url, Page(url) as page:
        (entry,) = page.state()["images"]
        assert entry["name"] == "sent"
        state = page.post(f"images/{entry['id']}/open").raise_for_status().json()
        assert state["recovery"]["prompts"] == 1
        page.change("recovery", {"restore": True})
        np.testing.assert_array_equal(page.array, BODY)
        page.get("download?format=nifti")
    with annotating() as url, Page(url) as page:
        assert page.state()["images"] == []


def test_an_image_of_two_files_is_still_there_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    write_image(folder / "pair.mhd", picture(BODY), spacing_mm=SPACING_MM)
    files = [("files", (one.name, one.read_bytes())) for one in sorted(folder.iterdir())]
    with annotating() as url, Page(url) as page:
        page.http.post("api/images?name=pair.mhd", files=files).raise_for_status()
        page.box()
    with annotating() as url, Page(url) as page:
        state = page.post("images/1/open").raise_for_status().json()
        assert state["recovery"]["prompts"] == 1


def test_the_server_ends_while_it_predicts_and_keeps_the_prompt(tmp_path: Path) -> None:
    path = write_scan(tmp_path)
    segmenter = Gated()
    with ThreadPoolExecutor(1) as threads:
        with annotating(path, segmenter=segmenter) as url, open_page(url) as page:
            segmenter.stops = True
            running = threads.submit(page.box)
            reach(segmenter)
            _let_through_soon(segmenter)
        running.exception(SECONDS)
    with annotating(path) as url, open_page(url) as page:
        assert page.state()["recovery"]["prompts"] == 1
        page.change("recovery", {"restore": True})
        np.testing.assert_array_equal(page.array, BODY)


def test_where_unsaved_work_can_not_be_kept_the_target_says_so(page: Page) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "write_recovery", Failing(OSError(28, "No space left on device")))
        page.box()
        wait_until(lambda: "No space left" in (page.state()["targets"][0]["note"] or ""))
    page.prompt(kind="point", voxel=[9, 8, 3])
    wait_until(lambda: page.state()["targets"][0]["note"] is None)


def test_after_any_failure_the_next_change_is_kept_again(page: Page) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "write_recovery", Failing(MemoryError("no memory")))
        page.box()
        wait_until(lambda: "no memory" in (page.state()["targets"][0]["note"] or ""))
    page.prompt(kind="point", voxel=[9, 8, 3])
    wait_until(lambda: any(recovery.recovery_folder().glob("*.npz")))
    wait_until(lambda: page.state()["targets"][0]["note"] is None)


def test_a_scan_whose_unsaved_work_can_not_be_kept_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_scan(tmp_path, "one.nii.gz"), write_scan(tmp_path, "two.nii.gz")
    kept: list[Path] = []
    monkeypatch.setattr(recovery, "write_recovery", Failing(OSError(28, "No space left")))
    with annotating(*paths, tell_kept=kept.append) as url, open_page(url) as page:
        page.box()
        refused = page.post("images/2/open")
        assert (refused.status_code, "No space left" in refused.text) == (400, True)
        assert page.state()["images"][0]["is_open"]
        page.prompt(kind="point", voxel=[9, 8, 3], positive=False)  # and goes on
        assert page.array[3, 5, 10] == 0
    assert kept == []  # no file is named that isn't there
    with annotating(*paths) as url, open_page(url) as page:
        page.box()
        page.post("save", {"format": "nifti", "overwrite": False}).raise_for_status()
        page.post("images/2/open").raise_for_status()


class Failing:
    """Fails whenever it is called."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *_: object) -> None:
        raise self.error


def test_a_first_mask_is_loaded_with_the_scan(tmp_path: Path) -> None:
    path, mask = write_scan(tmp_path), tmp_path / "earlier.nii.gz"
    write_image(mask, BODY.astype(np.uint8), spacing_mm=SPACING_MM)
    with annotating(path, previous=mask) as url, open_page(url) as page:
        wait_until(lambda: bool(page.state()["targets"][0]["prompts"]))
        page.show(page.get("labels"))
        np.testing.assert_array_equal(page.array, BODY)
