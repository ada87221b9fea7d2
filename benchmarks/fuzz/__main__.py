"""The command line: python -m benchmarks.fuzz; see `--help`."""

import argparse
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

import benchmarks.fuzz
from benchmarks.bench import Bar, print_bars
from benchmarks.fuzz.in_process import Tally, run_in_process
from benchmarks.fuzz.judging import MOST_BYTES, MOST_SECONDS
from benchmarks.fuzz.npz import draw_npz
from benchmarks.fuzz.readers import READERS
from benchmarks.fuzz.script import run_script

_EXECUTED = re.compile(r"number_of_executed_units:\s*(\d+)")
_ROOT = Path(__file__).parents[2]
_SHOWN = 20
"""Findings that are printed of each part; all of them are in the folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.fuzz", description=benchmarks.fuzz.__doc__
    )
    parser.add_argument("--short", action="store_true", help="a fiftieth of everything")
    for option, default, what in (
        ("--seed", 0, "of the files"),
        ("--only", None, "the number of an npz file of the seed, which is run alone, in process"),
        ("--files", 10_000, "npz files in process"),
        ("--script", 1_000, "npz files by predict.sh"),
        ("--runs", 20_000, "runs of each reader by atheris"),
        ("--examples", 2_000, "of each kind and reader by hypothesis"),
        ("--workers", 1, "processes at a time"),
    ):
        text = what if default is None else f"{what} (%(default)s)"
        parser.add_argument(option, type=int, default=default, metavar="N", help=text)
    parser.add_argument(
        "--findings", type=Path, default=Path("out/fuzz"), help="folder for what fails"
    )
    options = parser.parse_args(arguments)
    # All that this process and others leave behind is in one folder, which goes with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="gamt-fuzz-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        return _run(options, Console())


def _run(options: argparse.Namespace, console: Console) -> int:
    part = 50 if options.short else 1
    files = range(options.files // part)
    if options.only is not None:
        files = range(options.only, options.only + 1)
    tally = _npz(
        "In process",
        files,
        options,
        console,
        lambda numbers, folder, progress: run_in_process(
            options.seed, numbers, folder, options.workers, progress
        ),
    )
    bars = _bars("npz in process", tally)
    if options.only is None:
        # Other files than those above.
        files = range(options.files, options.files + options.script // part)
        tally = _npz(
            "By predict.sh",
            files,
            options,
            console,
            lambda numbers, folder, progress: run_script(options.seed, numbers, folder, progress),
        )
        bars += _bars("npz by predict.sh", tally)
        bars += _readers(options.examples // part, options.runs // part, options.findings, console)
    return print_bars("Bars: spoilt files", bars, console)


def _npz(
    title: str,
    numbers: range,
    options: argparse.Namespace,
    console: Console,
    run: Callable[[range, Path, Callable[[int], None]], Tally],
) -> Tally:
    console.print(f"{title}: {len(numbers):,} npz files", highlight=False)
    with (
        Progress(console=console, transient=True) as progress,
        tempfile.TemporaryDirectory() as folder,
    ):
        task = progress.add_task(title, total=len(numbers))
        tally = run(numbers, Path(folder), lambda files: progress.advance(task, files))
    for one in tally.findings:
        place = options.findings / f"{options.seed}-{one.number}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "case.npz").write_bytes(draw_npz(options.seed, one.number).data)
        (place / "found.txt").write_text("\n".join((one.kind, *one.what)) + "\n", "utf-8")
    for one in tally.findings[:_SHOWN]:
        console.print(escape(f"{one.number} ({one.kind}): {'; '.join(one.what)}"), highlight=False)
    return tally


def _bars(name: str, tally: Tally) -> list[Bar]:
    """Returns the bars of npz files."""
    done = tally.files - tally.failed
    return [
        Bar(
            f"{name}: files with which anything went wrong",
            f"{len(tally.findings)} of {tally.files:,} ({done:,} were segmented, "
            f"{tally.failed:,} refused)",
            "0",
            not tally.findings and tally.files > 0,
        ),
        Bar(
            f"{name}: longest work without a word",
            f"{tally.most_seconds:.1f} s, in the folder of file {tally.slowest}",
            f"< {MOST_SECONDS:g} s",
            tally.most_seconds < MOST_SECONDS,
        ),
        Bar(
            f"{name}: most memory",
            f"{tally.most_bytes / 2**20:.0f} MiB",
            f"< {MOST_BYTES >> 20} MiB",
            tally.most_bytes < MOST_BYTES,
        ),
    ]


def _readers(examples: int, runs: int, findings: Path, console: Console) -> list[Bar]:
    """Lets hypothesis and atheris at the readers."""
    console.print(f"Hypothesis: {examples} examples a reader and kind", highlight=False)
    with console.status("Hypothesis"):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/benchmarks/fuzz/test_readers.py"],
            check=False,
            cwd=_ROOT,
            env=os.environ | {"GAMT_FUZZ_EXAMPLES": str(examples)},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        console.print(escape(done.stdout), highlight=False)
    name = "readers by hypothesis"
    bars = [Bar(name, f"{examples} a reader, exit {done.returncode}", "0", done.returncode == 0)]
    name = "readers by atheris"
    if importlib.util.find_spec("atheris") is None:
        return [*bars, Bar(name, "not to be had on this system", f"{runs} runs a reader", None)]
    findings.mkdir(parents=True, exist_ok=True)
    for reader in READERS:
        console.print(f"Atheris: {reader}", highlight=False)
        with console.status(f"Atheris: {reader}"):
            log = findings / f"atheris-{reader}.log"
            with log.open("wb") as stream:
                done_guided = subprocess.run(
                    [
                        sys.executable,
                        "-m",
                        "benchmarks.fuzz.guided",
                        reader,
                        str(runs),
                        findings.resolve(),
                    ],
                    check=False,
                    cwd=_ROOT,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                )
        status = done_guided.returncode
        # Slow readers are given less than was asked for.
        counts = _EXECUTED.findall(log.read_text("utf-8", "replace"))
        text = f"{int(counts[-1]) if counts else 0:,} of {runs:,} runs, exit {status}"
        bars.append(Bar(f"{name}: {reader}", text, "exit 0", status == 0 and bool(counts)))
        if status == 0:
            log.unlink()
    return bars


if __name__ == "__main__":
    sys.exit(main())
