"""Parts of an evaluation: each case is in one of them, and merged they are as one run."""

import errno
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from evaluation import shards
from evaluation.index import read_index
from evaluation.leaderboard import write_leaderboard
from evaluation.listing import Listed
from evaluation.records import BusyError, RecordError, TeamFolder
from evaluation.run import RunError
from evaluation.shards import Shard, ShardError, find_sharded_teams, find_shards, merge_shards
from tests.evaluation.test_run import evaluate, scores, write_case


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Five small cases; the method writes nothing for one of them at first."""
    folder = tmp_path / "cases"
    folder.mkdir()
    for number, name in enumerate(("CT_a", "CT_b", "MR_phantom", "PET_d", "US_e")):
        write_case(folder / f"{name}.npz", number)
    return folder


def run(cases: Path, out: Path, *parts: str, **options: Any) -> int:
    """Evaluates shards; returns how many cases were theirs."""
    return sum(evaluate(cases, out, shard=Shard.parse(one), **options).total for one in parts)


def contents(team: Path) -> dict[str, bytes]:
    """What is in a team's folder, without times, locks and the index's order."""
    paths = [one for one in team.rglob("*") if one.is_file() and one.suffix in (".npz", ".txt")]
    return {os.fspath(one.relative_to(team)): one.read_bytes() for one in paths}


def names(team: Path) -> list[str]:
    return sorted(one.name for one in (team / "records").iterdir())


listed = st.lists(
    st.builds(
        Listed,
        case=st.text(min_size=1, max_size=5),
        image_bytes=st.integers(0, 10**10),
        gts_bytes=st.integers(0, 10**6),
        stamp=st.just(""),
    ),
    max_size=30,
    unique_by=lambda one: one.case,
)


@given(listed, st.integers(1, 12))
def test_shards_are_a_partition(cases: list[Listed], count: int) -> None:
    parts = [Shard(number, count).choose(cases) for number in range(1, count + 1)]
    assert sorted(one.case for part in parts for one in part) == sorted(one.case for one in cases)


@given(listed, st.integers(1, 12), st.randoms())
def test_a_shard_does_not_depend_on_the_order_in_which_a_folder_is_listed(
    cases: list[Listed], count: int, random: Any
) -> None:
    shuffled = [*cases]
    random.shuffle(shuffled)
    assert Shard(1, count).choose(cases) == Shard(1, count).choose(shuffled)


@given(listed, st.integers(1, 12))
def test_shards_are_as_large_but_for_one_case(cases: list[Listed], count: int) -> None:
    parts = [Shard(number, count).choose(cases) for number in range(1, count + 1)]
    sizes = [sum(one.bytes for one in part) for part in parts]
    assert max(sizes) - min(sizes) <= max((one.bytes for one in cases), default=0)
    counts = [len(part) for part in parts]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "1/3/5", "-1/3", "", "1 / 3"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ShardError, match=r"expected I/N, such as 1/8"):
        Shard.parse(text)


def test_merged_shards_are_as_one_run(cases: Path, tmp_path: Path) -> None:
    evaluate(cases, tmp_path / "whole" / "team")
    team = tmp_path / "parts" / "team"
    assert run(cases, team, "2/3", "1/3", "3/3") == 5
    merged = merge_shards(TeamFolder(team))
    assert (merged.moved, merged.total, merged.missing, merged.busy) == (5, 5, {}, [])
    whole = tmp_path / "whole" / "team"
    assert scores(team).to_csv() == scores(whole).to_csv()
    assert contents(team) == contents(whole)
    assert read_index(team / "index.jsonl").keys() == read_index(whole / "index.jsonl").keys()
    first, second = TeamFolder(team).settings(), TeamFolder(whole).settings()
    assert first | {"started": ""} == second | {"started": ""}
    assert not (team / "shards").exists()


def test_a_run_goes_on_after_shards_were_merged(cases: Path, tmp_path: Path) -> None:
    team = tmp_path / "team"
    run(cases, team, "1/2")
    before = names(team / "shards" / "1-of-2")
    merge_shards(TeamFolder(team))
    result = evaluate(cases, team)
    assert (result.todo, result.done) == (5 - len(before), 5)


def test_shards_that_are_not_merged_are_not_forgotten_by_a_run(cases: Path, tmp_path: Path) -> None:
    run(cases, tmp_path / "team", "1/2")
    with pytest.raises(RunError, match=r"shard 1/2 holds results that aren't merged; 'python -m"):
        evaluate(cases, tmp_path / "team")
    assert evaluate(cases, tmp_path / "team", restart=True).todo == 5
    assert not find_shards(TeamFolder(tmp_path / "team"))


def test_a_case_that_is_done_elsewhere_is_not_done_again(cases: Path, tmp_path: Path) -> None:
    team = tmp_path / "team"
    evaluate(cases, team, only=["CT_a.npz"])
    parts = ("1/2", "2/2")
    assert run(cases, team, *parts) == 4
    assert run(cases, team, "1/3", "2/3", "3/3") == 0
    (record,) = (team / "shards").glob("*/records/US_e.json")
    record.unlink()
    assert run(cases, team, "1/3", "2/3", "3/3") == 1


def test_a_shard_again_does_what_is_missing_alone(cases: Path, tmp_path: Path) -> None:
    team = tmp_path / "team"
    run(cases, team, "1/2", "2/2")
    (record,) = (team / "shards").glob("*/records/US_e.json")
    record.unlink()
    shard = Shard.parse(record.parent.parent.name.replace("-of-", "/"))
    merged = merge_shards(TeamFolder(team))
    assert merged.missing == {shard: ["US_e.npz"]}
    assert run(cases, team, f"{shard}") == 1
    merged = merge_shards(TeamFolder(team))
    assert (merged.moved, merged.missing) == (1, {})


def test_a_shard_that_never_ran_is_missing_as_a_whole(cases: Path, tmp_path: Path) -> None:
    team = tmp_path / "team"
    run(cases, team, "1/3", "3/3")
    merged = merge_shards(TeamFolder(team))
    lacking = {"CT_a.npz", "CT_b.npz", "MR_phantom.npz", "PET_d.npz", "US_e.npz"}
    lacking -= {f"{Path(name).stem}.npz" for name in names(team)}
    assert merged.missing == {Shard(2, 3): sorted(lacking)}


def test_merging_can_be_repeated_after_it_was_killed_anywhere(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(cases, tmp_path / "whole" / "team")
    whole = scores(tmp_path / "whole" / "team").to_csv()
    steps = 0
    while True:
        team = tmp_path / f"{steps}" / "team"
        run(cases, team, "1/2", "2/2")
        left = steps

        def move(source: Path, target: Path) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            source.replace(target)

        with monkeypatch.context() as patched:
            patched.setattr(shards, "_move", move)
            try:
                merge_shards(TeamFolder(team))
                break
            except KeyboardInterrupt:
                pass
        merged = merge_shards(TeamFolder(team))
        assert not merged.missing
        assert scores(team).to_csv() == whole
        assert contents(team) == contents(tmp_path / "whole" / "team")
        steps += 3  # of the 10: a volume and a record of each case
    assert steps >= 10


def test_shards_on_another_file_system_are_merged(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(cases, tmp_path / "team", "1/1")
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if "shards" in self.parts:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fspath(self))
        return replace(self, target)

    before = contents(tmp_path / "team" / "shards" / "1-of-1")
    monkeypatch.setattr(Path, "replace", refuse)
    assert merge_shards(TeamFolder(tmp_path / "team")).moved == 5
    assert contents(tmp_path / "team") == before


def test_the_order_in_which_shards_were_merged_does_not_matter(cases: Path, tmp_path: Path) -> None:
    tables = []
    for order in (("1/2", "2/2"), ("2/2", "1/2")):
        team = tmp_path / order[0].replace("/", "-") / "team"
        for part in order:
            run(cases, team, part)
            merge_shards(TeamFolder(team))
        tables.append((scores(team).to_csv(), contents(team)))
    assert tables[0] == tables[1]


def test_of_a_case_done_twice_the_results_in_the_teams_folder_stay(
    cases: Path, tmp_path: Path
) -> None:
    run(cases, tmp_path / "team", "1/1")
    kept = tmp_path / "kept"
    (tmp_path / "team" / "shards").rename(kept)
    evaluate(cases, tmp_path / "team", only=["CT_a.npz"])
    before = (tmp_path / "team" / "records" / "CT_a.json").read_bytes()
    kept.rename(tmp_path / "team" / "shards")
    assert merge_shards(TeamFolder(tmp_path / "team")).moved == 4
    assert (tmp_path / "team" / "records" / "CT_a.json").read_bytes() == before


def test_shards_of_other_settings_are_refused_with_what_differs(
    cases: Path, tmp_path: Path
) -> None:
    team = tmp_path / "team"
    run(cases, team, "1/2")
    with pytest.raises(ShardError, match=r"1-of-2: holds results with run_limit 60.0, found 5.0"):
        run(cases, team, "2/2", run_limit=5.0)
    run(cases, tmp_path / "other", "2/2", run_limit=5.0)
    (tmp_path / "other" / "shards" / "2-of-2").rename(team / "shards" / "2-of-2")
    before = {one: one.stat().st_mtime_ns for one in team.rglob("*.json")}
    with pytest.raises(ShardError, match=r"2-of-2: holds results with run_limit 5.0, found 60.0"):
        merge_shards(TeamFolder(team))
    assert {one: one.stat().st_mtime_ns for one in team.rglob("*.json")} == before


def test_a_shard_at_work_is_left_alone(cases: Path, tmp_path: Path) -> None:
    team = tmp_path / "team"
    run(cases, team, "1/2", "2/2")
    with FileLock(team / "shards" / "1-of-2" / ".lock"):
        merged = merge_shards(TeamFolder(team))
        with pytest.raises(BusyError, match="another evaluation is at work here"):
            evaluate(cases, team, restart=True)
    assert merged.busy == [Shard(1, 2)]
    assert [*merged.missing] == [Shard(1, 2)]
    assert merge_shards(TeamFolder(team)).missing == {}


def test_two_processes_do_not_work_on_one_shard(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.run._MERGE_SECONDS", 0.5)
    run(cases, tmp_path / "team", "1/2")
    with (
        FileLock(tmp_path / "team" / "shards" / "1-of-2" / ".lock"),
        pytest.raises(BusyError, match="1-of-2: another evaluation is at work here"),
    ):
        run(cases, tmp_path / "team", "1/2")


def test_shards_that_begin_at_one_time_do_not_take_each_other_for_strangers(
    cases: Path, tmp_path: Path
) -> None:
    team = tmp_path / "team"
    # One that has made its folder, and was perhaps killed there.
    (team / "shards" / "2-of-2").mkdir(parents=True)
    (team / "shards" / "2-of-2" / ".lock").touch()
    assert run(cases, team, "1/2", "2/2") == 5
    assert merge_shards(TeamFolder(team)).missing == {}


def test_a_folder_of_shards_that_holds_something_else_is_somebody_elses(
    cases: Path, tmp_path: Path
) -> None:
    (tmp_path / "team" / "shards" / "of-glass").mkdir(parents=True)
    with pytest.raises(RunError, match="found shards but no run"):
        run(cases, tmp_path / "team", "1/2")


def test_a_shard_that_is_merged_while_it_waits_has_nothing_left_to_do(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = tmp_path / "team"
    run(cases, team, "1/2", "2/2")
    move, hold = shards._move_results, TeamFolder.hold
    merges, waits = Event(), Event()

    def move_late(*folders: TeamFolder) -> int:
        merges.set()
        assert waits.wait(60)
        time.sleep(0.2)  # until it waits indeed
        return move(*folders)

    def hold_late(self: TeamFolder, seconds: float = 0.0) -> Any:
        if merges.is_set():
            waits.set()
        return hold(self, seconds)

    monkeypatch.setattr(shards, "_move_results", move_late)
    monkeypatch.setattr(TeamFolder, "hold", hold_late)
    with ThreadPoolExecutor(1) as threads:
        merged = threads.submit(merge_shards, TeamFolder(team))
        assert merges.wait(60)
        assert run(cases, team, "1/2") == 0
        assert merged.result().missing == {}
    assert len(names(team)) == 5
    assert not (team / "shards").exists()


def test_a_merge_that_is_killed_at_its_end_is_in_no_ones_way(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = tmp_path / "team"
    run(cases, team, "1/2", "2/2")

    def die(folder: Path) -> bool:
        (folder / "1-of-2" / "run.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards, "remove_tree", die)
        with pytest.raises(KeyboardInterrupt):
            merge_shards(TeamFolder(team))
    write_case(cases / "CT_late.npz", 5)
    assert run(cases, team, "1/2", "2/2") == 1
    assert merge_shards(TeamFolder(team)).missing == {}
    assert len(names(team)) == 6
    assert not (team / "work").exists()


def test_merging_removes_what_a_merge_that_was_killed_has_left(cases: Path, tmp_path: Path) -> None:
    team = tmp_path / "team"
    run(cases, team, "1/1")
    partial = team / f".{'0' * 32}.partial"
    partial.touch()
    (team / "work" / "1-of-1").mkdir(parents=True)
    merge_shards(TeamFolder(team))
    assert not partial.exists()
    assert not (team / "work").exists()


def test_a_leaderboard_is_made_of_merged_shards(cases: Path, tmp_path: Path) -> None:
    run(cases, tmp_path / "team", "1/2", "2/2")
    merge_shards(TeamFolder(tmp_path / "team"))
    write_leaderboard([TeamFolder(tmp_path / "team")], tmp_path)
    assert "team" in (tmp_path / "leaderboard.md").read_text()


def test_teams_with_shards_are_found_in_the_folder_of_teams(cases: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(cases, out / "first", "1/2")
    evaluate(cases, out / "second", only=["CT_a.npz"])

    def found(*paths: Path) -> Sequence[str]:
        return [one.team for one in find_sharded_teams(paths)]

    assert found(out) == found(out / "first") == ["first"]
    assert found(out / "second") == ["second"]
    with pytest.raises(RecordError, match="no evaluation is here"):
        found(tmp_path / "nowhere")


def test_cases_that_are_gone_are_an_error_that_names_their_folder(
    cases: Path, tmp_path: Path
) -> None:
    run(cases, tmp_path / "team", "1/2")
    cases.rename(tmp_path / "elsewhere")
    with pytest.raises(ShardError, match=r"cases: No such file.*tells which cases are missing"):
        merge_shards(TeamFolder(tmp_path / "team"))


def test_a_folder_of_something_else_is_no_shard(cases: Path, tmp_path: Path) -> None:
    mine = tmp_path / "team" / "shards" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(RunError, match=r"team: found shards but no run\.json"):
        run(cases, tmp_path / "team", "1/2")
    assert mine.read_text() == "mine"
