"""Names of labels, as ``--label NAME=LABEL`` gives them."""

from collections.abc import Sequence

from gamt.cli.console import UsageError
from gamt.io.labels import MAX_LABEL, is_label_name


def parse_label_names(texts: Sequence[str] | None) -> dict[str, int]:
    """Turns ``NAME=LABEL`` texts into the labels by name.

    Raises:
        UsageError: a text can't be understood, or a name or a number is there twice.
    """
    labels: dict[str, int] = {}
    for text in texts or []:
        name, _, number = (part.strip() for part in text.rpartition("="))
        if not (number.isdecimal() and 1 <= int(number) <= MAX_LABEL):
            raise UsageError(f"--label {text}: expected NAME=LABEL, a label from 1 to {MAX_LABEL}")
        if not is_label_name(name):
            raise UsageError(f"--label {text}: expected a name without a colon, and no number")
        if name in labels or int(number) in labels.values():
            raise UsageError(f"--label {text}: name or label given twice")
        labels[name] = int(number)
    return labels
