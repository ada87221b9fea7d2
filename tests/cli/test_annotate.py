import contextlib
import gzip
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from gamt.cli import web
from gamt.segmenters.base import Embedding
from gamt.server.annotate import page
from tests.cli.calls import ROOT, Run, one_line
from tests.cli.scans import block, save_nifti, save_scan
from tests.test_predict import ThresholdSegmenter

SECONDS = 60.0
"""What it may take at most until it has printed its address, opened a scan, or ended."""

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/annotate/\?key=\S+")

LAUNCH = """
import sys
from pathlib import Path
from gamt.server.annotate import page
page.PAGE = Path(sys.argv[1])
from gamt.cli.app import main
main(sys.argv[2:])
"""
"""Runs the command line with another page than the built one, which tests need not have."""

LAUNCH_SLOWLY = f"""
import time
from gamt.io import image
image.read_image = lambda *_: time.sleep({10 * SECONDS})
{LAUNCH}"""
"""As `LAUNCH`, with scans that take for ever to be read."""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>A page</title>")
    return folder


class Annotating:
    """A running `gamt annotate`.

    Attributes:
        process: it.
        printed: up to its address, and how it ends.
        browser: that has been let in by the address.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.printed = ""
        assert process.stdout
        while "Ctrl-C" not in self.printed:
            line = process.stdout.readline()
            assert line, f"ended with {process.wait()}: {self.printed}"
            self.printed += line
        found = ADDRESS.search(self.printed)
        assert found
        self.url = found.group()
        self.browser = httpx.Client(
            base_url=self.url.partition("?")[0], follow_redirects=True, timeout=SECONDS
        )

    def open_scan(self) -> dict[str, object]:
        """Opens the page, waits until the scan is there, and returns the state."""
        self.browser.get(self.url)
        end = time.monotonic() + SECONDS
        while (state := self.browser.get("api/state").json())["scan"] is None:
            assert time.monotonic() < end, "waited for the scan in vain"
            time.sleep(0.05)
        return dict(state)

    def targets(self) -> list[dict[str, Any]]:
        """Returns the targets as they are now."""
        return list(self.browser.get("api/state").json()["targets"])

    def click(self) -> httpx.Response:
        """Places a point in the middle of the scan."""
        point = {"target": 1, "kind": "point", "voxel": [8, 8, 5], "positive": True}
        return self.browser.post("api/prompts", json=point)

    def give_up_click(self) -> None:
        """Places a point, and hears nothing of it."""
        with contextlib.suppress(httpx.HTTPError):
            self.click()

    def end(self) -> tuple[int, str]:
        """Waits for the end; returns the exit status and what was printed since."""
        printed, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, printed

    def stop(self) -> tuple[int, str]:
        """Ends it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.end()


@contextmanager
def annotating(
    built: Path,
    *arguments: str | Path,
    options: Sequence[str] = ("--no-browser",),
    launch: str = LAUNCH,
    **env: str,
) -> Iterator[Annotating]:
    process = subprocess.Popen(
        [sys.executable, "-c", launch, built, "annotate", *options, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"XDG_STATE_HOME": str(built.parent / "state")} | env,
    )
    with process:
        try:
            running = Annotating(process)
            with running.browser:
                yield running
        finally:
            process.kill()


@pytest.mark.slow
def test_the_address_that_it_prints_opens_the_page_and_nothing_else_does(
    built: Path, tmp_path: Path
) -> None:
    with annotating(built, save_scan(tmp_path)) as running:
        assert running.browser.get("api/state").status_code == 401
        assert running.browser.get("./", params={"key": "another"}).status_code == 401
        assert "A page" in running.browser.get(running.url).text
        assert running.open_scan()["images"] == [{"id": "1", "name": "scan", "is_open": True}]
        assert running.stop() == (0, "stopped\n")


@pytest.mark.slow
def test_without_an_image_it_offers_the_sample(built: Path) -> None:
    with annotating(built) as running:
        running.browser.get(running.url)
        assert running.browser.get("api/state").json()["scan"] is None
        state = running.browser.post("api/images/sample", json={}).json()
        assert state["scan"]["shape"] == [128, 96, 32]
        assert state["scan"]["range"][0] < -1000  # in HU
        assert running.stop()[0] == 0


@pytest.mark.slow
def test_what_is_unsaved_at_its_end_is_offered_at_the_next_start(
    built: Path, tmp_path: Path
) -> None:
    scan = save_scan(tmp_path)
    with annotating(built, scan) as running:
        running.open_scan()
        assert running.click().status_code == 200
        status, printed = running.stop()
    assert status == 0
    kept, stopped = printed.splitlines()
    assert kept.startswith("unsaved work is offered when the scan is opened again; it is in ")
    assert Path(kept.rpartition(" ")[2]).is_file()
    assert stopped == "stopped"
    with annotating(built, scan) as running:
        recovery = running.open_scan()["recovery"]
        assert isinstance(recovery, dict)
        assert (recovery["targets"], recovery["prompts"]) == (1, 1)


@pytest.mark.slow
def test_save_writes_to_the_folder_that_is_asked_for(built: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with annotating(built, save_scan(tmp_path), "-o", tmp_path / "results") as running:
        running.open_scan()
        running.click()
        answer = running.browser.post("api/save", json={"format": "nifti", "overwrite": False})
        assert answer.status_code == 200, answer.text
        assert running.stop() == (0, "stopped\n")  # and no word of unsaved work
    files = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert files == ["scan_seg.nii.gz", "scan_seg.prompts.json"]


class Stuck(ThresholdSegmenter):
    """Takes longer than anybody waits, and can't be cancelled meanwhile."""

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        print("stuck", flush=True)
        time.sleep(10 * SECONDS)
        return super().encode(slices)


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_what_can_not_be_cancelled(
    built: Path, tmp_path: Path
) -> None:
    segmenter = ("--no-browser", "--segmenter", "tests.cli.test_annotate:Stuck")
    with annotating(built, save_scan(tmp_path), options=segmenter) as running:
        running.open_scan()
        threading.Thread(target=running.give_up_click, daemon=True).start()
        assert running.process.stdout
        assert running.process.stdout.readline() == "stuck\n"
        running.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(1)
        assert running.stop()[0] == 128 + signal.SIGINT


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_the_scan_to_be_read(built: Path, tmp_path: Path) -> None:
    with annotating(built, save_scan(tmp_path), launch=LAUNCH_SLOWLY) as running:
        running.browser.get(running.url)
        assert running.browser.get("api/state").json()["busy"]["kind"] == "open"
        status, printed = running.stop()
    assert (status, printed.strip()) == (0, "stopped")


@pytest.mark.slow
def test_the_browser_is_opened_with_the_address(built: Path, tmp_path: Path) -> None:
    got, script = tmp_path / "got", tmp_path / "browser"
    script.write_text(f"#!/bin/sh\necho $1 > {shlex.quote(str(got))}\n")
    script.chmod(0o755)
    with annotating(built, options=(), BROWSER=f"{script} %s") as running:
        end = time.monotonic() + SECONDS
        while not (got.exists() and got.read_text()):
            assert time.monotonic() < end, "no browser was opened"
            time.sleep(0.05)
        assert got.read_text().strip() == running.url


@pytest.mark.slow
def test_a_scan_that_turns_out_to_be_broken_ends_it_in_one_line(
    built: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(3).integers(0, 1000, (40, 50, 60)).astype(np.int16)
    scan = save_nifti(tmp_path / "scan.nii.gz", noise)  # some 200 KB
    scan.write_bytes(scan.read_bytes()[:100_000])
    with annotating(built, scan) as running:
        status, printed = running.end()
    assert status == 1
    assert one_line(printed.splitlines(keepends=True)[-1])
    assert "scan.nii.gz" in printed


@pytest.mark.slow
def test_of_several_volumes_one_has_to_be_chosen(built: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    series = rng.integers(0, 200, (7, 8, 9, 2)).astype(np.uint8)
    scan = save_nifti(tmp_path / "series.nii.gz", series)
    with annotating(built, scan) as running:
        status, printed = running.end()
    assert status == 2
    assert "(--volume)" in printed.splitlines()[-1]
    with annotating(built, scan, "--volume", "1") as running:
        assert running.open_scan()["images"]


@pytest.mark.slow
def test_an_earlier_segmentation_is_gone_on_from_where_it_lies_on_the_scan(
    built: Path, tmp_path: Path
) -> None:
    scan = save_scan(tmp_path)
    labels = save_nifti(tmp_path / "labels.nii.gz", block(7))
    with annotating(built, scan, "--previous", labels) as running:
        running.open_scan()
        end = time.monotonic() + SECONDS
        while not (voxels := [one["voxels"] for one in running.targets() if one["voxels"]]):
            assert time.monotonic() < end, "waited for the segmentation in vain"
            time.sleep(0.05)
        assert voxels == [np.count_nonzero(block())]


def test_an_earlier_segmentation_of_another_scan_is_refused_before_there_is_an_address(
    run: Run, with_page: None, tmp_path: Path
) -> None:
    scan = save_scan(tmp_path)
    other = save_nifti(tmp_path / "other.nii.gz", block()[1:])
    status, printed = run("annotate", scan, "--previous", other)
    assert status == 1
    assert one_line(printed)
    nx, ny, nz = block().shape
    assert printed.startswith(
        "gamt: other.nii.gz: lies on another grid of voxels than scan.nii.gz: "
        f"found {nx - 1} x {ny} x {nz}, expected {nx} x {ny} x {nz}"
    )


@pytest.fixture
def with_page(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PAGE", built)


def test_a_port_that_is_taken_is_one_line(run: Run, with_page: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, error = run("annotate", "--port", str(port))
    assert status == 1
    assert one_line(error)
    assert error.startswith(f"gamt: port {port}: address already in use; choose another by --port")


def test_a_scan_that_is_missing_is_one_line(run: Run, with_page: None, tmp_path: Path) -> None:
    status, error = run("annotate", tmp_path / "none.nii.gz")
    assert status == 1
    assert one_line(error)
    assert "none.nii.gz" in error


def test_a_file_that_is_no_scan_is_one_line(run: Run, with_page: None, tmp_path: Path) -> None:
    text = tmp_path / "notes.nii.gz"
    text.write_bytes(gzip.compress(b"Remember the milk." * 40))
    status, error = run("annotate", text)
    assert status == 1
    assert one_line(error)
    assert "notes.nii.gz" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--output", "nowhere/"), "--output nowhere: expected a folder that exists"),
        (("--previous", "mask.nii.gz"), "--previous and --volume: expected an image"),
        (("--volume", "1"), "--previous and --volume: expected an image"),
        (("--segmenter", "nonesuch"), "nonesuch"),
        (("--window", "wide"), "found 'wide'"),
        (
            ("--propagation", "both"),
            "found 'both' with the segmenter statistical",
        ),
    ],
)
def test_what_can_not_be_meant_is_one_line(
    run: Run, with_page: None, options: tuple[str, ...], message: str
) -> None:
    status, error = run("annotate", *options)
    assert status == 2
    assert one_line(error)
    assert message in error


def test_without_the_page_it_names_the_command_that_builds_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path)
    status, error = run("annotate")
    assert status == 2
    assert one_line(error)
    assert error.startswith("gamt: gamt annotate needs its page: 'make page' in the clone")


def test_without_its_packages_it_says_how_to_get_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "find_spec", lambda name: None if name == "uvicorn" else object())
    status, error = run("annotate")
    assert (status, error) == (2, "gamt: gamt annotate needs uvicorn: pip install 'gamt[server]'\n")
