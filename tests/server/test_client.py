"""The unmodified client of nnInteractive, as 3D Slicer and napari have it, against this server."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nnInteractive.inference.remote import (
    ServerAtCapacityError,
    SessionExpiredError,
)
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Client

from gamt import Session
from tests.doubles import Constant
from tests.server.scenario import Step, connect, go_through
from tests.server.serving import serving

ROOT = Path(__file__).parents[2]
OLDER = ROOT / ".tools" / "nninteractive-client-2.5.1"
"""Where `make setup-all` installs the oldest client that 3D Slicer takes."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(scope="module")
def in_process() -> list[Step]:
    return go_through(Session())


@pytest.mark.slow
def test_the_client_gets_what_a_session_in_process_gets(url: str, in_process: list[Step]) -> None:
    with connect(url) as client:
        steps = go_through(client)
    assert len(steps) == len(in_process)
    for (returned, target), (expected, truth) in zip(steps, in_process, strict=True):
        assert returned == expected
        np.testing.assert_array_equal(target, truth)


@pytest.mark.slow
@pytest.mark.skipif(
    not OLDER.is_dir() and "CI" not in os.environ, reason="make setup-all installs this client"
)
def test_the_older_client_gets_the_same(url: str, in_process: list[Step], tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.server.scenario", url, tmp_path / "steps.npz"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (OLDER, ROOT / "src")))},
        cwd=ROOT,
        check=True,
    )
    with np.load(tmp_path / "steps.npz") as steps:
        assert steps["version"] == "2.5.1"
        assert steps["returned"].tolist() == [repr(returned) for returned, _ in in_process]
        np.testing.assert_array_equal(steps["targets"], [target for _, target in in_process])


def test_the_scenario_reaches_what_it_is_meant_to(in_process: list[Step]) -> None:
    sizes = [int(target.sum()) for _, target in in_process]
    assert sizes[1] > 500  # the box
    assert sizes[4] == sizes[2]  # the negative point, taken back
    assert sizes[6] == 0  # begun anew
    assert min(sizes[7], sizes[9]) > 500  # lasso, scribble


def test_prompts_may_wait_until_the_client_asks_for_a_prediction(url: str) -> None:
    with connect(url) as client:
        client.set_image(np.zeros((1, 5, 7, 11), np.uint8))
        client.set_target_buffer(np.zeros((5, 7, 11), np.uint8))
        client.add_initial_seg_interaction(np.ones((5, 7, 11), np.uint8))
        assert client.add_point_interaction([0, 0, 0], False, run_prediction=False) is None
        assert client.target_buffer[0, 0, 0] == 1
        assert client._predict() is not None
        assert client.target_buffer[0, 0, 0] == 0
        assert client._predict() is None


@pytest.mark.parametrize("corner", [(4, 0, 0), (0, 6, 0), (0, 0, 10), (4, 6, 10)])
def test_no_axis_is_taken_for_another(url: str, corner: tuple[int, int, int]) -> None:
    target = np.zeros((5, 7, 11), np.uint8)
    with connect(url) as client:
        client.set_image(np.zeros((1, 5, 7, 11), np.float32), {"spacing": [5.0, 2.0, 1.0]})
        client.set_target_buffer(target)
        client.add_initial_seg_interaction(np.ones((5, 7, 11), np.uint8))
        bounds = client.add_point_interaction(corner, False)
    assert target[corner] == 0
    assert target[2, 3, 5] == 1  # the middle
    assert bounds is not None
    assert all(a <= index < b for index, (a, b) in zip(corner, bounds, strict=True))


def test_a_result_may_fill_the_volume_and_go_again() -> None:
    target = np.zeros((5, 7, 11), np.uint8)  # 385 voxels: an odd number of zeros comes back
    with serving(Constant(True)) as url, connect(url) as client:
        client.set_image(np.zeros((1, 5, 7, 11), np.uint8))
        client.set_target_buffer(target)
        whole = [[0, 5], [0, 7], [0, 11]]
        assert client.add_bbox_interaction(whole, True) == whole
        assert target.all()
        assert client.undo()
        assert not target.any()


def test_a_result_may_be_empty(url: str) -> None:
    target = np.zeros((5, 7, 11), np.uint8)
    with connect(url) as client:
        client.set_image(np.zeros((1, 5, 7, 11), np.uint8))
        client.set_target_buffer(target)
        assert client.add_point_interaction([2, 3, 5], False) is None
    assert not target.any()


def test_the_client_takes_a_buffer_of_any_whole_numbers(url: str) -> None:
    for dtype in (np.bool_, np.int16, np.uint64):
        target = np.zeros((5, 7, 11), dtype)
        with connect(url) as client:
            client.set_image(np.zeros((1, 5, 7, 11), np.uint8))
            client.set_target_buffer(target)
            client.add_initial_seg_interaction(np.ones((5, 7, 11), np.uint8))
            client.add_point_interaction([2, 3, 5], False)
        assert target[2, 3, 5] == 0
        assert target[4, 6, 10] == 1


# A client that is refused does not close its connection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_client_knows_a_full_server_and_an_ended_session() -> None:
    with serving(max_sessions=1, api_key="secret") as url:
        client = Client(url, api_key="secret")
        with pytest.raises(ServerAtCapacityError, match="all 1 places"):
            Client(url, api_key="secret")
        gc.collect()
        token = client._lease_token
        client.close()
        with Client(url, api_key="secret") as other:
            other._http.headers["X-Lease-Token"] = token
            with pytest.raises(SessionExpiredError, match="lease expired or unknown"):
                other.reset_interactions()
