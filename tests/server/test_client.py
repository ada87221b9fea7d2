"""The unmodified client of nnInteractive against this server."""

from collections.abc import Iterator

import numpy as np
import pytest
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Client

from tests.server.serving import serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def test_a_client_draws_a_box_and_clicks(url: str) -> None:
    image = np.zeros((1, 12, 30, 40), np.int16)
    image[0, 3:9, 8:20, 10:26] = 100
    target = np.zeros((12, 30, 40), np.uint8)
    with Client(url) as client:
        client.set_image(image, {"spacing": [3.0, 1.0, 1.0]})
        client.set_target_buffer(target)
        assert client.original_image_shape == (1, 12, 30, 40)
        bounds = client.add_bbox_interaction([[5, 6], [8, 20], [10, 26]], True)
        assert bounds is not None
        np.testing.assert_array_equal(target, image[0] > 0)
        bounds = client.add_point_interaction([3, 8, 10], False)
        assert target[3, 8, 10] == 0
        assert client.undo()
        assert target[3, 8, 10] == 1
