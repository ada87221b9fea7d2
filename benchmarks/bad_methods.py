"""Evaluates methods that are broken or hostile, each in one way, and looks at what is made of them.

    python -m benchmarks.bad_methods [--only NAME]

All of them are shell commands, evaluated on one tiny case of six runs. For each, the record has to
say of every run what docs/challenge.md, 4, says, and score it so; no process may be left, nor a
file but the results; and no file outside of the method's folder may have changed. At last a method
that is perfect on two cases and leaves something broken on the third is held against one that
leaves nothing there: their means have to be equal. Prints every method with what its record says;
the exit code is 1 where something is not as it should be.
"""

import argparse
import io
import os
import shlex
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.this_process import ThisProcess
from evaluation.leaderboard import Results, rank
from evaluation.methods import parse_method
from evaluation.records import METRICS, CaseRecord, Output, TeamFolder
from evaluation.run import evaluate_folder
from gamt.cli.console import progress_bar, shows_progress
from gamt.text import printable

RUNS = 6

LIMIT_SECONDS = 20.0
"""Of a run, for methods that are to end by themselves."""

SHORT_SECONDS = 0.5
"""Of a run, for methods that don't."""

LONGEST_SECONDS = 60.0
"""The most that six runs of a method and their scores may take."""

LOG_BYTES = 11_000_000 * RUNS
"""The most that a case's log may take."""

SLEEPER = "sleep 98.75"
"""What methods leave running."""

SHAPE = (6, 10, 14)


@dataclass(frozen=True, slots=True)
class BadMethod:
    """A method, and what its record has to say.

    Attributes:
        name: what it does.
        script: a shell script. ``$F`` is a folder with the files of `make_files`, ``$O`` the
            output's path, ``$N`` its name, ``$R`` the number of the run, from 1 on.
        outputs: of the runs; a single one stands for all.
        dice: likewise.
        failure: what every run's failure has to hold.
        limit: of a run, in seconds.
    """

    name: str
    script: str
    outputs: tuple[Output, ...]
    dice: tuple[float, ...] = (0.0,)
    failure: str = ""
    limit: float = LIMIT_SECONDS


def broken(name: str, script: str, failure: str) -> BadMethod:
    """Returns a method whose every output is no segmentation, because of `failure`."""
    return BadMethod(name, script, ("broken",), failure=failure)


def file(name: str, failure: str) -> BadMethod:
    """Returns a method that writes the file of this name, which is no segmentation."""
    return broken(name, f'cp "$F/{name}" "$O"', failure)


def scored(name: str, script: str, failure: str = "", dice: float = 1.0) -> BadMethod:
    """Returns a method that does something bad, but whose output counts."""
    return BadMethod(name, script, ("written",), (dice,), failure)


def silent(name: str, script: str, failure: str = "", limit: float = LIMIT_SECONDS) -> BadMethod:
    """Returns a method that leaves nothing that counts."""
    return BadMethod(name, script, ("none",), (0.0,), failure, limit)


GOOD = 'cp "$F/$N" "$O"'
"""Writes a perfect segmentation."""

METHODS = (
    # Files that are no segmentation.
    file("no zip", "no zip archive"),
    file("an empty file", "no zip archive"),
    file("the first half of an npz", "no zip archive"),
    file("a zip without an array", "no such key"),
    file("another key", "no such key"),
    file("another shape", "of shape (6, 10, 13)"),
    file("axes in another order", "of shape (14, 10, 6)"),
    file("an axis more", "of shape (1, 6, 10, 14)"),
    file("a flat array", "of shape (840,)"),
    file("an empty array", "an array of"),
    file("text", "<U3"),
    file("objects", ""),
    file("a pickle that runs code", ""),
    file("complex numbers", "complex64"),
    file("fields with names that a terminal obeys", ""),
    file("a shape of 10^18 voxels", ""),
    file("70,000 arrays", "a list of arrays"),
    file("64 MB of zeros", "an array of 67108992 bytes"),
    file("a wrong checksum", ""),
    file("an encrypted member", ""),
    file("a size that isn't true", ""),
    file("a header of 4 GB", ""),
    file("a header of 10,000 brackets", ""),
    file("40,000 arrays", "a list of arrays"),
    # Files that are odd, but segmentations.
    scored("NaN", 'cp "$F/NaN" "$O"', dice=0.0),
    scored("infinity", 'cp "$F/infinity" "$O"', dice=0.0),
    scored("labels of 64 bits", 'cp "$F/labels of 64 bits" "$O"', dice=0.0),
    scored("floats of 16 bits", 'cp "$F/floats of 16 bits" "$O"'),
    scored("floats of 128 bits", 'cp "$F/floats of 128 bits" "$O"'),
    scored("big-endian", 'cp "$F/big-endian" "$O"'),
    # What is no file.
    broken("a link to a segmentation", 'ln -sf "$F/$N" "$O"', "a symbolic link"),
    broken("a link to the truth", 'ln -sf "$F/../cases/$N" "$O"', "a symbolic link"),
    broken("a link to /dev/zero", 'ln -sf /dev/zero "$O"', "a symbolic link"),
    broken("a link to nothing", 'ln -sf nothing "$O"', "a symbolic link"),
    broken("a link to itself", 'ln -sf "$N" "$O"', "a symbolic link"),
    broken("a pipe", 'mkfifo "$O"', "a named pipe"),
    broken("a folder", 'mkdir "$O"', "a folder"),
    broken("a folder with files", 'mkdir "$O"; touch "$O/a" "$O/b"', "a folder"),
    broken("a folder without rights", 'mkdir -m 0 "$O"', "a folder"),
    broken("a socket", 'python3 -c "$F_SOCKET" "$O"', "a socket"),
    broken("100 GB of holes", 'truncate -s 100G "$O"', "no zip archive"),
    broken("outputs is a link", 'rm -rf outputs; ln -s "$F" outputs', "no folder 'outputs'"),
    # What becomes of the folder.
    silent("nothing", "true"),
    silent("another name", 'cp "$F/$N" outputs/other.npz'),
    silent("a hidden file", 'cp "$F/$N" "outputs/.$N"'),
    silent("outputs is removed", f"{GOOD}; rm -rf outputs"),
    silent("its folder is removed", f'{GOOD}; rm -rf "$PWD"'),
    silent("its folder is moved", f'{GOOD}; mv "$PWD" "$PWD.$$"'),
    scored("a file without rights", f'{GOOD}; chmod 0 "$O"'),
    scored("outputs without rights", f"{GOOD}; chmod 0 outputs"),
    scored("inputs is removed", f"{GOOD}; rm -rf inputs"),
    scored("inputs without rights", f"{GOOD}; chmod 0 inputs"),
    scored("inputs is a link", f'{GOOD}; rm -rf inputs; ln -s "$F/victim" inputs'),
    scored("the input is a link", f'{GOOD}; ln -sf "$F/victim/$N" "inputs/$N"'),
    scored("the input is a folder", f'{GOOD}; rm "inputs/$N"; mkdir -p "inputs/$N/a"'),
    scored("2,000 folders in one another", f'{GOOD}; python3 -c "$F_DEEP"'),
    # How it ends.
    scored("exit status 3", f"{GOOD}; exit 3", "exit status 3"),
    scored("a signal", f"{GOOD}; kill -SEGV $$", "exit status -11"),
    silent("its group is killed", f"kill -9 0; {GOOD}", "exit status -9"),
    BadMethod(
        "its parent is killed",
        f"{GOOD}; kill -9 $PPID; {SLEEPER}",
        ("written",),
        (1.0,),
        "killed the process",
    ),
    scored("its parent is to end", f"kill $PPID; {GOOD}"),
    silent("late", f"{GOOD}; {SLEEPER}", "stopped after", SHORT_SECONDS),
    silent("late and deaf", f"trap '' TERM INT HUP; {GOOD}; {SLEEPER}", "stopped", SHORT_SECONDS),
    silent("it stops itself", f"{GOOD}; kill -STOP $$", "stopped after", SHORT_SECONDS),
    BadMethod(
        "late from the second run on",
        f'if [ $R = 1 ]; then {GOOD}; else echo bad > "$O"; {SLEEPER}; fi',
        ("written", *("stale",) * 5),
        (1.0,),
        limit=SHORT_SECONDS,
    ),
    # What it leaves running.
    scored("a child", f'{GOOD}; (sleep 0.3; echo bad > "$O"; {SLEEPER}) &'),
    scored("a child in a session of its own", f"{GOOD}; setsid {SLEEPER} &"),
    scored("a grandchild", f"{GOOD}; (setsid sh -c '{SLEEPER} & {SLEEPER}' &)"),
    scored("a child that keeps the log", f"{GOOD}; (trap '' HUP; {SLEEPER}; echo late) &"),
    scored(
        "children all the time", f"{GOOD}; (while :; do {SLEEPER} & sleep 0.002; done) & sleep 0.1"
    ),
    # What it prints and reads.
    scored("no standard streams", f"exec <&- >&- 2>&-; {GOOD}"),
    scored("100 MB in the log", f"{GOOD}; head -c 100000000 /dev/zero"),
    scored("a log that a terminal obeys", f"{GOOD}; printf '\\033[2J\\033]0;title\\007\\377\\r'"),
    # One run after another.
    BadMethod(
        "broken once, then nothing",
        f'if [ $R = 1 ]; then {GOOD}; elif [ $R = 2 ]; then echo bad > "$O"; fi',
        ("written", "broken", *("none",) * 4),
        (1.0, *(0.0,) * 5),
    ),
    BadMethod(
        "broken every other time",
        f'if [ $((R % 2)) = 1 ]; then {GOOD}; else echo bad > "$O"; fi',
        ("written", "broken") * 3,
        (1.0, 0.0) * 3,
    ),
    BadMethod(
        "broken under the same time",
        f'if [ $R = 1 ]; then {GOOD}; else touch -r "$O" t; printf bad | dd of="$O" conv=notrunc; '
        'touch -r t "$O"; fi',
        ("written", "broken", "broken", "broken", "broken", "broken"),
        (1.0, *(0.0,) * 5),
    ),
    BadMethod(
        "once, then removed",
        f'if [ $R = 1 ]; then {GOOD}; else rm -f "$O"; fi',
        ("written", *("none",) * 5),
        (1.0, *(0.0,) * 5),
    ),
    BadMethod("once", f"[ $R -gt 1 ] || {GOOD}", ("written", *("stale",) * 5), (1.0,)),
)

_BEGIN = (
    "F={files}; N=$(ls inputs); O=outputs/$N; R=$(($(cat run 2>/dev/null || echo 0) + 1)); "
    "echo $R > run; "
)
_SOCKET = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
_DEEP = "import os\nfor _ in range(2000): os.mkdir('d'); os.chdir('d')"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAME", help="a single method")
    only = parser.parse_args(arguments).only
    methods = [one for one in METHODS if only in (None, one.name)]
    if not methods:
        parser.error(f"no method is named {only!r}")
    console = Console(width=150)
    table = Table("Method", "Record", "Dice of the runs", "What went wrong", "s", "")
    wrong = 0
    with (
        tempfile.TemporaryDirectory() as name,
        progress_bar(shows_progress(None), "Methods") as show,
    ):
        bench = Bench(Path(name))
        for number, method in enumerate(methods):
            show(number, len(methods))
            verdict = bench.judge(method)
            wrong += bool(verdict.complaints)
            table.add_row(*(printable(one) for one in verdict.row()))
        if only is None:
            for what, even in bench.compare():
                wrong += not even
                said = "as with nothing" if even else "PAID"
                table.add_row(f"leaderboard: {what}", said, "", "", "", "")
    console.print(table)
    console.print(f"{len(methods)} bad methods, {wrong} not as they should be")
    return 1 if wrong else 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a method.

    Attributes:
        name: the method's.
        record: of its case; None without.
        seconds: that it took, with the scores.
        complaints: what is not as it should be.
    """

    name: str
    record: CaseRecord | None
    seconds: float
    complaints: tuple[str, ...]

    def row(self) -> tuple[str, ...]:
        """Returns the row of the printed table."""
        runs = self.record.interactions if self.record else ()
        outputs = " ".join(dict.fromkeys(one.output for one in runs))
        dice = " ".join(f"{one.dsc:.2g}" for one in runs)
        failure = next((one.failure for one in reversed(runs) if one.failure), "")
        return (
            self.name,
            outputs,
            dice,
            failure or "",
            f"{self.seconds:.1f}",
            "; ".join(self.complaints) or "ok",
        )


class Bench:
    """A folder with a case, the files that methods leave, and their results."""

    def __init__(self, folder: Path) -> None:
        """Makes the case and the files.

        Args:
            folder: empty.
        """
        self.folder = folder
        self.files = folder / "files"
        (self.files / "victim").mkdir(parents=True)
        (folder / "cases").mkdir()
        truth = write_case(folder / "cases" / "CT_bad.npz")
        self.mark = folder / "mark"
        for name, content in make_files(truth, self.mark).items():
            (self.files / name).write_bytes(content)
        for name in ("CT_bad", "CT_one", "CT_two"):
            np.savez_compressed(self.files / f"{name}.npz", segs=truth)
        (self.files / "victim" / "CT_bad.npz").write_bytes(b"victim")

    def judge(self, method: BadMethod) -> Verdict:
        """Evaluates a method and says what is not as it should be."""
        before = self._contents()
        out = TeamFolder(self.folder / "out" / "team")
        began = time.monotonic()
        record, reason = self._evaluate(method, self.folder / "cases", out)
        seconds = time.monotonic() - began
        complaints = list(_complain(method, record) if record else (f"no record: {reason}",))
        if seconds > LONGEST_SECONDS:
            complaints.append(f"took {seconds:.0f} s")
        if left := running():
            complaints.append(f"left {left} processes")
        for path in out.path.rglob("*"):
            if path.name.endswith(".partial") or path.is_relative_to(out.work):
                complaints.append(f"left {path.relative_to(out.path)}")
                break
        if out.log_file("CT_bad.npz").stat().st_size > LOG_BYTES:
            complaints.append("filled the log")
        out.remove_results()
        (out.path / ".lock").unlink(missing_ok=True)
        out.run_file.unlink()
        out.path.rmdir()
        if self._contents() != before:
            complaints.append("changed a file of others")
        return Verdict(method.name, record, seconds, tuple(complaints))

    def compare(self) -> list[tuple[str, bool]]:
        """Compares methods that are perfect on two cases, and something else on the third.

        Returns:
            What they leave on the third, and whether they stand where one does that leaves nothing.
        """
        cases = self.folder / "three"
        cases.mkdir()
        for name in ("CT_bad", "CT_one", "CT_two"):
            write_case(cases / f"{name}.npz")
        third = {one.name: one for one in METHODS}
        means = {}
        for name in ("nothing", "no zip", "another shape", "a folder", "late"):
            one = third[name]
            script = f"if [ $N = CT_bad.npz ]; then {one.script}\nelse {GOOD}; fi"
            # The limit is that of the third case's method, and long enough for the two others.
            mixed = BadMethod(name, script, one.outputs, limit=max(one.limit, 2.0))
            team = TeamFolder(self.folder / "three-out" / name.replace(" ", "-"))
            self._evaluate(mixed, cases, team)
            (row,) = rank([Results.read(team)]).to_dict("records")
            means[name] = (row["Cases"], *(row[metric] for metric in METRICS))
        nothing = means.pop("nothing")
        return [(name, mean == nothing) for name, mean in means.items()]

    def _evaluate(
        self, method: BadMethod, cases: Path, out: TeamFolder
    ) -> tuple[CaseRecord | None, str]:
        os.environ.update(F_SOCKET=_SOCKET, F_DEEP=_DEEP)
        spec = f"command:{_BEGIN.format(files=shlex.quote(str(self.files)))}{method.script}"
        done = evaluate_folder(
            cases,
            None,
            spec,
            parse_method(spec, method.limit),
            out,
            make_workers=ThisProcess,
            run_limit=method.limit,
        )
        return next(out.iterate_records(), None), "; ".join(done.failed.values())

    def _contents(self) -> dict[str, bytes]:
        """Returns all files that no method may change."""
        paths = [self.mark, *self.files.rglob("*"), *(self.folder / "cases").iterdir()]
        return {str(path): path.read_bytes() for path in paths if path.is_file()}


def _complain(method: BadMethod, record: CaseRecord) -> Sequence[str]:
    complaints = []
    runs = record.interactions
    outputs = method.outputs * (RUNS // len(method.outputs))
    if tuple(one.output for one in runs) != outputs:
        complaints.append(f"found {[one.output for one in runs]}, expected {method.outputs}")
    dice = method.dice * (RUNS // len(method.dice))
    if tuple(one.dsc for one in runs) != dice:
        complaints.append(f"found Dice {[one.dsc for one in runs]}, expected {method.dice}")
    if not all(method.failure in (one.failure or "") for one in runs):
        complaints.append(f"found {runs[0].failure!r}, expected {method.failure!r}")
    if any(one.failure and not one.failure.isprintable() for one in runs):
        complaints.append("a failure that a terminal obeys")
    return complaints


def running() -> int:
    """Returns how many processes of methods there are."""
    words = SLEEPER.split()
    return sum(one.info["cmdline"] == words for one in psutil.process_iter(["cmdline"]))


def write_case(path: Path) -> npt.NDArray[np.uint8]:
    """Writes a case of one class in a box, and returns the truth."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:5, 2:8, 3:9] = 1
    box = {"z_min": 1, "z_max": 4, "z_mid": 3, "z_mid_x_min": 3, "z_mid_x_max": 8}
    box |= {"z_mid_y_min": 2, "z_mid_y_max": 7}
    arrays: dict[str, Any] = {"imgs": truth * 100, "gts": truth, "spacing": np.array([2.0, 1, 0.8])}
    np.savez_compressed(path, **arrays, boxes=np.array([box]))
    return truth


def make_files(truth: npt.NDArray[np.uint8], mark: Path) -> dict[str, bytes]:
    """Returns the contents of files that methods leave, by name.

    Args:
        truth: of the case.
        mark: a file that code in an output would make.
    """
    good = npz(segs=truth)
    strange = np.zeros(SHAPE, [("\x1b[2J\nred", "u1")])
    claims = _with_shape(truth, "(1000000, 1000000, 1000000)")
    return {
        "no zip": b"no zip",
        "an empty file": b"",
        "the first half of an npz": good[: len(good) // 2],
        "a zip without an array": npz(),
        "another key": npz(labels=truth),
        "another shape": npz(segs=truth[..., 1:]),
        "axes in another order": npz(segs=np.ascontiguousarray(truth.T)),
        "an axis more": npz(segs=truth[None]),
        "a flat array": npz(segs=truth.ravel()),
        "an empty array": npz(segs=truth[:0]),
        "text": npz(segs=np.full(SHAPE, "one")),
        "objects": npz(segs=truth.astype(object)),
        "a pickle that runs code": zipped({"segs.npy": _code(mark)}),
        "complex numbers": npz(segs=truth.astype(np.complex64)),
        "fields with names that a terminal obeys": npz(segs=strange),
        "a shape of 10^18 voxels": zipped({"segs.npy": claims}),
        "64 MB of zeros": npz(segs=np.zeros((64, 1024, 1024), np.uint8)),
        "a wrong checksum": _spoil(good, b"PK\x01\x02", 16, b"\0\0\0\0"),
        "an encrypted member": _spoil(good, b"PK\x01\x02", 8, b"\1\0"),
        "a size that isn't true": _spoil(good, b"PK\x01\x02", 24, struct.pack("<I", 900)),
        "a header of 4 GB": zipped(
            {"segs.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(1000)}
        ),
        "a header of 10,000 brackets": zipped({"segs.npy": _with_shape(truth, "(" * 9000)}),
        "40,000 arrays": zipped({f"{number}.npy": b"" for number in range(40_000)}),
        "70,000 arrays": zipped({f"{number}.npy": b"" for number in range(70_000)}),
        "NaN": npz(segs=np.full(SHAPE, np.nan)),
        "infinity": npz(segs=np.full(SHAPE, np.inf, np.float32)),
        "labels of 64 bits": npz(segs=np.full(SHAPE, 2**63, np.uint64)),
        "floats of 16 bits": npz(segs=truth.astype(np.float16)),
        "floats of 128 bits": npz(segs=truth.astype(np.longdouble)),
        "big-endian": npz(segs=truth.astype(">i4")),
    }


def npz(**arrays: npt.NDArray[Any]) -> bytes:
    """Returns the arrays as an npz file."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=True, **arrays)
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    """Returns a zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _with_shape(array: npt.NDArray[Any], shape: str) -> bytes:
    """Returns an npy file whose header states another shape."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + array.tobytes()


def _code(mark: Path) -> bytes:
    """Returns an array of objects, whose pickle makes a file where it is run."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {SHAPE}, }}\n".encode()
    pickled = f"cos\nsystem\n(S'touch {mark} {'#' * 1000}'\ntR.".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled


def _spoil(content: bytes, signature: bytes, offset: int, new: bytes) -> bytes:
    """Replaces bytes at a distance from the last occurrence of a signature."""
    start = content.rindex(signature) + offset
    return content[:start] + new + content[start + len(new) :]


if __name__ == "__main__":
    sys.exit(main())
