"""What an evaluation will take, from hand-made cases whose times are known."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.index import Entry, open_index
from evaluation.listing import Listed
from evaluation.plan import PlanError, Standing, make_plan, simulate
from evaluation.records import TeamFolder
from tests.evaluation.test_run import evaluate, write_case


def make_standing(
    folder: Path, measured: dict[int, float], todo: list[int], image_bytes: int = 10
) -> Standing:
    """Cases of one class by their voxels; of those that are measured the seconds."""
    entries = [
        Entry(f"{voxels}", "", voxels, 1, seconds, 6, 60 * voxels, True, (0.0,) * 4)
        for voxels, seconds in measured.items()
    ]
    missing = [Listed(f"{voxels}", image_bytes, 0, "") for voxels in todo]
    done = [Listed(f"{voxels}", image_bytes, 0, "") for voxels in measured]
    sizes = np.array([(voxels, 1, 6) for voxels in todo], np.float64).reshape(-1, 3)
    return Standing(folder, TeamFolder(folder), [*done, *missing], missing, entries, sizes)


def test_cases_to_do_take_as_long_as_those_of_their_size(tmp_path: Path) -> None:
    # 6 s for each run, and 0.1 s for each voxel: 6 * 1 + 0.1 * 100 = 16 s and so on.
    measured = {100: 16.0, 200: 26.0, 300: 36.0, 500: 56.0}
    plan = make_plan(make_standing(tmp_path, measured, [400, 900]), [1, 2])
    assert (plan.total, plan.done, plan.todo, plan.measured) == (6, 4, 2, 4)
    assert plan.seconds == pytest.approx(46 + 96)
    assert plan.wall_seconds == pytest.approx({1: 142, 2: 96})
    assert plan.seconds_a_case == pytest.approx((16 + 26 + 36 + 56) / 4)
    assert plan.seconds_an_interaction == pytest.approx((16 + 26 + 36 + 56) / 24)


def test_disk_and_network_follow_from_files_and_from_what_was_written(tmp_path: Path) -> None:
    # 60 bytes were written for each voxel of six runs, and neither record nor log is there.
    plan = make_plan(make_standing(tmp_path, {100: 1.0}, [200, 300], image_bytes=1000))
    assert plan.case_bytes == 2000
    assert plan.result_bytes == 60 * 500
    # The largest case: its copy and the input of a run; its outputs, and all of them together.
    assert plan.work_bytes == 2 * 1000 + 2 * 60 * 300
    # A copy of each case, six inputs of it, six outputs, and the results.
    assert plan.traffic_bytes == 2 * 7 * 1000 + 2 * 60 * 500


def test_records_and_logs_count_as_results(tmp_path: Path) -> None:
    standing = make_standing(tmp_path, {100: 1.0}, [100, 100])
    for path in (standing.folder.record_file("100"), standing.folder.log_file("100")):
        path.parent.mkdir()
        path.write_bytes(b"." * 500)
    assert make_plan(standing).result_bytes == 2 * (60 * 100 + 1000)


def test_without_other_wishes_walls_are_told_for_powers_of_two(tmp_path: Path) -> None:
    plan = make_plan(make_standing(tmp_path, {100: 1.0}, [100] * 3))
    assert list(plan.wall_seconds) == [1, 2, 4, 8, 16, 32, 64]


def test_nothing_to_do_takes_nothing(tmp_path: Path) -> None:
    plan = make_plan(make_standing(tmp_path, {100: 1.0}, []), [1, 2])
    assert (plan.todo, plan.seconds, plan.case_bytes, plan.work_bytes) == (0, 0.0, 0, 0)
    assert plan.wall_seconds == {1: 0.0, 2: 0.0}


def test_nothing_is_said_where_nothing_was_measured(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"no case is measured; --sample N measures"):
        make_plan(make_standing(tmp_path, {}, [100]))


def test_the_worker_that_is_free_first_takes_the_next_case() -> None:
    # 5 | 4; the second is free at 4 and takes the 3, the first at 5 and takes the 3, the second
    # at 7 and takes the 2.
    assert simulate([5, 4, 3, 3, 2], 2) == 9
    assert simulate([5, 4, 3, 3, 2], 10) == 5
    assert simulate([], 3) == 0


def test_of_many_cases_the_last_fill_what_is_free() -> None:
    # 100,000 s and 200,000 halves of a second: 200,000 s in all.
    assert simulate([1.0] * 100_000 + [0.5] * 200_000, 64) == pytest.approx(200_000 / 64, abs=1)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=40), st.integers(1, 20))
def test_no_plan_is_shorter_than_the_longest_case_or_than_a_fair_share(
    seconds: list[float], workers: int
) -> None:
    wall = simulate(sorted(seconds, reverse=True), workers)
    least = max(*seconds, sum(seconds) / workers, 0.0)
    assert least - 1e-6 <= wall <= sum(seconds) / workers + max(seconds) + 1e-6


def test_a_sample_is_spread_over_the_sizes(tmp_path: Path) -> None:
    todo = [*range(1, 101)]
    np.random.default_rng(0).shuffle(todo)
    chosen = make_standing(tmp_path, {}, todo).choose_sample(4)
    # Four quarters of a hundred cases, and of each the one in its middle.
    assert sorted(map(int, chosen)) == [13, 38, 63, 88]


def test_a_sample_has_no_more_cases_than_there_are(tmp_path: Path) -> None:
    assert make_standing(tmp_path, {}, [1, 2]).choose_sample(9) == {"1", "2"}
    assert make_standing(tmp_path, {}, []).choose_sample(9) == set()


def test_a_standing_tells_what_is_done_and_measured(tmp_path: Path) -> None:
    cases, team = tmp_path / "cases", tmp_path / "team"
    cases.mkdir()
    for number in range(3):
        write_case(cases / f"CT_{number}.npz", number)
    folder = TeamFolder(team)
    assert len(Standing.read(cases, None, folder).todo) == 3
    evaluate(cases, team, only=["CT_1.npz", "CT_2.npz"])
    standing = Standing.read(cases, None, folder)
    assert [one.case for one in standing.todo] == ["CT_0.npz"]
    assert [one.case for one in standing.measured] == ["CT_1.npz", "CT_2.npz"]
    assert standing.sizes.tolist() == [[6 * 10 * 14, 2, 6]]
    assert [one.voxels for one in standing.measured] == [6 * 11 * 14, 6 * 12 * 14]
    # Of what the index doesn't know, the records tell.
    folder.index_file.unlink()
    with open_index(folder.index_file) as index:
        index.add(standing.measured[0])
    assert Standing.read(cases, None, folder).measured == standing.measured


def test_what_was_sampled_is_not_done_again(tmp_path: Path) -> None:
    cases, team = tmp_path / "cases", tmp_path / "team"
    cases.mkdir()
    for number in range(5):
        write_case(cases / f"CT_{number}.npz", number)
    chosen = Standing.read(cases, None, TeamFolder(team)).choose_sample(2)
    evaluate(cases, team, only=chosen)
    assert TeamFolder(team).recorded() == chosen
    assert evaluate(cases, team).todo == 5 - len(chosen)
