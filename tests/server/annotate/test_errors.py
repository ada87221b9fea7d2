"""What the page, and the log, are told of what went wrong."""

import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gamt.annotation.document import Document
from tests.server.annotate.annotating import Page, annotating, write_scan
from tests.server.test_turns import wait_until


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with annotating(write_scan(tmp_path)) as url, Page(url) as page:
        wait_until(lambda: page.state()["scan"] is not None)
        yield page


def fail_with(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Lets a method of the document fail."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Document, name, fail)


def test_a_prediction_that_fails_is_no_mistake_of_the_user(
    page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_with(monkeypatch, "predict", ValueError("operands could not be broadcast"))
    point = {"kind": "point", "voxel": [9, 8, 3], "positive": True, "target": 1}
    with caplog.at_level(logging.DEBUG, "gamt.server"):
        answer = page.post("prompts", point)
    assert answer.status_code == 500
    assert "broadcast" not in answer.json()["detail"]
    assert any(one.levelno == logging.ERROR for one in caplog.records)
    assert "operands could not be broadcast" in caplog.text  # of the traceback
    assert page.state()["targets"][0]["prompts"] == []


@pytest.mark.parametrize(
    ("error", "status", "is_told"),
    [
        (ValueError("the target is locked"), 400, True),
        (np.linalg.LinAlgError("Singular matrix"), 500, False),  # a ValueError, too
        (OSError(errno.ENOSPC, "No space left on device"), 507, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "scan_seg.nii.gz"), 507, True),
        (PermissionError(errno.EACCES, "Permission denied", "scan_seg.nii.gz"), 500, True),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 500, False),
    ],
)
def test_errors_are_told_by_their_kinds(
    page: Page,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    is_told: bool,
) -> None:
    fail_with(monkeypatch, "disagreement", error)
    with caplog.at_level(logging.WARNING, "gamt.server"):
        answer = page.http.get("api/disagreement?target=1")
    assert answer.status_code == status
    assert (str(error) in answer.json()["detail"]) == is_told
    assert bool(caplog.records) == (status != 400)
