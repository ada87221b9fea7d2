import numpy as np
import pytest

from gamt.io.labels import LabelError, match_previous


@pytest.mark.parametrize("label", [1, 5, 255, 1000])
def test_a_mask_of_one_label_is_that_of_the_only_target(label: int) -> None:
    found = match_previous(np.array([0, label, label, 0]), [5])
    assert found.tolist() == [0, 5, 5, 0]


def test_labels_with_prompts_stay_beside_those_without() -> None:
    assert match_previous(np.array([0, 3, 7, 9]), [3, 9]).tolist() == [0, 3, 7, 9]


def test_a_previous_segmentation_may_be_empty() -> None:
    assert match_previous(np.zeros(3, np.int64), [1, 2]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("previous", [[0, 3, 7], [0, 3, 3]], ids=["of two", "of one"])
def test_of_several_a_label_without_a_match_is_an_error_that_says_which_there_are(
    previous: list[int],
) -> None:
    labels = ", ".join(str(label) for label in sorted(set(previous) - {0}))
    message = rf"^label 4 has a prompt, and the previous .* has the labels {labels}: "
    with pytest.raises(LabelError, match=message):
        match_previous(np.array(previous), [3, 4])


def test_of_very_many_labels_the_error_names_a_few() -> None:
    with pytest.raises(LabelError, match=r"has the labels 1, 2, 3, 4, 5, 6, \.\.\.: "):
        match_previous(np.arange(256), [300])
