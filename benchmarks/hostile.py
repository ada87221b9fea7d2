"""Sends a server what no client would send, and looks at how it bears it.

    python -m benchmarks.hostile [--requests 2000] [--seed 0] [--only N]

Sessions of protocol v2 and of the legacy protocol are open. What they could have sent is spoilt at
random (`benchmarks.attacks`): frames, JSON, X-Meta, methods and headers, forms. Every answer has to
refuse it (4xx; the legacy protocol says so in an answer of 200), but for what is still right after
all. Bodies are announced that don't come. Sessions are given back while their images are still
being sent, and one sends many masks at once, small on the wire. A server with a key is asked
without it. In the end the server has to be as useful as before, and its memory never much larger.
Prints every bar with the figure measured beside it; the exit code is 1 where one is missed.
Request N of a seed is always the same; --only N sends it alone.
"""

import argparse
import contextlib
import http.client
import json
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.attacks import (
    BINARY,
    BODIES,
    FORM,
    JSON_HEADERS,
    Attack,
    draw_attack,
    draw_image,
    form_of,
    npy_of,
)
from benchmarks.bench import Bar, new_table, print_bars
from benchmarks.interaction import describe_machine
from benchmarks.server_process import ServerError, ServerProcess
from gamt.server import frames

REQUESTS = 2000
"""How many are sent."""

SLOW_BODIES = 8
"""How many bodies are announced that don't come."""

SLOW_SECONDS = 60.0
"""By then the server has given up on them."""

GROWTH_MIB = 256
"""Most memory, in MiB, that the server takes at any time beyond the most that it had taken until
both sessions were open."""

LEFT_UPLOADS, LEFT_MIB = 20, 25
"""Images whose sessions are given back while they are sent, and how much has come of each by then:
twice `GROWTH_MIB`, if it were kept."""

MASKS, MASK_SHAPE = 100, (32, 256, 256)
"""Masks that are sent at once, and their shape: 2 MiB of zeros in less than 100 bytes."""

REPAIR_EVERY = 25
"""After so many requests both sessions are begun anew: some that were still right change them."""

KEY = "a key for this server"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request.

    Attributes:
        status: of the answer; None if there was none.
        body: of the answer.
    """

    status: int | None
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.status} {self.body[:200]!r}"

    @property
    def is_refusal(self) -> bool:
        """Whether the request was refused in a way that the protocols know."""
        if self.status == 200:  # the legacy protocol's way
            try:
                return bool(json.loads(self.body)["status"] == "error")
            except (ValueError, KeyError, TypeError):
                return False
        return self.status is not None and 400 <= self.status < 500


def send(port: int, request: bytes, timeout: float = SLOW_SECONDS) -> Outcome:
    """Sends bytes, and waits for an answer, also where the server doesn't want to read them all."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        with contextlib.suppress(OSError):  # there may be an answer all the same
            connection.sendall(request)
        return receive(connection, request.partition(b" ")[0].decode("latin-1"))


def receive(connection: socket.socket, method: str) -> Outcome:
    """Waits for the answer to a request."""
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        return Outcome(response.status, response.read())
    except (OSError, http.client.HTTPException):
        return Outcome(None)


class Sessions:
    """A session of either protocol on one server, for requests to spoil."""

    def __init__(self, server: ServerProcess) -> None:
        """Takes the places, and sends both images."""
        self._port = server.port
        self.token = self.claim()
        self.begin_anew()

    def claim(self) -> str:
        """Takes one more place; returns its token."""
        return str(json.loads(self._send(Attack("claim", "/claim")).body)["lease_token"])

    def begin_anew(self) -> None:
        """Sends both images, and a click on each.

        Raises:
            ServerError: the server doesn't do as it should.
        """
        image = draw_image()
        frame, buffer = frames.pack(image[None]), json.dumps(BODIES["/set_target_buffer"]).encode()
        point = json.dumps(BODIES["/add_point_interaction"]).encode()
        self._send(Attack("image", "/set_image", frame, BINARY))
        self._send(Attack("buffer", "/set_target_buffer", buffer, JSON_HEADERS))
        self._send(Attack("click", "/add_point_interaction", point, JSON_HEADERS))
        self._send(Attack("old image", "/upload_image", form_of(npy_of(image)), FORM))
        point = b'{"voxel_coord": [2, 6, 9], "positive_click": true}'
        self._send(Attack("old click", "/add_point_interaction", point, JSON_HEADERS[1:]))

    def _send(self, request: Attack) -> Outcome:
        outcome = send(self._port, request.as_bytes(getattr(self, "token", "")))
        if outcome.status != 200 or outcome.is_refusal:
            raise ServerError(f"{request.name}, which is right: {outcome}")
        return outcome


@dataclass(slots=True)
class HostileRun:
    """What came of all requests.

    Attributes:
        statuses: how often which status came, by what was wrong.
        failures: what was answered wrongly, or not at all.
        first_bytes: the most memory that the server had taken until both sessions were open.
        most_bytes: the most that it had taken in the end.
        slow: what came of bodies that didn't come.
        slow_bodies: how many of them there were.
        is_useful: whether the server still does as it should in the end.
    """

    statuses: dict[str, Counter[int | None]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    first_bytes: int = 0
    most_bytes: int = 0
    slow: Counter[int | None] = field(default_factory=Counter)
    slow_bodies: int = 0
    is_useful: bool = False

    def note(self, name: str, outcome: Outcome, is_right: bool, which: str = "") -> None:
        """Counts an answer; `which` tells its request from others of the same name."""
        self.statuses.setdefault(name, Counter())[outcome.status] += 1
        if not is_right:
            self.failures.append(f"{name} ({which}): {outcome}")


def run_hostile(
    numbers: Sequence[int], seed: int, folder: Path, slow_bodies: int = SLOW_BODIES
) -> HostileRun:
    """Starts a server, and sends it requests of a seed.

    Args:
        numbers: of the requests.
        seed: of the requests.
        folder: for what the server prints.
        slow_bodies: how many bodies are announced that don't come.
    """
    run = HostileRun(slow_bodies=slow_bodies)
    options = ("--max-sessions", str(3 + slow_bodies), "--log-level", "error")
    with ServerProcess(folder / "server.txt", options) as server:
        sessions = Sessions(server)
        run.first_bytes = server.peak_bytes
        slow = [
            threading.Thread(target=send_slowly, args=(server.port, sessions.claim(), run.slow))
            for _ in range(slow_bodies)
        ]
        for thread in slow:
            thread.start()
        try:
            for count, number in enumerate(track(numbers, "Requests", transient=True)):
                if count % REPAIR_EVERY == 0:
                    sessions.begin_anew()
                attack = draw_attack(seed, number)
                outcome = send(server.port, attack.as_bytes(sessions.token))
                is_right = outcome.is_refusal or (attack.may_pass and outcome.status == 200)
                run.note(attack.name, outcome, is_right, f"{number}, {attack.path}")
            for outcome in leave_uploads(server.port, sessions):
                run.note("a session given back", outcome, is_right=outcome.status == 410)
            for outcome in send_masks(server.port, sessions.claim()):
                run.note("masks of zeros", outcome, is_right=outcome.is_refusal)
            for thread in slow:
                thread.join()
            sessions.begin_anew()
            run.is_useful = True
            run.most_bytes = server.peak_bytes
        except (ServerError, OSError) as error:
            run.failures.append(f"{type(error).__name__}: {error}; {server.last_lines()}")
    return run


def send_slowly(port: int, token: str, statuses: Counter[int | None]) -> None:
    """Announces a body, sends a part of it, and waits."""
    announced = Attack("slow", "/set_image", b"NNIA", BINARY, length=b"100000")
    statuses[send(port, announced.as_bytes(token)).status] += 1


def leave_uploads(port: int, sessions: Sessions) -> list[Outcome]:
    """Gives sessions back while their images are being sent, and goes on sending."""
    begun = (
        frames.pack(np.zeros((1, 1, 1, 1), np.uint8))[:13]
        + np.array([1, 1, 1024, 2**10 * 2 * LEFT_MIB], "<i8").tobytes()
    )
    part = bytes(2**20)
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(LEFT_UPLOADS):
            token = sessions.claim()
            length = str(2 * LEFT_MIB * 2**20).encode()
            request = Attack("", "/set_image", begun, BINARY, length=length).as_bytes(token)
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), SLOW_SECONDS)
            )
            connection.sendall(request + part * LEFT_MIB)
            send(port, Attack("", "/release", b"{}", JSON_HEADERS).as_bytes(token))
            with contextlib.suppress(OSError):  # the server need not take it
                connection.sendall(part)
            connections.append(connection)
        return [receive(connection, "POST") for connection in connections]


def send_masks(port: int, token: str) -> list[Outcome]:
    """Sends many masks at once, half of a type that makes them eight times as large."""
    image = frames.pack(np.zeros((1, *MASK_SHAPE), np.uint8))
    buffer = json.dumps({"shape": MASK_SHAPE, "dtype": "uint8"}).encode()
    send(port, Attack("", "/set_image", image, BINARY).as_bytes(token))
    send(port, Attack("", "/set_target_buffer", buffer, JSON_HEADERS).as_bytes(token))
    headers = (*BINARY, b'X-Meta: {"include_interaction": true}')
    requests = [
        Attack("", "/add_scribble_interaction", frames.pack(np.zeros(MASK_SHAPE, kind)), headers)
        for kind in (np.uint8, np.float64)
    ]
    with ThreadPoolExecutor(MASKS) as pool:
        texts = [requests[number % 2].as_bytes(token) for number in range(MASKS)]
        return list(pool.map(lambda text: send(port, text), texts))


def run_without_key(folder: Path) -> list[str]:
    """Asks a server with a key for everything, without it and with others.

    Returns:
        What was answered wrongly.
    """
    wrong = []
    keys: tuple[tuple[bytes, ...], ...] = (
        (),
        (b"Authorization: Bearer",),
        (b"Authorization: Bearer ",),
        (b"Authorization: Bearer " + KEY[:-1].encode(),),
        (b"Authorization: Bearer " + KEY.encode() + b"x",),
        (b"Authorization: Bearer \xff\xfe",),
        (b"Authorization: Basic " + KEY.encode(),),
        (b"Authorization: " + b"x" * 5000,),
    )
    requests = [
        *(Attack("", path, json.dumps(body).encode()) for path, body in BODIES.items()),
        *(Attack("", path, b"{}") for path in ("/claim", "/release", "/heartbeat", "/undo")),
        *(Attack("", path, b"NNIA") for path in ("/set_image", "/add_lasso_interaction")),
        Attack("", "/capabilities", method=b"GET"),
        Attack("", "/lease_status", method=b"GET"),
        Attack("", "/metrics", method=b"GET"),
        Attack("", "/upload_image", form_of(npy_of(draw_image())), FORM),
    ]
    with ServerProcess(folder / "key.txt", ("--api-key", KEY)) as server:
        for request in requests:
            for key in keys:
                attack = replace(request, headers=(*request.headers, *key))
                outcome = send(server.port, attack.as_bytes(""))
                is_legacy = request.path == "/upload_image" and not key
                if outcome.status != (200 if is_legacy else 401) or not outcome.is_refusal:
                    wrong.append(f"{request.path}, {key}: {outcome}")
    return wrong


def hostile_bars(run: HostileRun, without_key: Sequence[str]) -> list[Bar]:
    """Holds what came of it to the bars."""
    total = sum(count.total() for count in run.statuses.values())
    growth = (run.most_bytes - run.first_bytes) / 2**20
    slow = ", ".join(f"{number} x {status}" for status, number in run.slow.items())
    return [
        Bar(
            "Spoilt requests that are not refused",
            f"{len(run.failures)} of {total}",
            "0",
            not run.failures and total > 0,
        ),
        Bar(
            "Growth of the server's memory, at its peak",
            f"{growth:.0f} MiB (from {run.first_bytes / 2**20:.0f} MiB)",
            f"<= {GROWTH_MIB} MiB",
            growth <= GROWTH_MIB,
        ),
        Bar(
            "Answers to bodies that do not come",
            slow,
            f"{run.slow_bodies} x 408",
            run.slow == Counter({408: run.slow_bodies}),
        ),
        Bar("Works as before in the end", "yes" if run.is_useful else "no", "yes", run.is_useful),
        Bar("No key, wrong key: not refused", str(len(without_key)), "0", not without_key),
    ]


def print_statuses(run: HostileRun, console: Console) -> None:
    """Prints what was answered to what."""
    grid = new_table("Answers", "What was wrong", "Status x requests")
    for name, counts in sorted(run.statuses.items()):
        listed = (f"{status} x {number}" for status, number in sorted(counts.items(), key=str))
        grid.add_row(name, ", ".join(listed))
    console.print(grid)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=int, default=REQUESTS, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all requests (%(default)s)")
    parser.add_argument("--only", type=int, metavar="N", help="sends one of them")
    options = parser.parse_args(arguments)
    console = Console()
    console.print(describe_machine())
    numbers = range(options.requests) if options.only is None else [options.only]
    with tempfile.TemporaryDirectory() as folder:
        run = run_hostile(numbers, options.seed, Path(folder))
        without_key = run_without_key(Path(folder))
    print_statuses(run, console)
    for failure in (*run.failures, *without_key):
        console.print(failure, markup=False)
    return print_bars("Bars: hostile", hostile_bars(run, without_key), console)


if __name__ == "__main__":
    sys.exit(main())
