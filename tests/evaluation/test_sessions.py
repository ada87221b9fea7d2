"""Sessions with nnInteractive's interface as methods: what they are given, and what goes wrong."""

import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.samples import FOLDER as SAMPLES
from evaluation import session_method
from evaluation.loop import CaseFiles, LateError, MethodError, evaluate_case
from evaluation.methods import parse_method
from evaluation.sessions import LONGEST_MESSAGE, Replay
from gamt.io.case import Case, read_case, write_case
from gamt.prompts import Box, ClassPrompts, Click
from tests.evaluation.runs import run
from tests.evaluation.sessions import Drawing, Fragile, Sections

HERE = "session:tests.evaluation.sessions:"
SHAPE = (6, 8, 9)
SPACING_MM = (3.0, 0.8, 0.7)
FIRST = Box(0, 2, 1, 0, 2, 0, 2)
"""2 x 2 x 2 voxels at the volume's corner."""

SECOND = Box(3, 5, 4, 1, 4, 1, 4)
"""2 x 3 x 3 voxels, apart from the first."""


def make_case(*prompts: ClassPrompts, previous: npt.NDArray[np.uint8] | None = None) -> Case:
    image = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    return Case("case", image, SPACING_MM, prompts, previous)


def boxes() -> Case:
    return make_case(ClassPrompts(1, FIRST), ClassPrompts(2, SECOND))


class TestReplay:
    def test_each_class_begins_anew_with_its_box(self) -> None:
        session = Drawing()
        labels, failures = Replay(session).segment(boxes())
        assert session.calls == [
            ("set_image", (1, *SHAPE), SPACING_MM),
            ("reset_interactions",),
            ("add_bbox", [[0, 2], [0, 2], [0, 2]], True, True),
            ("reset_interactions",),
            ("add_bbox", [[3, 5], [1, 4], [1, 4]], True, True),
        ]
        assert failures == {}
        assert np.bincount(labels.ravel()).tolist() == [6 * 8 * 9 - 8 - 18, 8, 18]

    def test_a_later_round_goes_on_from_the_previous_one_and_predicts_once(self) -> None:
        previous = np.zeros(SHAPE, np.uint8)
        previous[0, :2, :2] = 1
        clicks = (Click(1, 0, 0, True), Click(0, 1, 1, False), Click(1, 1, 1, True))
        session = Drawing()
        case = make_case(ClassPrompts(1, FIRST, clicks), ClassPrompts(2, SECOND), previous=previous)
        Replay(session).segment(case)
        assert session.calls[1:] == [
            ("add_initial_seg", 4, False),
            ("add_bbox", [[0, 2], [0, 2], [0, 2]], True, False),
            ("add_point", (1, 0, 0), True, False),
            ("add_point", (0, 1, 1), False, False),
            ("add_point", (1, 1, 1), True, True),
            # Nothing was found of it, so that there is nothing to begin with.
            ("reset_interactions",),
            ("add_bbox", [[3, 5], [1, 4], [1, 4]], True, True),
        ]

    def test_an_image_is_set_once_for_all_rounds(self) -> None:
        session = Drawing()
        replay = Replay(session)
        replay.segment(boxes())
        replay.segment(boxes())
        other = boxes()
        other.image[0, 0, 0] = 9
        replay.segment(other)
        assert [call[0] for call in session.calls].count("set_image") == 2

    def test_images_are_compared_once_a_run_however_many_classes_there_are(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared = []

        def equal(first: Any, second: Any) -> bool:
            compared.append(first)
            return bool((first == second).all())

        monkeypatch.setattr(np, "array_equal", equal)
        replay = Replay(Drawing())
        for _ in range(3):
            replay.segment(boxes())
        # The second run with the first one, and the third with the second.
        assert len(compared) == 2

    def test_a_session_that_takes_boxes_on_slices_alone_gets_the_one_drawn(self) -> None:
        session = Sections()
        Replay(session).segment(make_case(ClassPrompts(1, SECOND)))
        # z_mid is 4.
        assert session.calls[-1] == ("add_bbox", [[4, 5], [1, 4], [1, 4]], True, True)

    def test_the_highest_label_has_what_several_claim(self) -> None:
        around = Box(0, 3, 1, 0, 3, 0, 3)
        labels, _ = Replay(Drawing()).segment(
            make_case(ClassPrompts(1, around), ClassPrompts(2, FIRST), ClassPrompts(3, FIRST))
        )
        assert np.bincount(labels.ravel())[1:].tolist() == [27 - 8, 0, 8]

    @pytest.mark.parametrize("how", ["raise", "exit"])
    def test_a_class_that_fails_keeps_its_mask_and_the_others_go_on(self, how: str) -> None:
        previous = np.zeros(SHAPE, np.uint8)
        previous[5, 5, 5] = 1
        session = Fragile(how)
        labels, failures = Replay(session).segment(
            make_case(ClassPrompts(1, SECOND), ClassPrompts(2, FIRST), previous=previous)
        )
        assert list(failures) == [1]
        assert failures[1] in (
            "RuntimeError: no \\x1b[2J luck",
            "SystemExit: as a program would",
        )
        assert np.bincount(labels.ravel())[1:].tolist() == [1, 8]
        # Whatever state it is in, it begins with the image.
        assert [call[0] for call in session.calls].count("set_image") == 2

    @pytest.mark.parametrize(
        ("how", "start", "most"),
        [("mute", "MuteError", 9), ("verbose", "RuntimeError: no no ", 300)],
    )
    def test_whatever_a_class_fails_with_is_told_in_a_short_line(
        self, how: str, start: str, most: int
    ) -> None:
        labels, failures = Replay(Fragile(how)).segment(boxes())
        assert failures[2].startswith(start)
        assert len(failures[2]) <= most
        assert np.bincount(labels.ravel())[1:].tolist() == [8]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a run on a case of two boxes."""
    for name in ("inputs", "outputs"):
        (tmp_path / "work" / name).mkdir(parents=True)
    case = boxes()
    path = tmp_path / "work" / "inputs" / "CT_two.npz"
    write_case(path, case.image, case.spacing_mm, case.prompts)
    return tmp_path / "work"


@pytest.fixture(autouse=True)
def _no_session_stays() -> Iterator[None]:
    yield
    for method in list(session_method._hosts):
        method.close()


def counts(folder: Path) -> list[int]:
    """Returns the number of voxels of each label in the output."""
    with np.load(folder / "outputs" / "CT_two.npz") as file:
        first, second = np.bincount(file["segs"].ravel(), minlength=3)[1:].tolist()
    return [first, second]


def test_a_session_is_made_once_and_what_it_prints_is_kept(folder: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    parsed = parse_method(f"{HERE}Loading notes={notes}", run_limit=60)
    assert parsed.team == "Loading"
    assert run(parsed, folder) is None
    assert counts(folder) == [8, 18]
    (folder / "outputs" / "CT_two.npz").unlink()
    other = folder.parent / "other.txt"
    assert parsed.method.run(folder, other, lambda: False).failure is None
    assert counts(folder) == [8, 18]
    assert notes.read_text() == "made\n"
    assert (tmp_path / "log.txt").read_text() == "loading the model\nfrom C\nthe image\n"
    assert other.read_text() == ""  # the image is the same
    # Another method is another session.
    run(parse_method(f"{HERE}Loading notes={notes}", run_limit=61), folder)
    assert notes.read_text() == "made\nmade\n"


def test_a_class_that_fails_is_told(folder: Path) -> None:
    failure = run(parse_method(f"{HERE}Fragile how=raise", run_limit=60), folder)
    assert failure == "class 2: RuntimeError: no \\x1b[2J luck"
    assert counts(folder) == [8, 0]
    assert "Traceback" in (folder.parent / "log.txt").read_text()


def test_a_session_that_hangs_is_stopped_and_made_anew(folder: Path) -> None:
    parsed = parse_method(f"{HERE}Fragile how=hang", run_limit=5)
    with pytest.raises(LateError, match=r"^stopped after 5 s$"):
        run(parsed, folder)
    assert session_method._hosts == {}
    # The first box was drawn, so that by itself it would have written something.
    assert not list((folder / "outputs").iterdir())


def test_a_session_that_leaves_a_message_unfinished_is_late(folder: Path) -> None:
    parsed = parse_method(f"{HERE}Saying 'message={{\"number\": 1, '", run_limit=3)
    with pytest.raises(LateError, match=r"^stopped after 3 s$"):
        run(parsed, folder)
    assert session_method._hosts == {}


@pytest.mark.parametrize(
    "options",
    [
        "'message=not JSON\n'",
        "'message={\"number\": 1}\n'",
        # The answer to another run, as a process that was forked would give.
        '\'message={"number": 0, "failure": null}\n\'',
        f"message=[ times={LONGEST_MESSAGE}",
    ],
    ids=["text", "half", "other-run", "long"],
)
def test_a_session_that_says_something_else_fails_in_this_run_alone(
    folder: Path, options: str
) -> None:
    parsed = parse_method(f"{HERE}Saying {options}", run_limit=60)
    failure = run(parsed, folder)
    assert failure is not None
    assert failure.startswith("found ")
    assert failure.endswith(" from the session's process, expected answer 1")
    assert session_method._hosts == {}


def test_a_session_whose_process_ends_fails_in_this_run_alone(folder: Path) -> None:
    parsed = parse_method(f"{HERE}Fragile how=die", run_limit=60)
    assert run(parsed, folder) == "the session's process ended, exit status 7"
    path = folder / "inputs" / "CT_two.npz"
    case = boxes()
    write_case(path, case.image, case.spacing_mm, [ClassPrompts(1, FIRST)])
    assert run(parsed, folder) is None
    assert counts(folder) == [8, 0]


def test_a_case_that_can_not_be_read_is_told(folder: Path) -> None:
    (folder / "inputs" / "CT_two.npz").write_bytes(b"no zip")
    failure = run(parse_method(f"{HERE}Drawing", run_limit=60), folder)
    assert failure is not None
    assert "found no zip archive" in failure


def test_a_session_that_ended_after_a_run_is_made_anew_for_the_next(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "of/the/user")
    notes = tmp_path / "notes.txt"
    parsed = parse_method(f"{HERE}Ending notes={notes}", run_limit=60)
    assert run(parsed, folder) is None
    (host,) = session_method._hosts.values()
    assert select.select([host._socket], [], [], 60)[0]  # until its end has come
    assert run(parsed, folder) is None
    # What it starts finds its modules as if the user had started it.
    assert notes.read_text() == "made\nof/the/user\n" * 2


def test_a_session_that_can_not_be_made_is_tried_once_for_all_cases(
    folder: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    parsed = parse_method(f"{HERE}trying notes={notes}", run_limit=60)
    for _ in range(3):
        with pytest.raises(MethodError, match="makes no session: OSError: no such model"):
            run(parsed, folder)
    assert notes.read_text() == "tried\n"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("none", "makes no session: found the type str without 'set_image'"),
        ("failing", "makes no session: OSError: no such model"),
        ("hanging", "makes no session: stopped after 3 s"),
        ("dying", "makes no session: its process ended"),
    ],
)
def test_a_session_that_can_not_be_made_is_no_result(
    factory: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if factory == "hanging":
        monkeypatch.setattr(session_method, "_MAKE_SECONDS", 3.0)
    # Scores of zero would be the method's; this is a matter of how it is set up.
    with pytest.raises(MethodError, match=message):
        run(parse_method(f"{HERE}{factory}", run_limit=60), folder)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("session:", "expected one of"),
        ("session:gamt", "found the session 'gamt', expected package.module:factory"),
        ("session:nothing.here:make", "nothing.here:make can't be imported: ModuleNotFoundError"),
        (f"{HERE}nothing", "can't be imported: AttributeError"),
        (f"{HERE}NO_FACTORY", "NO_FACTORY of type int, expected what makes a session"),
        (f"{HERE}Fragile", "missing a required argument: 'how'"),
        (f"{HERE}Drawing how=raise", "unexpected keyword argument 'how'"),
        (f"{HERE}Fragile raise", "found 'raise', expected KEY=VALUE"),
        (f"{HERE}Fragile =raise", "found '=raise', expected KEY=VALUE"),
        (f"{HERE}Fragile how=raise how=die", "found how= twice"),
        (f"{HERE}Fragile 'how=raise", "Fragile 'how=raise.: No closing quotation"),
        ("session:builtins:dict", "no signature found for builtin"),
    ],
)
def test_what_is_no_session_is_refused_before_the_work(spec: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        parse_method(spec, run_limit=60)


def test_another_adapter_or_option_is_another_method(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "adapter_of_mine.py").write_text("def make(folder=''): ...\n")
    spec = "session:adapter_of_mine:make"
    identity = parse_method(spec, run_limit=60).identity
    assert parse_method(f"{spec} folder=a", run_limit=60).identity != identity
    (tmp_path / "adapter_of_mine.py").write_text("def make(folder='b'): ...\n")
    assert parse_method(spec, run_limit=60).identity != identity


def test_other_code_or_versions_that_an_adapter_depends_on_are_another_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "package_of_mine"
    (package / "networks").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "adapter.py").write_text("PACKAGES = ['peer-of-mine', 'missing']\ndef make(): ...\n")
    metadata = tmp_path / "peer_of_mine-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: peer-of-mine\nVersion: 1.0\n")

    def identity() -> str:
        return parse_method("session:package_of_mine.adapter:make", run_limit=60).identity

    found = [identity()]
    assert found[0].endswith(" peer-of-mine 1.0")
    (package / "networks" / "unet.py").write_text("WIDTH = 3\n")
    found.append(identity())
    metadata.write_text("Metadata-Version: 2.1\nName: peer-of-mine\nVersion: 1.1\n")
    found.append(identity())
    # What shows the prompts to it is ours.
    replay = tmp_path / "sessions.py"
    replay.write_text("")
    monkeypatch.setattr("evaluation.sessions.__file__", str(replay))
    found.append(identity())
    assert len(set(found)) == 4


def test_a_folder_without_init_is_no_package_of_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It may be the user's home.
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "folder_of_mine").mkdir()
    (tmp_path / "folder_of_mine" / "adapter.py").write_text("def make(): ...\n")
    spec = "session:folder_of_mine.adapter:make"
    identity = parse_method(spec, run_limit=60).identity
    (tmp_path / "folder_of_mine" / "other.py").touch()
    assert parse_method(spec, run_limit=60).identity == identity


def test_relative_paths_in_options_start_where_the_method_was_parsed(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    parsed = parse_method(f"{HERE}Loading notes=notes.txt", run_limit=60)
    monkeypatch.chdir(tmp_path)
    run(parsed, folder)
    assert (tmp_path / "here" / "notes.txt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("has_box", [True, False], ids=["box", "clicks"])
def test_our_own_session_finds_what_gamt_does(has_box: bool, tmp_path: Path) -> None:
    # Of one class: several compete in `gamt`, and a session knows of one alone. In rounds after
    # that of a box, a session meets the box with a mask that is there (docs/peers.md).
    sample = SAMPLES / "PET_phantom.npz"
    case = read_case(sample)
    with np.load(sample, allow_pickle=True) as file:
        gts = (file["gts"] == 1).astype(np.uint8)
    prompts = case.prompts[:1] if has_box else [ClassPrompts(1)]
    write_case(tmp_path / "PET_one.npz", case.image, case.spacing_mm, prompts, gts)
    runs = 1 if has_box else 5
    ours, theirs = (
        evaluate(spec, tmp_path)[:runs]
        for spec in ("session:gamt.session:Session", "gamt --no-budget")
    )
    assert ours.any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(ours, theirs)


def evaluate(spec: str, folder: Path) -> npt.NDArray[np.uint8]:
    """Returns what all runs of a method predict for PET_one.npz, (run, z, y, x)."""
    source, prediction = folder / "PET_one.npz", folder / "prediction.npz"
    method = parse_method(spec, run_limit=120).method
    record = evaluate_case(
        CaseFiles(source, source), method, folder / "work", folder / "log", prediction
    )
    assert {one.failure for one in record.interactions} == {None}
    with np.load(prediction) as file:
        return np.asarray(file["all_segs"])
