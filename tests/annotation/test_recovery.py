"""What was not saved is there at the next start, however the run before ended."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from gamt.annotation import recovery
from gamt.annotation.prompts import DrawnPrompt
from gamt.annotation.recovery import (
    claim,
    discard_scan,
    find_recoveries,
    is_at_work,
    keep_scan,
    kept_scans,
    recovery_path,
    restore,
    write_recovery,
)
from gamt.axes import Plane
from gamt.io.image import Image, read_image, write_image
from tests.annotation.scans import LIVER, LIVER_BOX, SPLEEN, SPLEEN_BOX, Annotation, make_image
from tests.doubles import picture


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps the user's own files out of it."""
    place = tmp_path / "state"
    monkeypatch.setattr(recovery, "recovery_folder", lambda: place)
    return place


def annotate(image: Image) -> Annotation:
    """Returns targets with prompts of every kind."""
    scan = Annotation.of(image)
    document = scan.document
    document.change_target(1, name="liver", color="#112233")
    scan.add(scan.point((5, 5, 5)))
    document.choose_scale(scan.session, 1, "tight")
    scan.add(scan.box([[3, 4], [2, 9], [2, 5]], positive=False))
    corners = ((12.4, 7.6), (16.4, 7.6), (16.4, 11.4), (12.4, 11.4))
    scan.add(DrawnPrompt("scribble", Plane.AXIAL, 5, corners, 0.4, positive=True))
    spleen = document.add_target("spleen")
    scan.add(scan.box(SPLEEN_BOX), spleen)
    scan.add(scan.point((3, 10, 12), positive=False), spleen)
    write_image(image.path.with_name("earlier.nii.gz"), SPLEEN, like=image)
    document.load_mask(scan.session, image.path.with_name("earlier.nii.gz"), "earlier.nii.gz")
    empty = document.add_target()
    document.change_target(empty, visible=False)
    document.change_target(spleen, locked=True)
    document.choose_target(1)
    return scan


def reopen(scan: Annotation) -> Annotation:
    """Returns another run on the same scan, with what the first one left."""
    path = recovery_path(scan.document.image)
    write_recovery(path, scan.document)
    again = Annotation.of(read_image(scan.document.image.path))
    restore(path, again.document, again.session)
    return again


def test_targets_come_back_with_masks_prompts_and_names(tmp_path: Path) -> None:
    scan = annotate(make_image(tmp_path))
    again = reopen(scan)
    np.testing.assert_array_equal(again.document.labels, scan.document.labels)
    assert again.document.current == scan.document.current
    for told, expected in zip(again.document.describe(), scan.document.describe(), strict=True):
        assert told == {
            **expected,
            "can_undo": False,
            "can_redo": False,
            "scales": [],
            "scale": None,
        }
    assert again.document.is_unsaved


@pytest.mark.parametrize("kind", ["point", "box"])
@pytest.mark.parametrize("target", [1, 3])
def test_the_next_prompt_goes_on_as_if_nothing_had_happened(
    kind: str, target: int, tmp_path: Path
) -> None:
    scan = annotate(make_image(tmp_path))
    again = reopen(scan)
    for one in (scan, again):
        point = one.point((4, 12, 14), positive=target == 1)
        one.add(point if kind == "point" else one.box(LIVER_BOX), target)
    np.testing.assert_array_equal(again.document.labels, scan.document.labels)
    assert again.told(target)["prompts"] == scan.told(target)["prompts"]


def test_a_prompt_that_came_back_can_be_removed(tmp_path: Path) -> None:
    scan = annotate(make_image(tmp_path))
    again = reopen(scan)
    first = scan.told(1)["prompts"][0]["id"]
    for one in (scan, again):
        one.remove(first)
    np.testing.assert_array_equal(again.document.labels, scan.document.labels)


def test_what_waited_for_its_prediction_still_does(tmp_path: Path) -> None:
    scan = Annotation.of(make_image(tmp_path))
    scan.document.begin(scan.session, 1, scan.box(LIVER_BOX))
    again = reopen(scan)
    assert again.document.target(1).step.waiting
    assert again.document.begin_waiting(again.session, 1)
    again.document.predict(again.session)
    again.document.finish(0.1)
    np.testing.assert_array_equal(again.mask(), LIVER)


def test_what_is_found_is_told_before_it_is_restored(tmp_path: Path) -> None:
    scan = annotate(make_image(tmp_path))
    path = recovery_path(scan.document.image)
    assert find_recoveries(path, scan.document) == []
    write_recovery(path, scan.document)
    (found,) = find_recoveries(path, Annotation.of(scan.document.image).document)
    # Three prompts of the liver, two of the spleen, and a mask.
    assert (found.path, found.targets, found.prompts) == (path, 3, 6)
    assert found.saved_at.endswith("+00:00")


def test_no_run_is_given_a_file_that_is_there_or_that_another_one_has(tmp_path: Path) -> None:
    scan = annotate(make_image(tmp_path))
    first = recovery_path(scan.document.image)
    one, other = claim(first), claim(first)
    assert one.path == first
    assert other.path != first
    for each in (one, other):
        write_recovery(each.path, scan.document)
    assert is_at_work(first)
    assert find_recoveries(first, scan.document) == []
    one.release()
    assert [each.path for each in find_recoveries(first, scan.document)] == [first]
    other.release()
    assert not is_at_work(first)
    third = claim(first)
    assert third.path not in (one.path, other.path)
    third.release()
    found = {each.path for each in find_recoveries(first, scan.document)}
    assert found == {one.path, other.path}
    assert set(first.parent.iterdir()) == found


def test_what_was_written_last_is_offered_first(tmp_path: Path) -> None:
    scan = annotate(make_image(tmp_path))
    first = recovery_path(scan.document.image)
    paths = []
    for seconds in (20, 30, 10):
        run = claim(first)
        write_recovery(run.path, scan.document)
        os.utime(run.path, (seconds, seconds))
        run.release()
        paths.append(run.path)
    found = [each.path for each in find_recoveries(first, scan.document)]
    assert found == [paths[1], paths[0], paths[2]]


def test_every_scan_has_a_file_of_its_own_wherever_it_lies(tmp_path: Path) -> None:
    first = make_image(tmp_path, name="first.nii.gz")
    (tmp_path / "upload").mkdir()
    copy = make_image(tmp_path / "upload", name="copy.nii.gz")
    assert recovery_path(copy) == recovery_path(first)
    changed = picture(LIVER | SPLEEN)
    changed[0, 0, 0] = 9
    other = make_image(tmp_path / "upload", changed, name="first.nii.gz")
    assert recovery_path(other) != recovery_path(first)
    tilted = make_image(tmp_path / "upload", tilt=0.1, name="first.nii.gz")
    assert recovery_path(tilted) != recovery_path(first)


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_broken_file_is_set_aside_and_told(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan = annotate(make_image(tmp_path))
    path = recovery_path(scan.document.image)
    write_recovery(path, scan.document)
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING, "gamt"):
        assert find_recoveries(path, scan.document) == []
    assert "what an earlier run left can't be read" in caplog.text
    assert not path.exists()
    assert path.with_name(f"{path.name}.broken").read_bytes() == before


def test_what_is_about_another_scan_is_set_aside(tmp_path: Path) -> None:
    scan = annotate(make_image(tmp_path))
    path = recovery_path(scan.document.image)
    write_recovery(path, scan.document)
    (tmp_path / "other").mkdir()
    other = Annotation.of(make_image(tmp_path / "other", tilt=0.2))
    with pytest.raises(ValueError, match="about another scan"):
        restore(path, other.document, other.session)
    assert [one["prompts"] for one in other.document.describe()] == [[]]
    assert find_recoveries(path, other.document) == []
    assert not path.exists()


def test_bytes_that_are_changed_are_told_and_never_a_traceback(tmp_path: Path) -> None:
    scan = annotate(make_image(tmp_path))
    path = recovery_path(scan.document.image)
    write_recovery(path, scan.document)
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    for _ in range(40):
        broken = bytearray(whole)
        for place in generator.integers(0, len(whole), 5):
            broken[place] ^= int(generator.integers(1, 256))
        path.write_bytes(bytes(broken))
        find_recoveries(path, scan.document)
    path.write_bytes(whole)
    assert len(find_recoveries(path, scan.document)) == 1


def test_an_upload_is_kept_until_it_is_discarded(tmp_path: Path) -> None:
    (tmp_path / "upload").mkdir()
    image = make_image(tmp_path / "upload")
    scan = annotate(image)
    path = recovery_path(image)
    kept = keep_scan(path, image.path)
    assert (kept.name, image.path.exists()) == ("scan.nii.gz", False)
    assert kept_scans() == []  # there is nothing of it that could be lost
    write_recovery(path, scan.document)
    assert kept_scans() == [kept]
    again = read_image(kept)
    assert recovery_path(again) == path
    discard_scan(path)
    assert kept_scans() == [kept]
    path.unlink()
    discard_scan(path)
    assert kept_scans() == []
    assert not kept.exists()


def test_a_series_that_is_uploaded_again_is_kept_once(tmp_path: Path) -> None:
    first = recovery_path(make_image(tmp_path))
    for number in range(3):
        upload = tmp_path / str(number) / "series"
        upload.mkdir(parents=True)
        (upload / "slice.dcm").touch()
        kept = keep_scan(first, upload)
    assert [one.name for one in kept.iterdir()] == ["slice.dcm"]


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_the_last_or_the_one_before(tmp_path: Path) -> None:
    scan = annotate(make_image(tmp_path))
    path = recovery_path(scan.document.image)
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from gamt.annotation.document import Document
        from gamt.annotation.recovery import write_recovery
        from gamt.io.image import read_image
        document = Document(read_image(sys.argv[1]))
        document.add_target("one")
        print("ready", flush=True)
        while True:
            write_recovery(Path(sys.argv[2]), document)
        """
    )
    write_recovery(path, scan.document)
    for pause in (0.0, 0.003, 0.011):
        command = [sys.executable, "-c", program, str(scan.document.image.path), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(pause)
            process.send_signal(signal.SIGKILL)
        again = Annotation.of(scan.document.image)
        restore(path, again.document, again.session)
        assert path.exists()
