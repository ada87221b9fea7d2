"""What must be so of a run of `gamt predict` on a folder of spoilt and honest files."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

MOST_SECONDS = 10.0
"""Nothing may take longer with one file."""

MOST_BYTES = 2 * 2**30
"""No more memory may be taken at any time."""

ALL_DONE, DEGRADED, FAILED = 0, 3, 4
"""Exit statuses: every case has a result; some results are not what they could be; some miss."""

_LINE = re.compile(r"(INFO|WARNING|ERROR|gamt:) ")
_MOST_CHARACTERS = 1000
_OURS = (
    *("Traceback", 'File "', ".py", "SystemError", "AssertionError", "RecursionError"),
    *("MemoryError", "Unable to allocate", "object at 0x"),
)
"""What a user can do nothing with."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a folder.

    Attributes:
        status: of the exit.
        log: what went to standard error.
        outputs: the folder of the results.
    """

    status: int
    log: str
    outputs: Path


def judge(
    run: Run, spoilt: Sequence[str], honest: Mapping[str, npt.NDArray[np.uint8]]
) -> dict[str, list[str]]:
    """Returns what is wrong, by the name of the file, "" where none is to blame.

    Args:
        run: what came of the folder.
        spoilt: names of the spoilt files, without suffix.
        honest: what must come of the others, by name without suffix.
    """
    found: dict[str, list[str]] = {}

    def blame(name: str, what: str) -> None:
        found.setdefault(name, []).append(what)

    lines = run.log.splitlines()
    for line in run.log.split("\n"):
        for what in _judge_line(line):
            blame(_named(line, spoilt), f"{what}: {line[:300]!r}")
    missing = [name for name in spoilt if not (run.outputs / f"{name}.npz").exists()]
    for name in missing:
        errors = [line for line in lines if line.startswith(f"ERROR {name}.npz: ")]
        if len(errors) != 1:
            blame(name, f"no result, and {len(errors)} errors in the log")
        elif not re.search(r"found .*, expected ", errors[0], re.DOTALL):
            blame(name, f"an error that doesn't say what was found and expected: {errors[0]!r}")
    for name in set(spoilt) - set(missing):
        for what in _judge_output(run.outputs / f"{name}.npz"):
            blame(name, what)
    for name, labels in honest.items():
        output = run.outputs / f"{name}.npz"
        if not output.exists():
            blame("", f"no result of the honest {name}.npz")
        elif not np.array_equal(np.load(output)["segs"], labels):
            blame("", f"another result of the honest {name}.npz")
    expected = (1, FAILED) if missing else (ALL_DONE, DEGRADED)
    if run.status not in expected:
        blame("", f"exit status {run.status}, expected {' or '.join(map(str, expected))}")
    others = {path.name for path in run.outputs.iterdir()}
    for name in sorted(others - {f"{name}.npz" for name in (*spoilt, *honest)}):
        blame("", f"{name} is left among the results")
    return found


def _judge_line(line: str) -> list[str]:
    if not line:
        return []
    found = [f"{text!r} in the log" for text in _OURS if text in line]
    if not line.isprintable():
        found.append("characters in the log that can't be printed")
    if not _LINE.match(line):
        found.append("a line in the log that isn't of the log")
    if len(line) > _MOST_CHARACTERS:
        found.append(f"a line of {len(line)} characters in the log")
    return found


def _named(line: str, names: Collection[str]) -> str:
    """Returns the file that a line of the log is about."""
    match = re.match(r"\w+ (\w+)", line)
    return match[1] if match and match[1] in names else ""


def _judge_output(path: Path) -> list[str]:
    try:
        with np.load(path) as file:
            labels = file["segs"]
    except Exception as error:  # whatever is wrong with it
        return [f"a result that can't be read: {error!r}"]
    if labels.dtype != np.uint8 or labels.ndim != 3:
        return [f"a result of {labels.dtype}, {labels.ndim} dimensions"]
    return []
