"""Names of labels, as users give them."""

from collections.abc import Sequence

import pytest

from gamt.cli.console import UsageError
from gamt.cli.label_names import parse_label_names


def test_names_may_hold_blanks_and_equal_signs() -> None:
    texts = ["left kidney = 2", "T1=bright=7"]
    assert parse_label_names(texts) == {"left kidney": 2, "T1=bright": 7}


def test_no_names_are_none() -> None:
    assert parse_label_names(None) == {}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["liver"], "--label liver: expected NAME=LABEL"),
        (["liver=0"], "1 to 255"),
        (["liver=256"], "1 to 255"),
        (["liver=-1"], "1 to 255"),
        (["=1"], "expected a name"),
        (["7=1"], "no number"),
        (["-1=3"], "no number"),
        (["+1=7"], "no number"),
        (["1.0=5"], "no number"),
        (["a:b=1"], "without a colon"),
        (["liver=1", "liver=2"], "liver=2: name or label given twice"),
        (["liver=1", "spleen=1"], "spleen=1: name or label given twice"),
    ],
)
def test_what_names_no_label_is_refused(texts: Sequence[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_label_names(texts)
