"""Random users of a server."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak import CLIENTS, SoakRun, read_journals, run_soak, soak_bars, verify
from benchmarks.soak_user import draw_visit
from gamt import Session, segmenters


def test_a_visit_follows_from_its_seed() -> None:
    one, again, other = draw_visit(7), draw_visit(7), draw_visit(8)
    np.testing.assert_array_equal(one.image, again.image)
    assert [step.kind for step in one.steps] == [step.kind for step in again.steps]
    assert one.image.shape != other.image.shape or (one.image != other.image).any()


def test_users_make_use_of_everything() -> None:
    steps = [step for seed in range(60) for step in draw_visit(seed).steps]
    kinds = {"point", "box", "scribble", "lasso", "initial", "predict", "undo", "reset"}
    assert {step.kind for step in steps} == kinds
    assert {step.positive for step in steps} == {True, False}


def test_answers_are_read_from_what_a_killed_user_left(tmp_path: Path) -> None:
    answer = '{"answer": "aa", "seconds": 0.5}'
    lines = ['{"event": "full"}', '{"visit": 5}', answer, '{"visit": 6}', '{"ans']
    (tmp_path / "1.jsonl").write_text("\n".join(lines))
    run = SoakRun(1.0)
    read_journals(run, tmp_path)
    assert run.answers == {5: ["aa"], 6: []}
    assert run.full == 1
    assert run.longest_seconds == 0.5


def test_another_mask_than_in_process_is_found() -> None:
    right = [answer for answer, _ in draw_visit(3).answers(Session())]
    run = SoakRun(1.0, answers={3: right})
    verify(run, np.random.default_rng(0), segmenters.load())
    assert (run.verified, run.differing) == (1, [])
    run = SoakRun(1.0, answers={3: [*right[:-1], "another"]})
    verify(run, np.random.default_rng(0), segmenters.load())
    assert run.differing == [3]


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, 0),
        ({"errors": ["HTTPStatusError: 500"]}, 1),
        ({"memory": [(second, (100 + second) * 2**20) for second in range(60)]}, 1),
        ({"free_places": CLIENTS - 1}, 1),
        ({"longest_seconds": 61.0}, 1),
        ({"differing": [3]}, 1),
    ],
)
def test_each_bar_is_missed_by_what_it_is_about(changes: dict[str, object], missed: int) -> None:
    run = SoakRun(
        1.0,
        answers={3: ["aa"]},
        memory=[(second, 100 * 2**20) for second in range(60)],
        free_places=CLIENTS,
        verified=1,
        verified_steps=1,
    )
    for name, value in changes.items():
        setattr(run, name, value)
    assert sum(bar.met is False for bar in soak_bars(run)) == missed


def test_a_few_images_are_large() -> None:
    voxels = [draw_visit(seed).image.size for seed in range(60)]
    assert 1 <= sum(n > 1_000_000 for n in voxels) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("encodes", [False, True])
def test_a_server_bears_random_users(tmp_path: Path, encodes: bool) -> None:
    run = run_soak(0.7, clients=3, seed=1, folder=tmp_path, kill_seconds=15, encodes=encodes)
    assert any((tmp_path / "encoded").rglob("*")) is encodes
    assert run.errors == []
    assert run.steps > 0
    assert run.verified > 0
    assert run.differing == []
    assert run.free_places == CLIENTS
