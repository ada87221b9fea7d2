"""Measures what evaluations on many workers cost beside the work itself, and how well they plan it.

    python -m benchmarks.cluster overhead    # of a case, on this machine's workers and on Dask's
    python -m benchmarks.cluster plan        # what is planned from a sample, and what it then takes
    python -m benchmarks.cluster listing     # a million cases: planning, and going on

Exit status: 0 if all bars are met, 1 if not.
"""

import argparse
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.blank import Blank
from benchmarks.phantoms import box_prompts, shade
from evaluation.costs import fit_rates, size_of
from evaluation.index import Entry, open_index, read_index
from evaluation.listing import case_files, list_cases
from evaluation.loop import evaluate_case
from evaluation.methods import ParsedMethod
from evaluation.plan import Standing, make_plan
from evaluation.records import TeamFolder
from evaluation.run import evaluate_folder, make_local_workers
from gamt.cluster.dask import connect
from gamt.cluster.tasks import Workers
from gamt.io.case import write_case

OVERHEAD_SECONDS, OVERHEAD_SHARE = 0.050, 0.02
"""The most that a case may cost beside the work on it: so much, and this share of the work."""

PLAN_ERROR = 0.15
"""How far a plan may be from what it then takes, as a share of that."""

LISTING_SECONDS, LISTING_GB = 30.0, 2.0
"""For a million cases: from the start of a command to its first task, and the peak memory."""

WORKERS = 2

_LINKS = 50_000
"""Names of one file, of which file systems allow 65,000."""

_WAIT_SECONDS = 60.0

Volume = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


def draw_case(path: Path, shape: tuple[int, int, int], classes: int, seed: int) -> None:
    """Writes a case with ellipsoids, side by side along x, each with its box."""
    rng = np.random.default_rng(seed)
    places = np.indices(shape)
    truth: Volume = np.zeros(shape, np.uint8)
    for label in range(1, classes + 1):
        centre = (shape[0] / 2, shape[1] / 2, shape[2] * (label - 0.5) / classes)
        half = (shape[0] * 0.4, shape[1] * rng.uniform(0.25, 0.4), shape[2] * 0.4 / classes)
        scaled = [(at - c) / h for at, c, h in zip(places, centre, half, strict=True)]
        truth[sum(one**2 for one in scaled) <= 1] = label
    greys = [100 + 25 * label for label in range(1, classes + 1)]
    write_case(path, shade(truth, greys, rng), (2.0, 1.0, 1.0), box_prompts(truth, rng), truth)


def measure_overhead(count: int) -> bool:
    """Prints what a case costs beside the work on it; returns whether the bar is met."""
    met = True
    with tempfile.TemporaryDirectory() as name, run_dask(Path(name), WORKERS) as address:
        cases, method = Path(name) / "cases", Blank()
        cases.mkdir()
        for number in range(count):
            draw_case(cases / f"CT_{number:04}.npz", (4, 12 + number % 5, 10), 1, number)
        listed = list_cases(cases, None)
        began = time.perf_counter()
        place = Path(name) / "loop"
        place.mkdir()
        for one in listed:
            files = case_files(cases, None, one.case)
            evaluate_case(files, method, place / "work", place / "log", place / "segs.npz")
        loop = (time.perf_counter() - began) / count
        print(f"{count} cases; a plain loop: {loop * 1e3:.1f} ms a case")
        engines: dict[str, Callable[[], Workers]] = {
            f"{WORKERS} processes": partial(make_local_workers, WORKERS),
            f"{WORKERS} workers of Dask": partial(connect, address),
        }
        for engine, make in engines.items():
            folder = TeamFolder(Path(name) / engine.replace(" ", "-"))
            began = time.perf_counter()
            evaluate_folder(
                cases,
                None,
                "blank",
                ParsedMethod(method, "blank", "blank"),
                folder,
                make_workers=make,
                run_limit=60.0,
            )
            wall = (time.perf_counter() - began) / count
            work = sum(one.seconds for one in read_index(folder.index_file).values()) / count
            overhead, most = wall * WORKERS - work, OVERHEAD_SECONDS + OVERHEAD_SHARE * work
            met &= overhead <= most
            print(
                f"{engine}: {wall * 1e3:.1f} ms a case, of {work * 1e3:.1f} ms of work; "
                f"overhead {overhead * 1e3:.1f} ms of a worker, at most {most * 1e3:.1f} ms"
            )
    return met


def measure_plan(count: int, sample: int, cases: Path | None) -> bool:
    """Prints what is planned and what it takes; returns whether the bar is met."""
    met = True
    with tempfile.TemporaryDirectory() as name:
        if cases is None:
            cases = Path(name) / "cases"
            cases.mkdir()
            rng = np.random.default_rng(0)
            for number in range(count):
                depth, side, classes = rng.integers((12, 40, 1), (40, 110, 4))
                shape = (int(depth), int(side), int(side))
                draw_case(cases / f"CT_{number:03}.npz", shape, int(classes), number)
        for spec in ("gamt", "blank"):
            out = Path(name) / spec
            words = ["--cases", cases, "--method", spec, "--out", out, "--name", "team", "-q"]
            folder = TeamFolder(out / "team")
            if spec == "gamt":
                _call("plan", *words, "--sample", sample)
            else:
                _evaluate_blank(cases, folder, Standing.read(cases, None, folder), sample)
            standing = Standing.read(cases, None, folder)
            plan = make_plan(standing)
            began = time.perf_counter()
            if spec == "gamt":
                _call("run", *words)
            else:
                _evaluate_blank(cases, folder, standing, plan.todo)
            wall = time.perf_counter() - began
            entries = read_index(folder.index_file)
            took = sum(entries[one.case].seconds for one in standing.todo)
            error = plan.seconds / took - 1
            met &= abs(error) <= PLAN_ERROR
            print(
                f"{spec}: {plan.measured} of {plan.total} cases measured; {plan.todo} others "
                f"planned {plan.seconds:.1f} s, took {took:.1f} s ({error:+.1%}, at most "
                f"{PLAN_ERROR:.0%}), {wall:.1f} s with what it takes to start"
            )
    return met


def measure_spread(index: Path, sample: int, times: int) -> None:
    """Prints how far plans from other samples of an evaluation's cases would have been."""
    entries = [*read_index(index).values()]
    errors = []
    for seed in range(times):
        order = np.random.default_rng(seed).permutation(len(entries))
        seen, rest = ([entries[at] for at in part] for part in np.split(order, [sample]))
        rates = fit_rates([size_of(one) for one in seen], [one.seconds for one in seen])
        expected = rates.expect([size_of(one) for one in rest]).sum()
        errors.append(abs(expected / sum(one.seconds for one in rest) - 1))
    print(f"{times} random samples of {sample}: median error {np.median(errors):.1%}, ", end="")
    print(f"nine of ten within {np.quantile(errors, 0.9):.1%}")


def measure_listing(count: int) -> bool:
    """Prints time and memory of planning and going on; returns whether the bars are met."""
    met = True
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        cases, started = place / "cases", place / "started"
        cases.mkdir()
        sources = -(-count // _LINKS)
        for number in range(sources):
            draw_case(place / f"{number}.npz", (8, 20 + number, 24), 1 + number % 3, number)
        names = [f"CT_{number:07}" for number in range(count)]
        for number, case in enumerate(names):
            os.link(place / f"{number % sources}.npz", cases / f"{case}.npz")
        method = f"command:date +%s.%N > {shlex.quote(os.fspath(started))}; sleep 600"
        out = place / "out"
        words = ["--cases", cases, "--method", method, "--out", out, "--name", "team", "-q"]
        for done in (count // 1000, count - count // 1000):
            _fake_records(cases, out / "team", method, names[:done])
            met &= _measure_command(f"plan, {done:,} done", "plan", *words, "--sample", "0")
            started.unlink(missing_ok=True)
            met &= _measure_command(f"run, {done:,} done", "run", *words, first=started)
    return met


def _fake_records(cases: Path, path: Path, method: str, done: Sequence[str]) -> None:
    """Writes a team's folder in which cases are done, all with one record's content."""
    folder = TeamFolder(path)
    folder.records_folder.mkdir(parents=True, exist_ok=True)
    settings = {
        **{"method": method, "identity": method, "cases_folder": os.fspath(cases.resolve())},
        **{"gts_folder": None, "strict_time": False, "run_limit": 3600.0},
        **{"started": "2025-06-11 09:00", "cases": [f"{case}.npz" for case in done]},
    }
    folder.write_settings(settings)
    listed = {one.case: one for one in list_cases(cases, None)}
    folder.index_file.unlink(missing_ok=True)
    source = path / "source"
    with open_index(folder.index_file) as index:
        for number, case in enumerate(done):
            if number % _LINKS == 0:
                source.unlink(missing_ok=True)
                source.write_text("{}")
            record = folder.record_file(case)
            if not record.exists():
                os.link(source, record)
            stamp, seconds = listed[f"{case}.npz"].stamp, 1.0 + number % 20
            index.add(Entry(f"{case}.npz", stamp, 5000, 2, seconds, 6, 900, True, (1.0,) * 4))
    source.unlink(missing_ok=True)


def _measure_command(title: str, *words: object, first: Path | None = None) -> bool:
    """Runs a command to its end, or to its first task, and prints what that takes."""
    command = [sys.executable, "-m", "evaluation", *map(os.fspath, map(str, words))]
    began = time.time()
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    if first is not None:
        while not (first.exists() and first.read_text().endswith("\n")):
            if process.poll() is not None or time.time() - began > 10 * LISTING_SECONDS:
                break
            time.sleep(0.05)
        else:
            seconds = float(first.read_text()) - began
        # Killed, for it would write tables of all records.
        os.kill(process.pid, signal.SIGKILL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    if first is None:
        seconds = time.time() - began
    gigabytes = used.ru_maxrss * 1024 / 1e9
    cpu = used.ru_utime + used.ru_stime
    print(f"{title}: {seconds:.1f} s ({cpu:.1f} s of a core), {gigabytes:.2f} GB", flush=True)
    return seconds <= LISTING_SECONDS and gigabytes <= LISTING_GB


def _evaluate_blank(cases: Path, folder: TeamFolder, standing: Standing, count: int) -> None:
    evaluate_folder(
        cases,
        None,
        "blank",
        ParsedMethod(Blank(voxel_seconds=1e-6), "blank", "blank"),
        folder,
        run_limit=60.0,
        only=standing.choose_sample(count),
    )


def _call(*words: object) -> None:
    command = [sys.executable, "-m", "evaluation", *map(str, words)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


@contextmanager
def run_dask(folder: Path, workers: int) -> Iterator[str]:
    """Runs a scheduler and its workers as processes of their own; gives its address."""
    with ExitStack() as stack:
        log = stack.enter_context((folder / "dask.txt").open("w+"))

        def start(*words: str) -> None:
            command = [sys.executable, "-m", "dask", *words]
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0")
        address = _wait_for(folder / "dask.txt", r"Scheduler at: +(tcp://\S+)", 1)
        for _ in range(workers):
            start("worker", address, "--nthreads", "1", "--no-dashboard")
        _wait_for(folder / "dask.txt", r"Registered to: +(\S+)", workers)
        yield address


def _wait_for(log: Path, pattern: str, count: int) -> str:
    """Waits until a pattern is in a log so many times; returns its first group."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while len(found := re.findall(pattern, log.read_text())) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{log}: {log.read_text()}")
        time.sleep(0.1)
    return str(found[0])


def main() -> None:
    """Measures what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    overhead = commands.add_parser("overhead", help="What a case costs beside the work on it.")
    overhead.add_argument("--count", type=int, default=1000, help="Cases.")
    plan = commands.add_parser("plan", help="What is planned, and what it then takes.")
    plan.add_argument("--cases", type=Path, help="A folder of them; otherwise some are drawn.")
    plan.add_argument("--count", type=int, default=30, help="Cases to draw.")
    plan.add_argument("--sample", type=int, default=12, help="Cases to plan from.")
    listing = commands.add_parser("listing", help="Planning and going on with many cases.")
    listing.add_argument("--count", type=int, default=1_000_000, help="Cases.")
    chosen = parser.parse_args()
    logging.getLogger("gamt").setLevel(logging.ERROR)
    if chosen.command == "overhead":
        met = measure_overhead(chosen.count)
    elif chosen.command == "plan":
        met = measure_plan(chosen.count, chosen.sample, chosen.cases)
    else:
        met = measure_listing(chosen.count)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
