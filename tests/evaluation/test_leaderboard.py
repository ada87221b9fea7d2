"""The leaderboard, from records whose means are plain to see."""

import io
import math
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from evaluation.leaderboard import (
    Results,
    compare_teams,
    rank,
    read_published,
    show_leaderboard,
    tabulate_cases,
    write_leaderboard,
)
from evaluation.records import METRICS, CaseRecord
from tests.evaluation.example import make_record, write_team

ALL_ONE = (1.0,) * 6
ALL_ZERO = (0.0,) * 6


def results(
    *records: CaseRecord,
    team: str = "team",
    strict_time: bool = False,
    missing: tuple[str, ...] = (),
) -> Results:
    return Results(team, "gamt", "", strict_time, records, missing)


def only_row(table: pd.DataFrame) -> dict[str, object]:
    assert len(table) == 1
    return {str(key): value for key, value in table.iloc[0].items()}


def test_means_are_over_the_cases_of_a_modality() -> None:
    rising = make_record("CT_b.npz", (0.0, 0.0, 0.25, 0.5, 0.75, 1.0), seconds=2.0)
    row = only_row(rank([results(make_record("CT_a.npz", ALL_ZERO), rising)]))
    # The trapezoids of 0, 0.25, ... 1 over four steps sum up to 2; the other case has zeros.
    assert (row["DSC_AUC"], row["DSC_Final"]) == (1.0, 0.5)
    # Six runs of 1 s, and six of 2 s.
    assert (row["Cases"], row["Seconds"]) == (2, 9.0)


def test_nsd_is_apart_from_dsc() -> None:
    row = only_row(rank([results(make_record("CT_a.npz", ALL_ZERO, nsd=ALL_ONE))]))
    assert [row[metric] for metric in METRICS] == [0.0, 4.0, 0.0, 1.0]


def test_modalities_come_in_the_challenges_order_and_others_after_them() -> None:
    names = ("XA_a", "US_a", "CT_a", "Microscopy_a", "OCT_a", "PET_a", "MR_a")
    ranked = rank([results(*(make_record(f"{name}.npz", ALL_ONE) for name in names))])
    expected = ["CT", "MR", "Microscopy", "PET", "US", "OCT", "XA", "all"]
    assert ranked["Modality"].tolist() == expected


def test_the_last_row_is_of_all_cases() -> None:
    scores = {"CT_a.npz": ALL_ONE, "CT_b.npz": ALL_ONE, "US_a.npz": ALL_ZERO}
    ranked = rank([results(*(make_record(case, one) for case, one in scores.items()))])
    last = ranked.to_dict("records")[-1]
    # Over cases, not over modalities.
    assert (last["Modality"], last["Cases"]) == ("all", 3)
    assert last["DSC_Final"] == pytest.approx(2 / 3)


def test_teams_keep_their_order_within_a_modality() -> None:
    ranked = rank([results(make_record("CT_a.npz", ALL_ONE), team=team) for team in "ba"])
    assert ranked["Team"].tolist() == ["b", "a"]


def test_a_case_without_any_prediction_counts_as_zeros() -> None:
    nothing = make_record("CT_b.npz", ALL_ZERO, output="none")
    row = only_row(rank([results(make_record("CT_a.npz", ALL_ONE), nothing)]))
    assert (row["Cases"], row["DSC_Final"]) == (2, 0.5)


def test_a_case_without_a_class_counts_in_no_mean() -> None:
    empty = make_record("CT_b.npz", (math.nan,) * 6)
    row = only_row(rank([results(make_record("CT_a.npz", ALL_ONE), empty)]))
    assert (row["Cases"], row["DSC_Final"]) == (2, 1.0)


def test_late_cases_are_zeros_only_for_a_team_with_strict_time() -> None:
    # Six runs of 16 s are over the 90 s of one class.
    late = make_record("CT_a.npz", ALL_ONE, seconds=16.0)
    strict, lenient = (
        rank([results(late, strict_time=strict)])["DSC_Final"].item() for strict in (True, False)
    )
    assert (strict, lenient) == (0.0, 1.0)


def test_missing_cases_are_counted_by_modality() -> None:
    ranked = rank([results(make_record("CT_a.npz", ALL_ONE), missing=("CT_b.npz", "US_a.npz"))])
    assert ranked["Modality"].tolist() == ["CT", "US", "all"]
    assert ranked["Cases"].tolist() == [1, 0, 1]
    assert ranked["Missing"].tolist() == [1, 1, 2]
    assert math.isnan(ranked["DSC_Final"].iloc[1])


def halves(number: int) -> list[CaseRecord]:
    """Twice as many cases, half of them all one, the others all zero."""
    return [
        make_record(f"CT_{score:.0f}{case}.npz", (score,) * 6)
        for case in range(number)
        for score in (0.0, 1.0)
    ]


def test_an_interval_encloses_the_mean_of_cases_that_differ() -> None:
    row = only_row(rank([results(*halves(3))]))
    # Of six scores, resamples without a one are 1 of 2^6, less than 2.5 %, and those with at most
    # one of them 7 of 2^6, more: so the interval begins at 1/6, and by symmetry ends at 5/6.
    assert row["DSC_Final"] == 0.5
    assert (row["DSC_Final_low"], row["DSC_Final_high"]) == pytest.approx((1 / 6, 5 / 6))
    assert (row["DSC_AUC_low"], row["DSC_AUC_high"]) == pytest.approx((4 / 6, 20 / 6))


def test_there_is_no_interval_for_few_cases() -> None:
    ranked = rank([results(*halves(1))])
    assert ranked[[f"{metric}_low" for metric in METRICS]].isna().all(axis=None)


def test_teams_are_compared_on_the_cases_that_both_have() -> None:
    first = [make_record(f"CT_{name}.npz", ALL_ONE) for name in "abc"]
    second = [make_record(f"CT_{name}.npz", ALL_ZERO) for name in "bcd"]
    compared = compare_teams([results(*first, team="one"), results(*second, team="two")])
    assert compared["Metric"].tolist() == list(METRICS)
    assert compared["Cases"].tolist() == [2] * 4
    assert compared["Difference"].tolist() == [4.0, 4.0, 1.0, 1.0]


def test_cases_of_one_name_but_other_content_are_not_compared() -> None:
    one, two = (make_record("CT_a.npz", ALL_ONE, checksum=number) for number in (1, 2))
    compared = compare_teams([results(one, team="one"), results(two, team="two")])
    assert set(compared["Note"]) == {"no case in common"}


def test_a_comparison_says_why_it_has_no_p() -> None:
    one = make_record("CT_a.npz", ALL_ONE)
    compared = compare_teams([results(one, team="one"), results(one, team="two")])
    assert set(compared["Note"]) == {"all differences are zero"}
    assert compared["p"].isna().all()


def test_three_teams_make_three_comparisons() -> None:
    one = make_record("CT_a.npz", ALL_ONE)
    compared = compare_teams([results(one, team=team) for team in "abc"])
    pairs = dict.fromkeys(zip(compared["First"], compared["Second"], strict=True))
    assert list(pairs) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_the_table_of_cases_has_a_row_for_a_case_without_prediction() -> None:
    nothing = make_record("US_a.npz", ALL_ZERO, output="none")
    table = tabulate_cases([results(nothing)])
    assert table[["Team", "Modality", "CaseName"]].values.tolist() == [["team", "US", "US_a.npz"]]


def test_published_numbers_are_those_of_the_papers_tables() -> None:
    table = read_published()
    # Four methods with the same numbers in both tables, and GAMT with two.
    assert len(table) == 5 * (4 + 2)
    numbers = {(row[0], row[1], row[2]): row[3:] for row in table.values.tolist()}
    both = "coreset, all-data"
    assert numbers["US", "GAMT", "all-data"] == [0.6131, 0.3847, 0.1533, 0.0962]
    assert numbers["PET", "GAMT", "coreset"] == [1.8659, 1.5855, 0.4665, 0.3964]
    assert numbers["CT", "nnInteractive", both] == [3.4337, 3.5743, 0.8764, 0.9165]
    assert numbers["Microscopy", "SAM-Med3D", both] == [0.1163, 0.0, 0.0291, 0.0]


def test_the_csv_has_local_results_alone(tmp_path: Path) -> None:
    team = write_team(tmp_path / "mine", [make_record("CT_a.npz", ALL_ONE)])
    write_leaderboard([team], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert table["Team"].tolist() == ["mine"]
    assert table["DSC_AUC"].tolist() == [4.0]


def test_the_markdown_has_published_numbers_in_a_section_of_their_own(tmp_path: Path) -> None:
    team = write_team(tmp_path / "mine", [make_record("CT_a.npz", ALL_ONE)])
    write_leaderboard([team], tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    local, published = text.split("## Published, challenge validation set")
    assert "| CT | mine | 1 | 4.0000 | 4.0000 | 1.0000 | 1.0000 | 6.0 |" in local
    assert "nnInteractive" not in local
    assert "| CT | nnInteractive | coreset, all-data | 3.4337 |" in published
    assert "## Comparison" not in text


def test_markdown_in_names_stays_text(tmp_path: Path) -> None:
    team = write_team(tmp_path / "a|<b>", [make_record("CT_a.npz", ALL_ONE)])
    write_leaderboard([team], tmp_path)
    assert "| CT | a\\|&lt;b&gt; | 1 |" in (tmp_path / "leaderboard.md").read_text()


def test_two_teams_are_compared_in_markdown(tmp_path: Path) -> None:
    teams = [write_team(tmp_path / name, halves(3)) for name in ("one", "two")]
    write_leaderboard(teams, tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| one | two | DSC AUC | 6 | +0.0000 | all differences are zero |" in text
    assert "0.5000 (0.17–0.83)" in text


def test_a_team_without_results_yet_is_shown_with_its_missing_cases(tmp_path: Path) -> None:
    team = write_team(tmp_path / "mine", [], missing=["CT_a.npz"])
    write_leaderboard([team], tmp_path)
    assert "| CT | mine | 0 | 1 | – | – | – | – | – |" in (tmp_path / "leaderboard.md").read_text()


def test_what_is_printed_fits_100_columns(tmp_path: Path) -> None:
    cases = [make_record(f"Microscopy_{name}.npz", ALL_ONE, seconds=999.0) for name in "abcd"]
    cases += [make_record(f"Microscopy_{name}.npz", ALL_ZERO, seconds=999.0) for name in "ef"]
    teams = [write_team(tmp_path / f"team-of-a-rather-long-name-{n}", cases) for n in (1, 2)]
    console = Console(file=io.StringIO(), width=100)
    show_leaderboard(teams, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 100
    # Numbers are whole, on one line: the means, the interval, the seconds.
    for number in (
        "2.6667",
        "1.33–4.00",
        "0.33–1.00",
        "5994.0",
        "Published, challenge validation set",
    ):
        assert number in text


def test_markup_in_names_is_printed_as_it_is(tmp_path: Path) -> None:
    team = write_team(tmp_path / "[red]", [make_record("CT_a.npz", ALL_ONE)])
    console = Console(file=io.StringIO(), width=100)
    show_leaderboard([team], console)
    assert isinstance(console.file, io.StringIO)
    assert "[red]" in console.file.getvalue()


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.csv"])
def test_an_earlier_leaderboard_is_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("earlier")
    write_leaderboard([write_team(tmp_path / "mine", [])], tmp_path)
    assert "earlier" not in (tmp_path / name).read_text()
