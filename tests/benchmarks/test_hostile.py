"""Spoilt requests, and what has to come of them."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.attacks import Attack, draw_attack
from benchmarks.hostile import (
    HostileRun,
    Outcome,
    hostile_bars,
    run_hostile,
    run_without_key,
)


def test_a_request_of_a_seed_is_always_the_same() -> None:
    assert draw_attack(3, 14) == draw_attack(3, 14)
    assert len({draw_attack(3, number).as_bytes("") for number in range(20)}) > 15


def test_a_request_says_how_long_its_body_is() -> None:
    request = Attack("", "/undo", b"{}", (b"X-Lease-Token: TOKEN",)).as_bytes("t0")
    expected = b"Host: localhost\r\nConnection: close\r\nContent-Length: 2\r\nX-Lease-Token: t0"
    assert request == b"POST /undo HTTP/1.1\r\n" + expected + b"\r\n\r\n{}"


@pytest.mark.parametrize(
    ("outcome", "refused"),
    [
        (Outcome(400), True),
        (Outcome(410), True),
        (Outcome(500), False),
        (Outcome(None), False),
        (Outcome(200, b"{}"), False),
        (Outcome(200, b"NNIA"), False),
        (Outcome(200, b'{"status": "ok"}'), False),
        (Outcome(200, b'{"status": "error", "message": "found ..."}'), True),
    ],
)
def test_either_protocol_has_its_way_to_refuse(outcome: Outcome, refused: bool) -> None:
    assert outcome.is_refusal is refused


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, 0),
        ({"failures": ["7 (JSON: deep, /undo): 500"]}, 1),
        ({"most_bytes": 500 * 2**20}, 1),
        ({"slow": Counter({408: 7, None: 1})}, 1),
        ({"slow": Counter()}, 1),
        ({"is_useful": False}, 1),
    ],
)
def test_each_bar_is_missed_by_what_it_is_about(changes: dict[str, object], missed: int) -> None:
    met = HostileRun(
        statuses={"JSON: deep": Counter({400: 9})},
        first_bytes=100 * 2**20,
        most_bytes=120 * 2**20,
        slow=Counter({408: 8}),
        slow_bodies=8,
        is_useful=True,
    )
    for name, value in changes.items():
        setattr(met, name, value)
    assert sum(bar.met is False for bar in hostile_bars(met, [])) == missed


@pytest.mark.slow
def test_spoilt_requests_are_refused(tmp_path: Path) -> None:
    run = run_hostile(range(200), 1, tmp_path, slow_bodies=1)
    assert run.failures == []
    assert [bar.name for bar in hostile_bars(run, []) if not bar.met] == []


@pytest.mark.slow
def test_a_server_with_a_key_refuses_those_who_have_not_got_it(tmp_path: Path) -> None:
    assert run_without_key(tmp_path) == []
