"""What all tabs of the page share, over real sockets."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.server.annotate.annotating import BODY, Page, annotating, write_scan
from tests.server.test_turns import wait_until


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with annotating(write_scan(tmp_path)) as url:
        yield url


@pytest.fixture
def page(url: str) -> Iterator[Page]:
    with Page(url) as page:
        wait_until(lambda: page.state()["scan"] is not None)
        yield page


def test_a_box_answers_with_the_part_that_changed(page: Page) -> None:
    change = page.box()
    assert (change.low, change.high) == ([5, 3, 2], [16, 11, 7])
    np.testing.assert_array_equal(page.array, BODY)
    (target,) = change.state["targets"]
    assert target["voxels"] == BODY.sum()
    assert [one["kind"] for one in target["prompts"]] == ["box"]
    assert change.state["unsaved"]
    assert change.state["last"]["kind"] == "box"
    assert set(change.state["last"]["planes"]) == {"axial", "coronal", "sagittal"}
