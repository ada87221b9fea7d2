"""What changed in the labels, as it goes to the page."""

import gzip

import numpy as np

from gamt.server.annotate.changes import Change, cut, encode_change
from tests.server.annotate.annotating import parse_change

SHAPE = (2, 3, 4)


def test_labels_travel_with_i_running_fastest() -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(SHAPE)
    bounds = [[1, 2], [0, 2], [1, 4]]
    part = cut(labels, bounds)
    assert part is not None
    change = parse_change(gzip.decompress(encode_change(Change({"a": 1}, bounds, part), SHAPE)))
    assert change.state == {"a": 1}
    # i is 3 - x, j is 2 - y, and k is z: x from 1 to 3 are i from 0 to 2, y 0 and 1 are j 2 and 1.
    assert (change.low, change.high) == ([0, 1, 1], [3, 3, 2])
    assert change.labels is not None
    assert change.labels.tolist() == [[[19, 18, 17], [15, 14, 13]]]


def test_a_part_that_was_cut_out_stays_as_it_was() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    part = cut(labels, [[0, 1], [0, 1], [0, 1]])
    labels[...] = 1
    assert part is not None
    assert part.tolist() == [[[0]]]


def test_where_nothing_changed_there_are_no_labels() -> None:
    assert cut(np.zeros(SHAPE, np.uint8), None) is None
    change = parse_change(gzip.decompress(encode_change(Change({}), SHAPE)))
    assert (change.low, change.high, change.labels) == (None, None, None)
