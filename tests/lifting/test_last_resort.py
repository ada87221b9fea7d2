"""What a case gets without any lifting: the previous prediction, or the shape of its prompts."""

import numpy as np

from gamt.axes import Plane
from gamt.lifting.last_resort import last_resort
from gamt.prompts import Box, ClassPrompts, Click, Scribble, SliceBox
from tests.doubles import make_case

SHAPE = (20, 24, 40)
IMAGE = np.zeros(SHAPE, np.uint8)


def test_a_box_gives_the_ellipsoid_in_it() -> None:
    # Half-axes 5, 6 and 10: up to 0.9 of them, 4 pi / 3 * 300 * 0.729 = 916 voxels.
    labels = last_resort(make_case(IMAGE, ClassPrompts(1, Box(2, 12, 7, 4, 16, 10, 30))))
    assert abs(int(labels.sum()) - 916) < 50
    assert labels[7, 10, 20] == 1
    labels[2:12, 4:16, 10:30] = 0
    assert not labels.any()


def test_of_boxes_in_each_other_the_smaller_one_counts() -> None:
    inner = ClassPrompts(1, Box(5, 10, 7, 8, 13, 17, 23))
    outer = ClassPrompts(2, Box(2, 12, 7, 4, 16, 10, 30))
    labels = last_resort(make_case(IMAGE, inner, outer))
    assert labels[7, 10, 20] == 1
    assert labels[7, 10, 12] == 2


def test_a_box_on_one_slice_gives_an_ellipse_there() -> None:
    drawn = SliceBox(Plane.CORONAL, (4, 9, 10), (14, 10, 30))
    labels = last_resort(make_case(IMAGE, ClassPrompts(1, slice_box=drawn)))
    assert labels[8, 9, 20] == 1
    assert np.unique(np.nonzero(labels)[1]).tolist() == [9]
    # Half-axes 5 and 10: pi * 50 * 0.81 = 127 pixels.
    assert abs(int(labels.sum()) - 127) < 15


def test_a_click_gives_a_ball_in_millimetres() -> None:
    # 20 x 24 x 40 voxels of 4 x 1 x 1 mm: a cube of 42.5 mm, of which 5 % are 2.1 mm.
    prompts = ClassPrompts(1, clicks=(Click(10, 0, 20, positive=True),))
    labels = last_resort(make_case(IMAGE, prompts, spacing_mm=(4, 1, 1)))
    expected = np.zeros(SHAPE, np.uint8)
    expected[10, 0, 18:23] = expected[10, 1, 19:22] = expected[10, 2, 20] = 1
    np.testing.assert_array_equal(labels, expected)


def test_clicks_and_scribbles_are_obeyed() -> None:
    away = Scribble(np.array([[7, 10, 19], [7, 10, 20]]), positive=False)
    prompts = ClassPrompts(
        1,
        Box(2, 12, 7, 4, 16, 10, 30),
        clicks=(Click(0, 0, 0, positive=True), Click(8, 10, 20, positive=False)),
        scribbles=(away,),
    )
    labels = last_resort(make_case(IMAGE, prompts))
    assert labels[0, 0, 0] == 1
    assert labels[8, 10, 20] == labels[7, 10, 19] == labels[7, 10, 20] == 0
    assert labels[7, 10, 21] == 1


def test_a_previous_prediction_stays_and_a_new_class_is_drawn_beside_it() -> None:
    previous = np.zeros(SHAPE, np.uint8)
    previous[7, :, :20] = 1
    old = ClassPrompts(1, Box(0, 3, 1, 0, 3, 0, 3))
    new = ClassPrompts(2, Box(2, 12, 7, 4, 16, 10, 30))
    labels = last_resort(make_case(IMAGE, old, new, previous=previous))
    np.testing.assert_array_equal(labels == 1, previous == 1)
    assert labels[7, 10, 20] == 2


def test_negative_clicks_alone_give_nothing() -> None:
    prompts = ClassPrompts(1, clicks=(Click(1, 1, 1, positive=False),))
    assert not last_resort(make_case(IMAGE, prompts)).any()
