"""Lets many users work on one server, and looks for what went wrong.

    python -m benchmarks.soak [--minutes 20] [--clients 8] [--seed 0] [--encodes]

Each user is a process with the client of 3D Slicer and napari (`nninteractive-client`), which opens
drawn images one after the other, most of them small, and gives random prompts of all kinds. Now and
then one is killed in the middle of whatever it does, and another one takes its place as soon as the
server lets it. In the end all go home, and the server's memory, its places and the answers are
looked at: a random sample of the images is segmented again in this process, by the same prompts,
for as long as a quarter of the time (`VERIFY_SHARE`); every mask of these has to be the same.
The embedded segmenter encodes nothing; with --encodes a stand-in for a network does, so that slices
are encoded ahead, shared and stored. Prints every bar with the figure measured beside it; the exit
code is 1 where one is missed.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console

from benchmarks.bench import Bar, print_bars
from benchmarks.interaction import at_most, describe_machine
from benchmarks.server_process import ServerError, ServerProcess
from benchmarks.soak_user import draw_visit
from gamt import Session, segmenters
from gamt.segmenters import Segmenter

MINUTES, CLIENTS = 20.0, 8
"""How long the users work, and how many at once."""

ANSWER_SECONDS = 60.0
"""The client gives up then, if it isn't told otherwise."""

REFERENCE_MINUTES = 5.0
"""The server's memory at the end is held against that at this time, or after a quarter of all."""

MEMORY_CHANGE = 0.1
"""Share by which it may differ."""

KILL_SECONDS = 8.0
"""Between two users that are killed, on average."""

SAMPLE_SECONDS = 0.5
"""Between two looks at the server's memory."""

LIVENESS_SECONDS = 15
"""Silence after which the server takes back a place; the client gives a sign of life every 7.5."""

VERIFY_SHARE = 0.25
"""Images are segmented again for this share of the time that the users worked."""

OPTIONS = (
    *("--max-sessions", str(CLIENTS), "--liveness-timeout-seconds", str(LIVENESS_SECONDS)),
    *("--set", "cache_mb=4"),  # these images' slices are small: it is full after a few minutes
)
"""Of the server."""

STAND_IN = "benchmarks.stand_in:quick"
"""The segmenter that encodes."""


@dataclass(slots=True)
class SoakRun:
    """What came of it.

    Attributes:
        minutes: that the users worked.
        killed: users.
        full: how often a new one was told to wait.
        expired: sessions that ended under a living user.
        errors: ends of users, and of the server, that nothing in the protocol explains.
        answers: of all steps, by the image's seed; the last ones may have been cut short.
        longest_seconds: until a step was answered.
        memory: seconds since the start, and bytes that the server held.
        free_places: of the server, after all users had gone.
        verified: images that were segmented again.
        verified_steps: steps of these.
        differing: seeds of those where a mask was not the same.
    """

    minutes: float
    killed: int = 0
    full: int = 0
    expired: int = 0
    errors: list[str] = field(default_factory=list)
    answers: dict[int, list[str]] = field(default_factory=dict)
    longest_seconds: float = 0.0
    memory: list[tuple[float, int]] = field(default_factory=list)
    free_places: int = 0
    verified: int = 0
    verified_steps: int = 0
    differing: list[int] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps were answered."""
        return sum(len(answers) for answers in self.answers.values())

    @property
    def refused(self) -> int:
        """How many of them were called an error of the user's."""
        return sum(answers.count("refused") for answers in self.answers.values())

    def memory_levels(self) -> tuple[float, float]:
        """Returns the server's memory at the reference time and at the end, in bytes.

        Each is the median over a twentieth of the time.
        """
        seconds, held = np.array(self.memory, float).T
        span = self.minutes * 60 / 20
        reference = min(REFERENCE_MINUTES, self.minutes / 4) * 60
        around = held[(seconds >= reference) & (seconds < reference + span)]
        return float(np.median(around)), float(np.median(held[seconds >= seconds[-1] - span]))


class Users:
    """The processes of the users, whose journals are in a folder."""

    def __init__(self, url: str, folder: Path, count: int, rng: np.random.Generator) -> None:
        """Starts them; their seeds are random."""
        self._folder = folder
        self._url = url
        self._rng = rng
        self._processes = [self._start() for _ in range(count)]

    def _start(self) -> tuple[subprocess.Popen[bytes], Path]:
        seed = int(self._rng.integers(2**31))
        printed = self._folder / f"{seed}.txt"
        with printed.open("wb") as file:
            command = [sys.executable, "-m", "benchmarks.soak_user", self._url, str(seed)]
            journal = str(self._folder / f"{seed}.jsonl")
            return subprocess.Popen([*command, journal], stdout=file, stderr=file), printed

    def replace(self, index: int) -> None:
        """Kills one, and starts another in its place."""
        process, _ = self._processes[index]
        process.kill()
        process.wait()
        self._processes[index] = self._start()

    def errors(self) -> list[str]:
        """Returns how those ended that were not to, and their last words."""
        return [
            f"exit status {process.poll()}: {printed.read_text(errors='replace').strip()[-500:]}"
            for process, printed in self._processes
            # One that is asked to end before it can listen is ended by the signal.
            if process.poll() not in (None, 0, -signal.SIGTERM)
        ]

    def stop(self, seconds: float) -> None:
        """Asks all to end; those who don't are killed."""
        for process, _ in self._processes:
            process.terminate()
        latest = time.monotonic() + seconds
        for process, _ in self._processes:
            try:
                process.wait(max(0.0, latest - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run_soak(
    minutes: float,
    clients: int,
    seed: int,
    folder: Path,
    kill_seconds: float = KILL_SECONDS,
    encodes: bool = False,
) -> SoakRun:
    """Runs a server and its users, and then looks at what came of it.

    Args:
        minutes: that the users work.
        clients: how many at once.
        seed: of all that is random, but for what the machine makes of it.
        folder: for journals; empty.
        kill_seconds: between two users that are killed, on average.
        encodes: whether the segmenter encodes slices, which are stored in the folder too.
    """
    stored = ("--segmenter", STAND_IN, "--cache", str(folder / "encoded")) if encodes else ()
    rng = np.random.default_rng(seed)
    run = SoakRun(minutes)
    with ServerProcess(folder / "server.txt", (*OPTIONS, *stored)) as server:
        users = Users(server.url, folder, clients, rng)
        start = time.monotonic()
        next_kill = rng.exponential(kill_seconds)
        try:
            while not users.errors() and (now := time.monotonic() - start) < minutes * 60:
                run.memory.append((now, server.resident_bytes))
                if now >= next_kill:
                    users.replace(int(rng.integers(clients)))
                    run.killed += 1
                    next_kill += rng.exponential(kill_seconds)
                time.sleep(SAMPLE_SECONDS)
        except ServerError as error:
            run.errors.append(str(error))
        finally:
            run.minutes = (time.monotonic() - start) / 60
            users.stop(ANSWER_SECONDS)
        run.errors += users.errors()
        if server.is_alive:
            run.free_places = count_free_places(server.url)
    read_journals(run, folder)
    verify(run, rng, segmenters.load(STAND_IN if encodes else segmenters.DEFAULT))
    return run


def count_free_places(url: str) -> int:
    """Returns how many places a server has, once the longest silence is over."""
    latest = time.monotonic() + 3 * LIVENESS_SECONDS
    with httpx.Client(base_url=url) as client:
        tokens: list[str] = []
        while len(tokens) < CLIENTS and time.monotonic() < latest:
            answer = client.post("/claim")
            if answer.status_code == HTTPStatus.OK:
                tokens.append(answer.json()["lease_token"])
            else:
                time.sleep(0.5)
            for token in tokens:  # none may run out while the others are waited for
                client.post("/heartbeat", json={}, headers={"X-Lease-Token": token})
        for token in tokens:
            client.post("/release", headers={"X-Lease-Token": token})
    return len(tokens)


def read_journals(run: SoakRun, folder: Path) -> None:
    """Adds what the users wrote."""
    for journal in sorted(folder.glob("*.jsonl")):
        answers: list[str] = []
        for line in journal.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # killed as it wrote
            if "visit" in entry:
                answers = run.answers.setdefault(entry["visit"], [])
            elif "answer" in entry:
                answers.append(entry["answer"])
                run.longest_seconds = max(run.longest_seconds, entry["seconds"])
            elif entry["event"] == "full":
                run.full += 1
            else:
                run.expired += 1


def verify(run: SoakRun, rng: np.random.Generator, segmenter: Segmenter) -> None:
    """Segments a random sample of the images again, in this process, by the same segmenter."""
    latest = time.monotonic() + VERIFY_SHARE * run.minutes * 60
    for seed in rng.permutation(sorted(run.answers)).tolist():
        if time.monotonic() > latest:
            break
        expected = run.answers[seed]
        found = [
            one
            for _, (one, _) in zip(
                expected, draw_visit(seed).answers(Session(segmenter)), strict=False
            )
        ]
        run.verified += 1
        run.verified_steps += len(expected)
        if found != expected:
            run.differing.append(seed)


def soak_bars(run: SoakRun) -> list[Bar]:
    """Holds what came of it to the bars."""
    reference, end = run.memory_levels()
    change = end / reference - 1
    users = f"{run.killed} users killed, {run.full} times full, {run.expired} expired"
    sample = (
        f"{run.verified} of {len(run.answers)} images, {run.verified_steps} of {run.steps} masks"
    )
    return [
        Bar(
            "Answers that the protocol does not name",
            f"{len(run.errors)} of {run.steps} ({run.refused} refused; {users})",
            "0",
            not run.errors and run.steps > 0,
        ),
        at_most(
            "Longest answer", run.longest_seconds, ANSWER_SECONDS, "the client waits no longer"
        ),
        Bar(
            "Server's memory, end against minute 5",
            f"{change:+.1%} ({reference / 2**20:.0f} MiB, {end / 2**20:.0f} MiB)",
            f"within {MEMORY_CHANGE:.0%}",
            abs(change) <= MEMORY_CHANGE,
        ),
        Bar(
            "Places free in the end", str(run.free_places), str(CLIENTS), run.free_places == CLIENTS
        ),
        Bar(
            "Images of a sample whose masks differ in process",
            f"{len(run.differing)} (looked at: {sample})",
            "0",
            not run.differing and run.verified > 0,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="(%(default)g)")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="at once (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all prompts (%(default)s)")
    parser.add_argument("--encodes", action="store_true", help="with a segmenter that encodes")
    options = parser.parse_args(arguments)
    console = Console()
    console.print(describe_machine())
    with tempfile.TemporaryDirectory() as folder, console.status("Users at work"):
        run = run_soak(
            options.minutes,
            options.clients,
            options.seed,
            Path(folder),
            encodes=options.encodes,
        )
    for error in run.errors:
        console.print(error, markup=False)
    if run.differing:
        console.print(f"images that differ: seeds {run.differing}")
    return print_bars(f"Bars: {options.minutes:g} minutes of soak", soak_bars(run), console)


if __name__ == "__main__":
    sys.exit(main())
