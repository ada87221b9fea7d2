"""Requests that the client of nnInteractive would not send, or not like this, over real sockets."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import httpx
import numpy as np
import numpy.typing as npt
import pytest

import gamt
from gamt.memory import machine_bytes
from gamt.server import frames
from gamt.server.bodies import BodyLimits
from gamt.server.engine import Workspace
from tests.server.serving import serving
from tests.server.test_engine import Gated
from tests.server.test_leases import Clock
from tests.server.test_turns import SECONDS, wait_until

LEASED = (
    ("POST", "/heartbeat"),
    ("GET", "/lease_status"),
    ("POST", "/set_image"),
    ("POST", "/set_target_buffer"),
    ("POST", "/set_do_autozoom"),
    ("POST", "/reset_interactions"),
    ("POST", "/undo"),
    ("POST", "/redo"),
    ("POST", "/predict"),
    ("POST", "/add_point_interaction"),
    ("POST", "/add_bbox_interaction"),
    ("POST", "/add_scribble_interaction"),
    ("POST", "/add_lasso_interaction"),
    ("POST", "/add_initial_seg_interaction"),
)

SHAPE = (5, 12, 17)


class User:
    """A client that says what it is told to.

    Attributes:
        http: with its token.
        all: that were made in a test.
    """

    all: ClassVar[list["User"]] = []

    def __init__(self, url: str, **headers: str) -> None:
        self.http = httpx.Client(base_url=url, headers=headers, timeout=SECONDS)
        self.all.append(self)

    def claim(self) -> httpx.Response:
        response = self.http.post("/claim")
        if response.status_code == 200:
            self.http.headers["X-Lease-Token"] = response.json()["lease_token"]
        return response

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def send(self, path: str, array: npt.NDArray[Any] | bytes, **meta: Any) -> httpx.Response:
        frame = array if isinstance(array, bytes) else frames.pack(array)
        return self.http.post(path, content=frame, headers={"X-Meta": json.dumps(meta)})

    def begin(self, dtype: str = "uint8") -> None:
        """Shows a block, [1:4, 3:9, 5:14], and declares a target buffer."""
        image = np.zeros((1, *SHAPE), np.uint8)
        image[0, 1:4, 3:9, 5:14] = 255
        assert self.send("/set_image", image).status_code == 200
        assert self.post("/set_target_buffer", shape=SHAPE, dtype=dtype).status_code == 200

    def click(self, *voxel: int, positive: bool = True, predict: bool = True) -> httpx.Response:
        return self.post(
            "/add_point_interaction",
            coordinates=voxel,
            include_interaction=positive,
            run_prediction=predict,
        )

    def draw(self, *bounds: list[int], positive: bool = True) -> httpx.Response:
        return self.post("/add_bbox_interaction", bbox_coords=bounds, include_interaction=positive)


@contextmanager
def using(url: str) -> Iterator[User]:
    """Gives a user who has claimed a place, which is free again in the end."""
    user = User(url)
    try:
        assert user.claim().status_code == 200
        yield user
    finally:
        user.http.post("/release")


@contextmanager
def uploading(user: User, path: str, begun: bytes, length: int) -> Iterator[socket.socket]:
    """Gives a connection on which a user has begun to send a body."""
    host, port = user.http.base_url.host, user.http.base_url.port
    assert port is not None
    head = (
        f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n"
        f"X-Lease-Token: {user.http.headers['X-Lease-Token']}\r\n\r\n"
    )
    with socket.create_connection((host, port), timeout=SECONDS) as connection:
        connection.sendall(head.encode() + begun)
        yield connection


def declaring(*shape: int) -> bytes:
    """Returns a frame of one byte that says that it holds four axes of uint8."""
    frame = bytearray(frames.pack(np.zeros((1, 1, 1, 1), np.uint8)))
    frame[13 : 13 + 32] = np.array(shape, "<i8").tobytes()
    return bytes(frame)


def reserved_bytes(user: User) -> float:
    text = user.http.get("/metrics").text
    (line,) = [one for one in text.splitlines() if one.startswith("gamt_reserved_bytes ")]
    return float(line.split()[1])


def detail(response: httpx.Response) -> str:
    text: str = response.json()["detail"]
    return text


def meta(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = json.loads(response.headers["X-Meta"])
    return found


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    """Closes the connections that a test has made."""
    yield
    while User.all:
        User.all.pop().http.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Gated()) as url:
        yield url


@pytest.fixture
def user(url: str) -> Iterator[User]:
    with using(url) as user:
        yield user


@pytest.fixture
def ready(user: User) -> User:
    """A user with an image and a target buffer."""
    user.begin()
    return user


# --- keys and places ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked_url() -> Iterator[str]:
    with serving(Gated(), api_key="secret") as url:
        yield url


def test_without_the_key_nothing_is_answered_but_the_health(locked_url: str) -> None:
    user = User(locked_url, **{"X-Lease-Token": "unknown"})
    assert user.http.get("/healthz").json() == {"ok": True}
    others = (("POST", "/claim"), ("GET", "/capabilities"), ("POST", "/release"))
    for method, path in (*others, ("GET", "/metrics"), *LEASED):
        response = user.http.request(method, path)
        assert (response.status_code, detail(response)) == (401, "Missing bearer token"), path


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("secret", "Missing bearer token"),
        ("Basic secret", "Missing bearer token"),
        ("Bearer", "Invalid bearer token"),
        ("Bearer wrong", "Invalid bearer token"),
        ("Bearer secrets", "Invalid bearer token"),
        ("Bearer secre\u00fc", "Invalid bearer token"),
    ],
)
def test_another_key_is_refused(locked_url: str, given: str, text: str) -> None:
    headers = {b"Authorization": given.encode("latin-1")}
    response = User(locked_url).http.post("/claim", headers=headers)
    assert (response.status_code, detail(response)) == (401, text)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_key_a_place_is_claimed(locked_url: str, scheme: str) -> None:
    user = User(locked_url, Authorization=f"{scheme} secret")
    assert user.claim().status_code == 200
    assert user.post("/heartbeat").status_code == 200
    user.http.post("/release")


def test_a_key_that_is_not_asked_for_is_ignored(url: str) -> None:
    user = User(url, Authorization="Bearer whatever")
    assert user.claim().status_code == 200
    user.http.post("/release")


@pytest.mark.parametrize(("method", "path"), LEASED)
def test_without_a_lease_the_answer_is_that_it_is_gone(url: str, method: str, path: str) -> None:
    user = User(url)
    response = user.http.request(method, path, headers={"X-Lease-Token": "unknown"})
    assert (response.status_code, detail(response)) == (410, "lease expired or unknown")
    response = user.http.request(method, path)
    assert (response.status_code, detail(response)) == (410, "lease token missing")


def test_a_claim_tells_the_times_and_the_places() -> None:
    with serving(max_sessions=3, idle_seconds=120, liveness_seconds=20) as url:
        claim = User(url).claim().json()
        assert len(claim.pop("lease_token")) == 32
        assert claim == {
            "idle_timeout_seconds": 120.0,
            "liveness_timeout_seconds": 20.0,
            "max_sessions": 3,
        }


def test_one_claim_too_many_is_told_to_come_again() -> None:
    with serving(max_sessions=2) as url:
        first, second, third = User(url), User(url), User(url)
        assert (first.claim().status_code, second.claim().status_code) == (200, 200)
        refused = third.claim()
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "10"
        assert "all 2 places" in detail(refused)

        assert first.http.post("/release").json() == {"released": True}
        assert third.claim().status_code == 200


def test_releasing_twice_or_without_a_lease_is_no_error(url: str) -> None:
    user = User(url)
    assert user.http.post("/release").json() == {"released": True}
    user.claim()
    for _ in range(2):
        assert user.http.post("/release").json() == {"released": True}
    assert user.post("/heartbeat").status_code == 410


def test_a_place_is_free_again_when_nothing_is_heard_of_its_client() -> None:
    clock = Clock()
    with serving(max_sessions=1, liveness_seconds=60, clock=clock) as url:
        first, second = User(url), User(url)
        first.claim()
        clock.seconds += 59
        assert first.post("/heartbeat").json() == {"remaining_seconds": 541.0}
        clock.seconds += 59
        assert second.claim().status_code == 503
        clock.seconds += 1
        assert first.post("/heartbeat").status_code == 410
        assert second.claim().status_code == 200


def test_asking_for_the_time_left_does_not_keep_a_lease_alive() -> None:
    clock = Clock()
    with serving(liveness_seconds=60, clock=clock) as url:
        user = User(url)
        user.claim()
        clock.seconds += 59
        status = user.http.get("/lease_status").json()
        assert status == {"remaining_seconds": 541.0, "idle_timeout_seconds": 600.0}
        clock.seconds += 1
        assert user.http.get("/lease_status").status_code == 410


def test_sessions_of_ended_leases_are_closed_without_anybody_asking() -> None:
    clock = Clock()
    with serving(clock=clock, sweep_seconds=0.01) as url:
        user = User(url)
        user.claim()
        assert "gamt_sessions 1.0" in user.http.get("/metrics").text
        clock.seconds += 60
        wait_until(lambda: "gamt_sessions 0.0" in user.http.get("/metrics").text)


def test_a_session_that_can_not_be_closed_does_not_keep_others_from_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, close = Clock(), Workspace.close
    failures = iter([OSError("a failure")])

    def close_or_fail(workspace: Workspace) -> None:
        for failure in failures:
            raise failure
        close(workspace)

    monkeypatch.setattr(Workspace, "close", close_or_fail)
    with serving(clock=clock, sweep_seconds=0.01) as url:
        User(url).claim()
        clock.seconds += 60
        wait_until(lambda: "could not be closed" in caplog.text)
        user = User(url)
        user.claim()
        assert "gamt_sessions 2.0" in user.http.get("/metrics").text
        clock.seconds += 60
        wait_until(lambda: "gamt_sessions 1.0" in user.http.get("/metrics").text)


def test_its_threads_end_even_if_it_could_not_load_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no such library")

    monkeypatch.setattr(frames, "load_blosc2", fail)
    with serving() as url:
        user = User(url)
        user.claim()
        user.post("/reset_interactions")
    assert not any(one.name.startswith("workspace") for one in threading.enumerate())


# --- what the server says of itself -------------------------------------------------------------


def test_capabilities_are_those_that_clients_look_for() -> None:
    with serving(licence="CC-BY-4.0") as url:
        found = User(url).http.get("/capabilities").json()
    assert found["supported_interactions"] == {
        "points": True,
        "bbox2d": True,
        "bbox3d": True,
        "scribble": True,
        "lasso": True,
    }
    assert found["supports_undo"]
    assert found["supports_initial_label"]
    assert found["supports_zero_shot_label_refinement"]
    assert found["license"] == "CC-BY-4.0"
    assert len(found["preferred_scribble_thickness"]) == 3
    used = [n for pair in list(found["channel_mapping"].values())[1:] for n in pair]
    assert max(used) < found["num_interaction_channels"]


@pytest.mark.parametrize("path", ["/nothing", "/claim/", "/nninteractive/claim", "/docs"])
def test_an_unknown_path_is_told_who_answers_and_what_to_do(url: str, path: str) -> None:
    response = User(url).http.post(path)
    assert response.status_code == 404
    assert f"this is gamt {gamt.__version__}" in detail(response)
    assert f"no path {path};" in detail(response)
    assert "http://HOST:PORT" in detail(response)


def test_a_wrong_method_is_told_the_right_one(url: str) -> None:
    response = User(url).http.get("/claim")
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    assert "no path /claim with GET, but with POST" in detail(response)


# --- images and target buffers ------------------------------------------------------------------


def test_an_image_needs_no_header_beside_it(user: User) -> None:
    response = user.http.post("/set_image", content=frames.pack(np.zeros((1, 5, 7, 11), ">i2")))
    assert response.json() == {"original_image_shape": [1, 5, 7, 11]}


@pytest.mark.parametrize(
    ("image", "properties", "message"),
    [
        (np.zeros((5, 7, 11)), {}, "image of shape (5, 7, 11), expected (1, z, y, x)"),
        (np.zeros((2, 5, 7, 11)), {}, "image of shape (2, 5, 7, 11), expected (1, z, y, x)"),
        (np.zeros((1, 5, 0, 11)), {}, "image of shape (1, 5, 0, 11)"),
        (np.zeros((1, 5, 7, 11)), {"spacing": [1, 1]}, "X-Meta, image_properties.spacing"),
        (np.zeros((1, 5, 7, 11)), {"spacing": [1, -1, 1]}, "greater than 0, found -1"),
        (np.zeros((1, 5, 7, 11)), {"spacing": [1e6, 1, 1]}, "found the spacing"),
        (np.zeros((1, 5, 7, 11)), {"window": "belly"}, 'image_properties, "window"'),
        (b"", {}, "found 0 bytes for the frame's header"),
        (b"PK\x03\x04" + bytes(40), {}, "begins with b'PK\\x03\\x04', expected b'NNIA'"),
    ],
)
def test_what_is_no_image_is_refused_with_what_was_found(
    user: User, image: npt.NDArray[Any] | bytes, properties: dict[str, object], message: str
) -> None:
    response = user.send("/set_image", image, image_properties=properties)
    assert response.status_code == 400
    assert message in detail(response)


def test_an_image_that_would_take_too_much_memory_is_refused(user: User) -> None:
    response = user.send("/set_image", declaring(1, 2**20, 2**20, 2**20))
    assert response.status_code == 413
    assert f"found an array of shape (1, {2**20}, {2**20}, {2**20})" in detail(response)


def test_an_image_whose_results_would_take_too_much_memory_is_refused(user: User) -> None:
    # A fifth of the machine's memory may be one array, but not with 8 bytes more for each voxel.
    slices = machine_bytes() // 5 // 2**20
    response = user.send("/set_image", declaring(1, slices, 2**10, 2**10))
    assert response.status_code == 413
    assert detail(response).startswith("image: found that")


def test_an_image_that_does_not_fit_is_refused_before_it_is_sent(user: User) -> None:
    begun = declaring(1, 2**20, 2**20, 2**20).ljust(1000, b"\0")
    with uploading(user, "/set_image", begun, length=1_000_000) as connection:
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 413")


def test_a_prediction_that_there_is_no_memory_for_is_refused_and_forgotten(
    ready: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamt.lifting.plan.available_bytes", lambda: 0)
    response = ready.click(2, 6, 9)
    assert response.status_code == 413
    assert "MB of memory are needed" in detail(response)
    monkeypatch.undo()
    assert ready.click(2, 6, 9).status_code == 200


def test_a_broken_image_leaves_the_one_before_reserved(ready: User) -> None:
    before = reserved_bytes(ready)
    for frame in (declaring(1, 9, 99, 99), b"NNIA"):
        assert ready.send("/set_image", frame).status_code == 400
        assert reserved_bytes(ready) == before > 0
    ready.draw([2, 3], [3, 9], [5, 14])  # it is still there


def test_another_image_takes_the_place_of_the_one_before(ready: User) -> None:
    before = reserved_bytes(ready)
    ready.begin()
    assert reserved_bytes(ready) == before


def test_an_upload_ends_with_its_session_and_is_reserved_until_then() -> None:
    with serving() as url, using(url) as user:
        with uploading(user, "/set_image", b"NNIA", length=5_000_000) as connection:
            wait_until(lambda: reserved_bytes(user) == 5_000_000)
            user.http.post("/release")
            assert reserved_bytes(user) == 5_000_000  # its client may still be sending
            connection.sendall(b"\x01")
            assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 410")
        wait_until(lambda: reserved_bytes(user) == 0)


def test_a_frame_of_unknown_length_is_refused(user: User) -> None:
    response = user.http.post("/set_image", content=iter([b"NNIA"]))
    assert response.status_code == 411
    assert "Content-Length" in detail(response)


def test_a_new_image_needs_a_new_target_buffer(ready: User) -> None:
    ready.send("/set_image", np.zeros((1, *SHAPE), np.uint8))
    response = ready.click(2, 5, 8)
    assert response.status_code == 400
    assert "no target buffer" in detail(response)


@pytest.mark.parametrize(
    ("shape", "dtype", "status", "message"),
    [
        (SHAPE[::-1], "uint8", 400, "found a target buffer of shape [17, 12, 5], expected that"),
        ([5, 12], "uint8", 400, "body, shape"),
        ([5, 12, 0], "uint8", 400, "body, shape.2: Input should be greater than 0, found 0"),
        (SHAPE, "float32", 400, "found 'float32'"),
        ([2**20] * 3, "int64", 413, "bytes, expected"),
    ],
)
def test_a_target_buffer_that_does_not_fit_is_refused(
    ready: User, shape: list[int], dtype: str, status: int, message: str
) -> None:
    response = ready.post("/set_target_buffer", shape=shape, dtype=dtype)
    assert response.status_code == status
    assert message in detail(response)


def test_a_target_buffer_before_the_image_is_refused(user: User) -> None:
    response = user.post("/set_target_buffer", shape=SHAPE, dtype="uint8")
    assert response.status_code == 400
    assert "set_image has to come first" in detail(response)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64"])
def test_results_come_in_the_target_buffers_type(user: User, dtype: str) -> None:
    user.begin(dtype)
    response = user.draw([2, 3], [3, 9], [5, 14])
    assert meta(response)["dtype"] == dtype
    content = frames.unpack(response.content, 10_000)
    assert content.dtype == dtype
    assert list(content.shape) == meta(response)["shape"]
    assert content.all()


# --- prompts ------------------------------------------------------------------------------------


PROMPTS: dict[str, dict[str, object]] = {
    "/add_point_interaction": {"coordinates": [0, 0, 0]},
    "/add_bbox_interaction": {"bbox_coords": [[0, 1], [0, 2], [0, 2]]},
}


def test_prompts_before_an_image_are_refused(user: User) -> None:
    for path, prompt in PROMPTS.items():
        for predict in (True, False):
            response = user.post(path, include_interaction=True, run_prediction=predict, **prompt)
            assert response.status_code == 400
            assert "no image" in detail(response)
    for path in ("/add_scribble_interaction", "/add_lasso_interaction"):
        response = user.send(path, np.ones((1, 2, 2), np.uint8), include_interaction=True)
        assert response.status_code == 400
        assert "no image" in detail(response)
    response = user.send("/add_initial_seg_interaction", np.ones(SHAPE, np.uint8))
    assert response.status_code == 400
    assert "no image" in detail(response)


def test_steps_before_an_image_do_nothing(user: User) -> None:
    assert user.post("/reset_interactions").json() == {}
    assert user.post("/set_do_autozoom", do_autozoom=True).json() == {}
    for path in ("/undo", "/redo", "/predict"):
        response = user.post(path)
        assert meta(response) == {"ran_prediction": False, "bbox": None}
        assert response.content == b""


def test_a_prompts_answer_holds_what_changed(ready: User) -> None:
    response = ready.draw([2, 3], [3, 9], [5, 14])
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert meta(response) == {
        "ran_prediction": True,
        "bbox": [[1, 4], [3, 9], [5, 14]],
        "dtype": "uint8",
        "shape": [3, 6, 9],
    }


def test_a_prompt_that_changes_nothing_is_answered_without_content(ready: User) -> None:
    ready.draw([2, 3], [3, 9], [5, 14])
    response = ready.click(2, 5, 8)  # inside already
    assert meta(response) == {"ran_prediction": True, "bbox": None}
    assert response.content == b""


def test_prompts_may_wait_for_a_prediction(ready: User) -> None:
    response = ready.click(2, 5, 8, predict=False)
    assert meta(response) == {"ran_prediction": False, "bbox": None}
    assert meta(ready.post("/predict", force_full_refine=False))["bbox"]
    assert meta(ready.post("/predict")) == {"ran_prediction": False, "bbox": None}


def test_a_prompt_that_is_done_again_waits_again(ready: User) -> None:
    ready.click(2, 5, 8, predict=False)
    assert meta(ready.post("/undo"))["ran_prediction"]
    assert meta(ready.post("/predict")) == {"ran_prediction": False, "bbox": None}
    assert meta(ready.post("/redo"))["ran_prediction"]
    assert meta(ready.post("/predict"))["bbox"]


@pytest.mark.parametrize("voxel", [(5, 0, 0), (0, 12, 0), (0, 0, 17), (-1, 0, 0), (17, 12, 5)])
def test_a_point_outside_is_refused_with_the_shape(ready: User, voxel: tuple[int, ...]) -> None:
    response = ready.click(*voxel)
    assert response.status_code == 400
    assert f"found the coordinates {list(voxel)}, expected" in detail(response)
    assert str(SHAPE) in detail(response)


def test_the_last_voxel_along_each_axis_is_inside(ready: User) -> None:
    assert ready.click(4, 11, 16, predict=False).status_code == 200


def test_a_box_that_reaches_out_of_the_image_is_clipped(ready: User) -> None:
    assert meta(ready.draw([2, 3], [-5, 9], [5, 400]))["bbox"] == [[1, 4], [3, 9], [5, 14]]


@pytest.mark.parametrize(
    "bounds",
    [
        ([2, 2], [3, 9], [5, 14]),
        ([2, 3], [9, 3], [5, 14]),
        ([5, 6], [3, 9], [5, 14]),
        ([2, 3], [-9, 0], [5, 14]),
    ],
    ids=["no slice", "turned over", "past the end", "before the beginning"],
)
def test_a_box_that_holds_no_voxel_is_refused(ready: User, bounds: tuple[list[int], ...]) -> None:
    response = ready.draw(*bounds)
    assert response.status_code == 400
    assert "found the box" in detail(response)


@pytest.mark.parametrize(
    ("shape", "bounds"),
    [
        ((1, 3, 4), [[2, 3], [3, 9], [5, 14]]),
        ((1, 6, 9), [[4, 5], [3, 9], [10, 19]]),
        ((1, 6, 9), None),
    ],
    ids=["smaller than its bounds", "outside", "not the whole volume"],
)
@pytest.mark.parametrize("kind", ["scribble", "lasso"])
def test_a_drawing_that_does_not_fit_is_refused(
    ready: User, kind: str, shape: tuple[int, ...], bounds: list[list[int]] | None
) -> None:
    response = ready.send(
        f"/add_{kind}_interaction",
        np.ones(shape, np.uint8),
        include_interaction=True,
        interaction_bbox=bounds,
    )
    assert response.status_code == 400
    assert "found" in detail(response)


def test_a_drawing_larger_than_the_image_is_refused(ready: User) -> None:
    response = ready.send(
        "/add_lasso_interaction", np.ones((9, 90, 900), np.uint8), include_interaction=True
    )
    assert response.status_code == 413
    assert "expected 1020 at most" in detail(response)  # 5 * 12 * 17 voxels


@pytest.mark.parametrize("kind", ["scribble", "lasso", "initial_seg"])
def test_a_mask_of_more_than_a_byte_a_voxel_is_refused(ready: User, kind: str) -> None:
    mask = np.zeros((1, 3, 4), np.float64)
    response = ready.send(f"/add_{kind}_interaction", mask, include_interaction=True)
    assert response.status_code == 400
    assert "found the dtype 'float64', expected one of bool, int8, uint8" in detail(response)


def test_a_refused_prompt_leaves_no_trace(ready: User) -> None:
    ready.click(9, 9, 9)
    assert meta(ready.post("/undo")) == {"ran_prediction": False, "bbox": None}


def test_steps_go_back_and_forth(ready: User) -> None:
    ready.draw([2, 3], [3, 9], [5, 14])
    ready.click(2, 5, 8, positive=False)
    for path, inside in (("/undo", 1), ("/undo", 0), ("/redo", 1), ("/redo", 0)):
        response = ready.post(path)
        (z, _), (y, _), (x, _) = meta(response)["bbox"]
        content = frames.unpack(response.content, 10_000)
        assert content[2 - z, 5 - y, 8 - x] == inside
    assert meta(ready.post("/redo")) == {"ran_prediction": False, "bbox": None}


def test_an_initial_segmentation_is_taken_without_a_prediction(ready: User) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:4, 3:9, 5:14] = 1
    response = ready.send("/add_initial_seg_interaction", mask)
    assert meta(response) == {"ran_prediction": False, "bbox": None}
    (z, _), (y, _), (x, _) = meta(ready.click(1, 3, 5, positive=False))["bbox"]
    assert (z, y, x) == (1, 3, 5)


def test_an_initial_segmentation_is_improved_where_a_prediction_is_asked_for(ready: User) -> None:
    rough = np.zeros(SHAPE, np.uint8)
    rough[1:4, 3:9, 5:13] = 1
    response = ready.send("/add_initial_seg_interaction", rough, run_prediction=True)
    found = meta(response)
    assert found["ran_prediction"]
    # All of the segmentation has changed, and with it the column that it lacked.
    assert found["bbox"] == [[1, 4], [3, 9], [5, 14]]
    assert frames.unpack(response.content, 10_000).all()


def test_an_initial_segmentation_alone_leaves_nothing_to_predict(ready: User) -> None:
    rough = np.zeros(SHAPE, np.uint8)
    rough[1:4, 3:9, 5:13] = 1
    ready.send("/add_initial_seg_interaction", rough)
    assert meta(ready.post("/predict")) == {"ran_prediction": False, "bbox": None}


def test_after_a_reset_everything_begins_anew(ready: User) -> None:
    first = ready.draw([2, 3], [3, 9], [5, 14])
    assert ready.post("/reset_interactions").json() == {}
    assert meta(ready.post("/undo")) == {"ran_prediction": False, "bbox": None}
    again = ready.draw([2, 3], [3, 9], [5, 14])
    assert (again.headers["X-Meta"], again.content) == (first.headers["X-Meta"], first.content)


# --- while a prediction runs --------------------------------------------------------------------


def test_others_are_answered_while_a_prediction_runs() -> None:
    segmenter = Gated()
    with serving(segmenter) as url, using(url) as user, using(url) as other:
        user.begin()
        segmenter.stops = True
        with ThreadPoolExecutor() as pool:
            running = pool.submit(user.draw, [2, 3], [3, 9], [5, 14])
            assert segmenter.reached.wait(SECONDS)
            for one in (user, other):
                assert one.post("/heartbeat").status_code == 200
                assert one.http.get("/healthz").status_code == 200
            segmenter.through.set()
            assert meta(running.result())["bbox"] == [[1, 4], [3, 9], [5, 14]]


def test_a_lease_does_not_run_out_while_its_prediction_runs() -> None:
    segmenter, clock = Gated(), Clock()
    with serving(segmenter, max_sessions=1, clock=clock) as url, using(url) as user:
        user.begin()
        segmenter.stops = True
        with ThreadPoolExecutor() as pool:
            running = pool.submit(user.draw, [2, 3], [3, 9], [5, 14])
            assert segmenter.reached.wait(SECONDS)
            clock.seconds += 10_000
            assert User(url).claim().status_code == 503
            segmenter.through.set()
            assert running.result().status_code == 200
        assert user.post("/heartbeat").json() == {"remaining_seconds": 600.0}


def test_a_client_that_hangs_up_leaves_the_target_as_it_was() -> None:
    segmenter = Gated()
    with serving(segmenter) as url, using(url) as user:
        user.begin()
        segmenter.stops = True
        with pytest.raises(httpx.ReadTimeout):
            user.http.post(
                "/add_point_interaction",
                json={"coordinates": [2, 5, 8], "include_interaction": True},
                timeout=0.5,
            )
        segmenter.through.set()
        assert meta(user.post("/undo")) == {"ran_prediction": False, "bbox": None}


def test_a_later_prompt_answers_for_an_earlier_one_that_still_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    segmenter = Gated()
    with serving(segmenter) as url, using(url) as user:
        user.begin()
        segmenter.stops = True
        with ThreadPoolExecutor() as pool, caplog.at_level(logging.DEBUG, "gamt.server"):
            first = pool.submit(user.draw, [2, 3], [3, 9], [5, 14])
            assert segmenter.reached.wait(SECONDS)
            second = pool.submit(user.click, 2, 5, 8, positive=False)
            wait_until(lambda: "add_point_interaction" in caplog.text)
            for _ in range(10):  # until the server has read it, too
                user.post("/heartbeat")
            segmenter.through.set()
            assert meta(first.result()) == {"ran_prediction": False, "bbox": None}
            assert meta(second.result())["bbox"]


def test_of_one_clients_masks_two_are_held_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    segmenter = Gated()
    lasso, voxels = np.ones((1, 12, 17), np.uint8), 12 * 17
    frame_bytes = len(frames.pack(lasso))

    def draw(user: User) -> httpx.Response:
        return user.send(
            "/add_lasso_interaction",
            lasso,
            include_interaction=True,
            interaction_bbox=[[2, 3], [0, 12], [0, 17]],
        )

    with serving(segmenter) as url, using(url) as user:
        user.begin()
        before = reserved_bytes(user)
        segmenter.stops = True
        with ThreadPoolExecutor() as pool, caplog.at_level(logging.DEBUG, "gamt.server"):
            running = [pool.submit(draw, user)]
            assert segmenter.reached.wait(SECONDS)
            assert reserved_bytes(user) - before == frame_bytes + voxels
            running += [pool.submit(draw, user) for _ in range(3)]
            wait_until(lambda: caplog.text.count("add_lasso_interaction") == 4)
            wait_until(lambda: reserved_bytes(user) - before == 2 * (frame_bytes + voxels))
            for _ in range(10):  # the others wait
                assert reserved_bytes(user) - before == 2 * (frame_bytes + voxels)
            segmenter.through.set()
            assert sum(meta(one.result())["ran_prediction"] for one in running) >= 1
        assert reserved_bytes(user) == before


def test_predictions_are_cancelled_when_the_server_stops() -> None:
    segmenter, stopping = Gated(), threading.Event()
    with serving(segmenter, is_stopping=stopping.is_set) as url, using(url) as user:
        user.begin()
        segmenter.stops = True
        with ThreadPoolExecutor() as pool:
            running = pool.submit(user.draw, [2, 3], [3, 9], [5, 14])
            assert segmenter.reached.wait(SECONDS)
            stopping.set()
            segmenter.through.set()
            assert running.result().status_code == 503
            assert "stopping" in detail(running.result())


def test_a_failure_of_our_own_is_told_by_a_number_that_the_log_has_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    segmenter = Gated()
    segmenter.error = RuntimeError("a secret of ours")
    with serving(segmenter) as url, using(url) as user:
        user.begin()
        with caplog.at_level(logging.ERROR, "gamt.server"):
            response = user.draw([2, 3], [3, 9], [5, 14])
        assert response.status_code == 500
        assert "secret" not in response.text
        assert "Traceback" not in response.text
        (record,) = (one for one in caplog.records if one.name == "gamt.server")
        assert detail(response).split()[-1] in record.getMessage()
        assert "SegmenterFault" in record.getMessage()
        assert "secret" not in record.getMessage()  # nor are the places of prompts in the log
        segmenter.error = None
        assert meta(user.draw([2, 3], [3, 9], [5, 14]))["ran_prediction"]


# --- bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"null", b"[]", b"[" * 60_000, b'{"coordinates":' * 4_000, b"{}"],
    ids=["empty", "no text", "null", "list", "deep list", "deep object", "empty object"],
)
def test_what_is_no_prompt_is_refused(ready: User, body: bytes) -> None:
    response = ready.http.post("/add_point_interaction", content=body)
    assert response.status_code == 400
    assert detail(response).startswith("body")


def test_a_long_json_body_is_refused(ready: User) -> None:
    for content in (b" " * 10_000_000, iter([b" " * 100_000])):
        response = ready.http.post("/add_point_interaction", content=content)
        assert response.status_code == 413
        assert "expected 65536 at most" in detail(response)


def test_a_refused_body_is_read_so_that_its_sender_gets_to_the_answer(url: str) -> None:
    response = User(url, **{"X-Lease-Token": "unknown"}).http.post(
        "/set_image", content=bytes(50_000_000)
    )
    assert response.status_code == 410


def test_a_body_that_comes_too_slowly_is_refused() -> None:
    with (
        serving(body_limits=BodyLimits(pause_seconds=0.2)) as url,
        using(url) as user,
        uploading(user, "/add_point_interaction", b"{", length=100) as connection,
    ):
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"found 1 bytes of the body so far" in answer
