"""The requests of SlicerNNInteractive up to 0.3.2, byte by byte over real sockets."""

import gzip
import http.client
import io
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import gamt
from gamt.server.bodies import BodyLimits
from tests.server.serving import serving

SHAPE = (5, 14, 19)  # 1330 voxels, which fill 166 bytes and 2 bits of one more
BODY = (slice(1, 4), slice(3, 10), slice(4, 15))
BOUNDARY = "7c1f0e5d9a6b4c35"


class OldSlicer:
    """Sends what the extension sends; answers are JSON, or the mask."""

    def __init__(self, url: str, source: str = "127.0.0.1") -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self.address = (host, int(port))
        self._source = source

    def send(
        self, path: str, body: bytes, headers: Mapping[str, str], method: str = "POST"
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(
            *self.address, timeout=60, source_address=(self._source, 0)
        )
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def upload_image(self, image: npt.NDArray[Any]) -> Any:
        body = form_of(("file", "volume.npy", npy_of(image)))
        return json.loads(self.send("/upload_image", body, form_headers(gzipped=False))[1])

    def upload_segment(self, mask: npt.NDArray[np.bool_]) -> Any:
        body = form_of(("file", "volume.npy.gz", gzip.compress(npy_of(mask))))
        return json.loads(self.send("/upload_segment", body, form_headers())[1])

    def click(self, voxel: tuple[int, int, int], positive: bool = True) -> Any:
        return self.prompt_by_json(
            "/add_point_interaction", {"voxel_coord": list(voxel), "positive_click": positive}
        )

    def draw_box(self, one: tuple[int, ...], two: tuple[int, ...], positive: bool = True) -> Any:
        body = {"outer_point_one": one, "outer_point_two": two, "positive_click": positive}
        return self.prompt_by_json("/add_bbox_interaction", body)

    def draw(self, kind: str, mask: npt.NDArray[np.uint8], positive: bool = True) -> Any:
        body = form_of(
            ("file", "volume.npy.gz", gzip.compress(npy_of(mask))),
            ("positive_click", None, str(positive).encode()),
        )
        return self.read(*self.send(f"/add_{kind}_interaction", body, form_headers()))

    def prompt_by_json(self, path: str, body: object) -> Any:
        headers = {"Content-Type": "application/json"}
        return self.read(*self.send(path, json.dumps(body).encode(), headers))

    def read(self, response: http.client.HTTPResponse, body: bytes) -> Any:
        """Returns the mask as the extension unpacks it, or what the JSON says."""
        assert response.status == 200
        if response.headers["Content-Type"] == "application/json":
            return json.loads(body)
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Encoding"] == "gzip"
        bits = np.unpackbits(np.frombuffer(gzip.decompress(body), np.uint8))
        count = int(np.prod(SHAPE))
        assert len(bits) == -(-count // 8) * 8
        assert not bits[count:].any()
        return bits[:count].reshape(SHAPE).astype(bool)


def npy_of(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def form_of(*parts: tuple[str, str | None, bytes]) -> bytes:
    """Returns a form as the extension's encoder writes it."""
    body = b""
    for name, filename, content in parts:
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename is not None:
            body += f'; filename="{filename}"\r\nContent-Type: application/octet-stream'.encode()
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def form_headers(gzipped: bool = True) -> dict[str, str]:
    """Returns a form's headers, with the false claim about all of its body."""
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return headers | ({"Content-Encoding": "gzip"} if gzipped else {})


def error(message: str) -> dict[str, str]:
    return {"status": "error", "message": message}


OK = {"status": "ok"}
NO_IMAGE = error("No image uploaded")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture
def image() -> npt.NDArray[np.int16]:
    image = np.zeros(SHAPE, np.int16)
    image[BODY] = 200
    return image


@pytest.fixture
def slicer(url: str, image: npt.NDArray[np.int16]) -> OldSlicer:
    """Has sent its image and an empty segment, as before the first prompt."""
    slicer = OldSlicer(url)
    assert slicer.upload_image(image) == OK
    assert slicer.upload_segment(np.zeros(SHAPE, np.bool_)) == OK
    return slicer


def test_a_click_is_answered_by_the_whole_mask(
    slicer: OldSlicer, image: npt.NDArray[np.int16]
) -> None:
    np.testing.assert_array_equal(slicer.click((2, 6, 9)), image > 0)


def test_a_box_holds_both_of_its_corners(slicer: OldSlicer, image: npt.NDArray[np.int16]) -> None:
    found = slicer.draw_box((2, 9, 4), (2, 3, 14))  # corners in any order
    np.testing.assert_array_equal(found[2], image[2] > 0)


def test_a_box_that_reaches_out_of_the_image_is_clipped(slicer: OldSlicer) -> None:
    found = slicer.draw_box((2, -3, -5), (2, 40, 50))
    assert found.shape == SHAPE


def test_a_lasso_is_taken(slicer: OldSlicer, image: npt.NDArray[np.int16]) -> None:
    lasso = np.zeros(SHAPE, np.uint8)
    lasso[2][image[2] > 0] = 1
    found = slicer.draw("lasso", lasso)
    np.testing.assert_array_equal(found[2], image[2] > 0)


def test_only_ones_are_drawn_by_a_scribble(slicer: OldSlicer) -> None:
    slicer.click((2, 6, 9))
    scribble = np.zeros(SHAPE, np.uint8)
    scribble[3, 5, 5:9] = 1
    scribble[0, 0, :] = 255  # what the user took away from the scribble before
    found = slicer.draw("scribble", scribble, positive=False)
    assert not found[3, 5, 5:9].any()
    assert found[2, 6, 9]


@pytest.mark.parametrize("voxel", [(0, 6, 9), (2, 13, 9), (2, 6, 18)])
def test_axes_are_those_of_the_array(slicer: OldSlicer, voxel: tuple[int, int, int]) -> None:
    # The first axis is the shortest, and the last the longest: swapped, these lie elsewhere.
    slicer.click((2, 6, 9))
    assert slicer.click(voxel)[voxel]


def test_a_segment_is_gone_on_with(slicer: OldSlicer, image: npt.NDArray[np.int16]) -> None:
    segment = image > 0
    segment[0, :3, :4] = True
    assert slicer.upload_segment(segment) == OK
    found = slicer.click((0, 1, 1), positive=False)
    assert not found[0, 1, 1]
    np.testing.assert_array_equal(found[BODY], True)


def test_an_empty_segment_begins_anew(slicer: OldSlicer) -> None:
    slicer.click((2, 6, 9))
    assert slicer.upload_segment(np.zeros(SHAPE, np.bool_)) == OK
    found = slicer.click((0, 0, 0))
    assert found[0, 0, 0]
    assert not found[2, 6, 9]


def test_an_image_in_another_memory_order_and_type_is_read(
    url: str, image: npt.NDArray[np.int16]
) -> None:
    slicer = OldSlicer(url)
    assert slicer.upload_image(np.asfortranarray(image).astype(">f4", order="F")) == OK
    np.testing.assert_array_equal(slicer.click((2, 6, 9)), image > 0)


def test_a_server_without_an_image_asks_for_it() -> None:
    with serving() as url:
        slicer = OldSlicer(url)
        assert slicer.click((2, 6, 9)) == NO_IMAGE
        assert slicer.draw_box((2, 3, 4), (2, 9, 14)) == NO_IMAGE
        assert slicer.draw("scribble", np.ones(SHAPE, np.uint8)) == NO_IMAGE
        assert slicer.upload_segment(np.zeros(SHAPE, np.bool_)) == NO_IMAGE


def test_a_refused_image_is_not_asked_for_again_and_again(
    slicer: OldSlicer, image: npt.NDArray[np.int16]
) -> None:
    found = "a volume of int16 and shape (14, 19)"
    refused = error(f"found {found}, expected numbers in three dimensions")
    assert slicer.upload_image(image[0]) == refused
    assert slicer.click((2, 6, 9)) == refused  # nor is the image before gone on with
    assert slicer.click((2, 6, 9)) == NO_IMAGE  # the user clicks again: the client may try again


def test_an_image_takes_a_place_until_nobody_clicks_any_more(image: npt.NDArray[np.int16]) -> None:
    with serving(max_sessions=1, idle_seconds=2, liveness_seconds=0.5, sweep_seconds=0.1) as url:
        slicer = OldSlicer(url)
        assert slicer.upload_image(image) == OK
        assert slicer.send("/claim", b"", {})[0].status == 503
        time.sleep(1)
        assert slicer.click((2, 6, 9))[2, 6, 9]  # these clients give no signs of life
        wait_for(lambda: slicer.send("/claim", b"", {})[0].status == 200)
        assert slicer.click((2, 6, 9)) == NO_IMAGE


def test_an_image_is_refused_where_all_places_are_taken(image: npt.NDArray[np.int16]) -> None:
    with serving(max_sessions=1) as url:
        slicer = OldSlicer(url)
        assert slicer.send("/claim", b"", {})[0].status == 200
        answer = slicer.upload_image(image)
        assert answer["message"].startswith("all 1 places of this server are taken")
        assert slicer.click((2, 6, 9)) == answer


def test_a_drawing_that_does_not_arrive_whole_is_an_error(
    slicer: OldSlicer, image: npt.NDArray[np.int16]
) -> None:
    lasso = np.zeros(SHAPE, np.uint8)
    lasso[2, 4:8, 5:12] = 1
    whole = form_of(
        ("file", "volume.npy.gz", gzip.compress(npy_of(lasso))), ("positive_click", None, b"True")
    )
    for body in (b"", whole[:40], whole[:200], whole[: -len(whole) // 4]):
        answer = slicer.read(*slicer.send("/add_lasso_interaction", body, form_headers()))
        assert answer == error("the request did not arrive whole, please try again")
    assert slicer.draw("lasso", lasso)[2, 5, 8]


def test_a_body_that_is_announced_and_does_not_come_is_an_error(
    image: npt.NDArray[np.int16],
) -> None:
    # What the client sends again, it may have read to its end already.
    with serving(body_limits=BodyLimits(pause_seconds=0.2)) as url:
        slicer = OldSlicer(url)
        slicer.upload_image(image)
        headers = form_headers() | {"Content-Length": "4000"}
        answer = slicer.read(*slicer.send("/add_scribble_interaction", b"", headers))
        assert answer["status"] == "error"
        assert answer["message"].startswith("found 0 bytes of the body so far")
        assert slicer.click((2, 6, 9))[2, 6, 9]


def test_a_client_that_hangs_up_while_it_sends_an_image_leaves_no_place_taken(
    image: npt.NDArray[np.int16],
) -> None:
    with serving(max_sessions=1) as url:
        slicer = OldSlicer(url)
        head = "POST /upload_image HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n"
        head += f"Content-Type: {form_headers()['Content-Type']}\r\n\r\n"
        with socket.create_connection(slicer.address) as connection:
            connection.sendall(head.encode() + b"--")
            expected = b"gamt_reserved_bytes 4000.0"
            wait_for(lambda: expected in slicer.send("/metrics", b"", {}, "GET")[1])
        wait_for(lambda: slicer.click((2, 6, 9)) == NO_IMAGE)
        assert slicer.upload_image(image) == OK
        assert slicer.click((2, 6, 9))[2, 6, 9]


def test_a_point_outside_of_the_image_is_an_error(slicer: OldSlicer) -> None:
    answer = slicer.click((2, 14, 9))
    assert answer["status"] == "error"
    assert "[2, 14, 9]" in answer["message"]
    assert str(SHAPE) in answer["message"]


def test_an_empty_drawing_is_an_error(slicer: OldSlicer) -> None:
    empty = error("found an empty scribble, please draw it again")
    assert slicer.draw("scribble", np.zeros(SHAPE, np.uint8)) == empty


def test_a_drawing_of_another_shape_is_an_error(slicer: OldSlicer) -> None:
    answer = slicer.draw("lasso", np.ones((14, 5, 19), np.uint8))
    found = "a volume of uint8 and shape (14, 5, 19)"
    assert answer == error(f"found {found}, expected a mask of the image's shape {SHAPE}")


def test_bodies_of_protocol_v2_without_a_token_are_not_of_this_one(slicer: OldSlicer) -> None:
    point = json.dumps({"coordinates": [2, 6, 9], "include_interaction": True}).encode()
    for path, body, kind in (
        ("/add_point_interaction", point, "application/json"),
        ("/add_scribble_interaction", b"NNIA", "application/octet-stream"),
    ):
        response, answer = slicer.send(path, body, {"Content-Type": kind})
        assert response.status == 410
        assert json.loads(answer) == {"detail": "lease token missing"}


def test_a_server_with_a_key_tells_how_to_update(image: npt.NDArray[np.int16]) -> None:
    with serving(api_key="secret") as url:
        slicer = OldSlicer(url)
        for answer in (
            slicer.upload_image(image),
            slicer.upload_segment(image > 0),
            slicer.click((2, 6, 9)),
            slicer.draw("lasso", np.ones(SHAPE, np.uint8)),
        ):
            assert answer["status"] == "error"
            assert "Update SlicerNNInteractive to 1.0.0" in answer["message"]


def test_a_key_is_taken_where_a_proxy_adds_it(image: npt.NDArray[np.int16]) -> None:
    right = {"Authorization": "Bearer secret"}
    with serving(api_key="secret") as url:
        slicer = OldSlicer(url)
        body = form_of(("file", "volume.npy", npy_of(image)))
        for key, status in ((right, 200), ({"Authorization": "Bearer wrong"}, 401)):
            headers = form_headers(gzipped=False) | key
            assert slicer.send("/upload_image", body, headers)[0].status == status
        point = json.dumps({"voxel_coord": [2, 6, 9], "positive_click": True}).encode()
        response, answer = slicer.send("/add_point_interaction", point, right)
        assert slicer.read(response, answer)[2, 6, 9]
        assert slicer.send("/", b"", right, "GET")[0].status == 200


def test_a_key_that_is_not_asked_for_is_ignored(url: str, image: npt.NDArray[np.int16]) -> None:
    body = form_of(("file", "volume.npy", npy_of(image)))
    headers = form_headers(gzipped=False) | {"Authorization": "Basic whatever"}
    assert json.loads(OldSlicer(url).send("/upload_image", body, headers)[1]) == OK


def test_an_upload_that_is_slow_holds_up_nobody(slicer: OldSlicer) -> None:
    head = "POST /upload_segment HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    head += f"Content-Type: {form_headers()['Content-Type']}\r\n\r\n"
    with socket.create_connection(slicer.address) as connection:
        before = reserved_line(slicer)
        connection.sendall(head.encode() + b"--")
        wait_for(lambda: reserved_line(slicer) != before)  # it is being received
        assert slicer.click((2, 6, 9))[2, 6, 9]


def test_a_mask_of_more_than_a_byte_a_voxel_is_an_error(slicer: OldSlicer) -> None:
    answer = slicer.draw("lasso", np.ones(SHAPE, np.int16))
    found = f"a volume of int16 and shape {SHAPE}"
    assert answer == error(f"found {found}, expected a mask of a byte a voxel")


def test_behind_a_proxy_the_address_is_that_of_the_proxy(url: str) -> None:
    headers = {"Host": "gamt.example.org", "X-Forwarded-Proto": "https"}
    body = OldSlicer(url).send("/", b"", headers, method="GET")[1]
    assert b"\nhttps://gamt.example.org as the server's address" in body


def test_behind_a_proxy_machines_are_told_apart(
    image: npt.NDArray[np.int16], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gamt.server")
    body = form_of(("file", "volume.npy", npy_of(image)))
    with serving() as url:
        for machine in ("10.0.0.1", "10.0.0.2"):
            headers = form_headers(gzipped=False) | {"X-Forwarded-For": machine}
            OldSlicer(url).send("/upload_image", body, headers)
    assert any("a second machine" in message for message in caplog.messages)


def test_the_address_itself_tells_how_to_connect(slicer: OldSlicer, url: str) -> None:
    response, body = slicer.send("/", b"", {}, method="GET")
    assert response.status == 200
    text = body.decode()
    assert f"gamt {gamt.__version__}" in text
    assert url in text


def test_a_second_machine_is_warned_of(
    image: npt.NDArray[np.int16], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gamt.server")
    with serving() as url:
        OldSlicer(url).upload_image(image)
        OldSlicer(url).upload_image(image)
        assert not caplog.records
        OldSlicer(url, source="127.0.0.2").upload_image(image)
        (warning,) = caplog.messages
        assert warning.startswith("a second machine replaces the image of the first")


def test_the_voxels_are_said_once_to_be_cubes_of_a_millimetre(
    image: npt.NDArray[np.int16], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gamt.server")
    with serving() as url:
        OldSlicer(url).upload_image(image)
        OldSlicer(url).upload_image(image)
    assert sum("taken to be 1 mm" in message for message in caplog.messages) == 1


def reserved_line(slicer: OldSlicer) -> bytes:
    """Returns what the metrics say of the memory that is reserved."""
    lines = slicer.send("/metrics", b"", {}, "GET")[1].splitlines()
    return next(line for line in lines if line.startswith(b"gamt_reserved_bytes "))


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when a condition holds; fails if that takes too long."""
    latest = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.05)
