import numpy as np
import pytest

from gamt.io.labels import LabelError, default_label


@pytest.mark.parametrize("label", [1, 5, 255, 1000])
def test_the_only_label_is_meant_where_none_is_named(label: int) -> None:
    assert default_label(np.array([0, label, label, 0])) == label


def test_of_an_empty_segmentation_label_1_is_meant() -> None:
    assert default_label(np.zeros(3, np.int64)) == 1


def test_of_several_labels_one_has_to_be_named() -> None:
    with pytest.raises(
        LabelError, match=r"^found a prompt without a label, .* the labels 3, 7: write LABEL:I,J,K$"
    ):
        default_label(np.array([0, 3, 7, 3]))


def test_of_very_many_labels_the_error_names_a_few() -> None:
    with pytest.raises(LabelError, match=r"the labels 1, 2, 3, 4, 5, 6, \.\.\.: "):
        default_label(np.arange(256))
