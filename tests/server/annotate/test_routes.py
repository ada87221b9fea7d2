"""Requests that the page would not send: each is refused in one line, and nothing is harmed."""

import http.client
import io
import json
import logging
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gamt.io.image import read_image, write_image
from tests.doubles import picture
from tests.server.annotate.annotating import BODY, SPACING_MM, Page, annotating, write_scan
from tests.server.test_turns import wait_until

POINT = {"kind": "point", "voxel": [9, 8, 3], "positive": True, "target": 1}
LASSO = {
    "kind": "lasso",
    "plane": "axial",
    "index": 3,
    "points": [[5, 3], [15, 3], [15, 10]],
    "radius": 0,
    "positive": True,
    "target": 1,
}
WITH_BODY = (
    "prompts",
    "undo",
    "redo",
    "reset",
    "scale",
    "targets",
    "target",
    "save",
    "recovery",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        path = write_scan(tmp_path_factory.mktemp("scan"))
        with annotating(path) as url, Page(url) as page:
            wait_until(lambda: page.state()["scan"] is not None)
            yield page
            # After all that, the scan can be worked on as if nothing had been sent.
            page.labels = np.zeros((0, 0, 0), np.uint8)
            page.box()
            np.testing.assert_array_equal(page.array, BODY)


@pytest.fixture(autouse=True)
def _clean(page: Page, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Lets no error of the server pass, and each test begin with one empty target."""
    with caplog.at_level(logging.ERROR, "gamt.server"):
        yield
    assert not caplog.records
    for target in page.state()["targets"]:
        page.http.delete(f"api/targets/{target['id']}").raise_for_status()
    (target,) = page.state()["targets"]
    assert target["id"] == 1


def detail_of(answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    detail: str = answer.json()["detail"]
    assert "Traceback" not in detail
    assert "\n" not in detail
    return detail


def send(page: Page, body: bytes, path: str = "prompts") -> httpx.Response:
    return page.http.post(f"api/{path}", content=body)


# --- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "found no 'kind'"),
        (b"[]", "expected an object"),
        (b"nonsense", "found no JSON"),
        (b"\xff\xfe", "found no text"),
        (b"[" * 100_000, "too many brackets"),
        (b'{"kind": "point", "kind": "box"}', "twice"),
        (b'{"kind": "star", "positive": true}', 'found "star"'),
        (b'{"kind": "point", "positive": 1}', "true or false"),
        (b'{"kind": "point", "positive": true, "voxel": [1, 2], "target": 1}', "3 indices"),
        (b'{"kind": "point", "positive": true, "voxel": [1, 2, 1e9], "target": 1}', "whole number"),
        (b'{"kind": "point", "positive": true, "voxel": [NaN, 2, 3], "target": 1}', "found NaN"),
        (b'{"kind": "point", "positive": true, "voxel": [1, 2, 3]}', "'target'"),
        (b'{"kind": "point", "positive": true, "voxel": [1, 2, 3], "target": "1"}', "target"),
        (b'{"kind": "point", "positive": true, "voxel": [1, 2, 3], "target": true}', "target"),
        (json.dumps(LASSO).replace(": 0,", ": 1e999,").encode(), "radius"),
        (b'{"kind": "point", "voxel": [' + b"9" * 5000 + b"]}", "digits"),
    ],
)
def test_json_that_is_no_prompt_is_refused(page: Page, body: bytes, expected: str) -> None:
    detail = detail_of(send(page, body))
    assert detail.startswith("request")
    assert expected in detail


@pytest.mark.parametrize(
    "change",
    [
        {"points": []},
        {"points": [[1, 2]]},
        {"points": [[1e300, 1], [2, 3]]},
        {"points": [[-5, -5], [-4, -4]]},
        {"points": [[1, 2, 3]]},
        {"points": 5},
        {"plane": "oblique"},
        {"plane": 0},
        {"index": -1},
        {"index": 9},
        {"index": 1.5},
        {"radius": -1},
        {"kind": "scribble", "points": []},
        {"kind": "scribble", "points": [[-50, -50]]},
        {"kind": "box"},
        {"kind": "box", "low": [5, 5, 5], "high": [5, 6, 6]},
        {"kind": "box", "low": [90, 90, 90], "high": [95, 95, 95]},
        {"kind": "box", "low": [-9, -9, -9], "high": [0, 0, 0]},
        {"kind": "point", "voxel": [20, 0, 0]},
        {"kind": "point", "voxel": [-1, 0, 0]},
        {"kind": "mask", "name": "x"},
    ],
)
def test_drawings_that_can_not_be_are_refused(page: Page, change: dict[str, object]) -> None:
    before = page.state()["targets"]
    detail_of(page.post("prompts", {**LASSO, **change}))
    assert page.state()["targets"] == before


def test_a_lasso_of_a_million_points_is_refused_at_once(page: Page) -> None:
    points = ",".join(["[5,3]"] * 1_000_000)
    body = json.dumps(LASSO).replace("[[5, 3], [15, 3], [15, 10]]", f"[{points}]")
    detail_of(send(page, body.encode()), 413)


def test_a_lasso_of_too_many_points_says_how_many_there_may_be(page: Page) -> None:
    points = [[5, 3], [15, 3], [15, 10]] * 10_000
    assert "20000 points at most" in detail_of(page.post("prompts", {**LASSO, "points": points}))


@pytest.mark.parametrize("path", WITH_BODY)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["kind", "target", "positive", "scale", "format", "name", "restore"]
                )
                | st.text(max_size=3),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_json_of_any_shape_never_fails_the_server(page: Page, path: str, body: object) -> None:
    answer = send(page, json.dumps(body).encode(), path)
    assert answer.status_code < 500


@pytest.mark.parametrize("path", WITH_BODY)
def test_bodies_of_any_size_are_read_no_further_than_they_may_be(page: Page, path: str) -> None:
    detail_of(send(page, b" " * (2 << 20), path), 413)


# --- ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [2, 255, 256, 2**31 - 1])
def test_unknown_targets_are_not_found(page: Page, target: int) -> None:
    detail_of(page.post("prompts", {**POINT, "target": target}), 404)
    for step in ("undo", "redo", "reset", "target"):
        detail_of(page.post(step, {"target": target}), 404)
    detail_of(page.post("scale", {"target": target, "scale": "large"}), 404)
    detail_of(page.http.patch(f"api/targets/{target}", json={"name": "x"}), 404)
    detail_of(page.http.delete(f"api/targets/{target}"), 404)
    detail_of(page.http.get(f"api/disagreement?target={target}"), 404)
    detail_of(page.http.get(f"api/explanation?target={target}"), 404)
    detail_of(page.http.delete(f"api/prompts/1?target={target}"), 404)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "9" * 30, "%00", "1%2f2", "²"])
def test_ids_that_are_no_numbers_are_not_found(page: Page, text: str) -> None:
    for path in (f"targets/{text}", f"prompts/{text}?target=1", f"prompts/1?target={text}"):
        assert page.http.delete(f"api/{path}").status_code in (404, 405)
    assert page.http.get(f"api/explanation?target={text}").status_code == 404


def test_an_unknown_prompt_is_not_found(page: Page) -> None:
    detail_of(page.http.delete("api/prompts/77?target=1"), 404)


@pytest.mark.parametrize("name", ["x", "..", "0", "2", "1%2f..%2f2"])
def test_unknown_images_are_not_found(page: Page, name: str) -> None:
    assert page.http.get(f"api/images/{name}/volume").status_code == 404
    assert page.post(f"images/{name}/open").status_code in (404, 405)


def test_paths_and_methods_that_are_none_are_refused_in_json(page: Page) -> None:
    detail_of(page.http.get("api/unknown"), 404)
    detail_of(page.http.put("api/state"), 405)


# --- steps that can't be ------------------------------------------------------------------------


def test_nothing_to_take_back_changes_nothing(page: Page) -> None:
    for step in ("undo", "redo", "reset"):
        change = page.change(step, {"target": 1})
        assert change.labels is None


def test_a_scale_without_a_click_is_refused(page: Page) -> None:
    assert "point" in detail_of(page.post("scale", {"target": 1, "scale": "large"}))
    detail_of(page.post("scale", {"target": 1, "scale": "huge"}))


def test_there_is_nothing_to_explain_without_prompts(page: Page) -> None:
    detail_of(page.http.get("api/explanation?target=1"))


def test_there_is_nothing_to_save_without_prompts(page: Page) -> None:
    detail_of(page.post("save", {"format": "nifti", "overwrite": False}))
    detail_of(page.http.get("api/download?format=nifti"))
    page.box()
    detail_of(page.post("save", {"format": "../x", "overwrite": True}))
    detail_of(page.http.get("api/download?format=../x"))


def test_there_is_nothing_to_recover(page: Page) -> None:
    detail_of(page.post("recovery", {"restore": True}))


def test_targets_end_at_255(tmp_path: Path) -> None:
    mask = tmp_path / "many.nii.gz"
    labels = np.arange(BODY.size, dtype=np.int32).reshape(BODY.shape)
    with annotating(write_scan(tmp_path)) as url, Page(url) as page:
        wait_until(lambda: page.state()["scan"] is not None)
        write_image(mask, np.where(labels > 255, 0, labels), spacing_mm=SPACING_MM)
        page.show(page.http.post("api/mask?name=many.nii.gz", content=mask.read_bytes()))
        assert len(page.state()["targets"]) == 255
        np.testing.assert_array_equal(page.array.ravel()[:256], range(256))
        assert "255" in detail_of(page.post("targets"))
        write_image(mask, np.where(labels > 300, 0, labels), spacing_mm=SPACING_MM)
        answer = page.http.post("api/mask?name=many.nii.gz", content=mask.read_bytes())
        assert detail_of(answer).startswith("many.nii.gz: found 300 labels")


@pytest.mark.parametrize(
    "change",
    [
        {},
        [],
        {"name": ""},
        {"name": "two\nlines"},
        {"name": 3},
        {"color": "red"},
        {"color": "#12345"},
        {"color": "#12345g"},
        {"visible": "yes"},
        {"locked": 1},
        {"id": 3},
    ],
)
def test_targets_that_can_not_be_are_refused(page: Page, change: object) -> None:
    before = page.state()["targets"]
    detail_of(page.http.patch("api/targets/1", json=change))
    assert page.state()["targets"] == before


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1f\x8b" + bytes(100),
        bytes(352),
        b"\x89PNG\r\n\x1a\n" + bytes(600),
        struct.pack("<i", 348) + bytes(344),
    ],
)
def test_files_that_are_no_image_are_refused_by_name(page: Page, content: bytes) -> None:
    for path in ("images?name=odd.nii.gz", "mask?name=odd.nii.gz"):
        detail = detail_of(page.http.post(f"api/{path}", content=content))
        assert detail.startswith("odd.nii.gz: ")


def test_a_case_of_the_challenge_is_no_image(page: Page) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("imgs.npy", b"x")
    detail_of(page.http.post("api/images?name=case.npz", content=content.getvalue()))


@pytest.mark.parametrize("name", ["", "..", "a/", "%00", "%0a.nii", "x" * 300 + ".nii"])
def test_names_that_are_none_are_refused(page: Page, name: str) -> None:
    for path in ("images", "mask"):
        detail_of(page.http.post(f"api/{path}?name={name}", content=b"x"))


def test_a_name_leads_into_no_other_folder(page: Page, tmp_path: Path) -> None:
    content = write_scan(tmp_path).read_bytes()
    for number, name in enumerate(("../../up.nii.gz", "/tmp/up.nii.gz", "..\\..\\up.nii.gz")):
        answer = page.http.post("api/images", params={"name": name}, content=content)
        (entry,) = [one for one in answer.raise_for_status().json()["images"] if one["is_open"]]
        assert entry["name"] == "up"
        assert not Path("/tmp/up.nii.gz").exists(), number
    page.post("images/1/open").raise_for_status()


def test_what_is_larger_than_the_disk_is_refused_before_it_is_read(page: Page) -> None:
    request = page.http.build_request(
        "POST", "api/images?name=huge.nii", content=b"x", headers={"Content-Length": str(2**60)}
    )
    request.stream = httpx.ByteStream(b"")
    host, port = page.http.base_url.host, page.http.base_url.port
    connection = http.client.HTTPConnection(host, port)
    connection.putrequest("POST", "/annotate/api/images?name=huge.nii")
    for key, value in request.headers.items():
        if key.lower() in ("cookie", "content-length"):
            connection.putheader(key, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "at most" in json.loads(answer.read())["detail"]
    connection.close()


def test_a_body_without_its_length_is_refused(page: Page) -> None:
    detail_of(page.http.post("api/images?name=x.nii", content=iter([b"x"])), 411)


def test_a_form_without_files_is_refused(page: Page) -> None:
    detail_of(page.http.post("api/images", files={"other": ("x.dcm", b"x")}))
    detail_of(page.http.post("api/images", files={"files": ("", b"x")}))
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    detail_of(page.http.post("api/images", content=b"nonsense", headers=broken))
    detail_of(
        page.http.post("api/images", content=b"", headers={"Content-Type": "multipart/form-data"})
    )


def test_the_files_of_a_series_are_one_image(page: Page, tmp_path: Path) -> None:
    # A MetaImage of two files: the header names the other one.
    path = tmp_path / "pair.mhd"
    write_image(path, picture(BODY), spacing_mm=SPACING_MM)
    files = [("files", (one.name, one.read_bytes())) for one in sorted(tmp_path.iterdir())]
    assert len(files) == 2
    answer = page.http.post("api/images?name=pair.mhd", files=files)
    assert answer.raise_for_status().json()["scan"]["shape"] == list(BODY.shape[::-1])
    page.post("images/1/open").raise_for_status()
    assert read_image(path).array.shape == BODY.shape


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("gzip; q=0", False),
        ("br, gzip;q=0.00", False),
        ("identity", False),
    ],
)
def test_the_scan_is_packed_for_those_who_can_unpack_it(
    page: Page, accepted: str, is_packed: bool
) -> None:
    headers = {"Accept-Encoding": accepted}
    answer = page.http.get("api/images/1/volume", headers=headers).raise_for_status()
    assert ("content-encoding" in answer.headers) == is_packed


# --- with nothing open --------------------------------------------------------------------------


def test_without_a_scan_there_is_a_state_and_nothing_else(page: Page) -> None:
    with annotating() as url, Page(url) as empty:
        assert empty.state()["scan"] is None
        detail_of(empty.post("prompts", POINT), 409)
        for path in ("undo", "redo", "reset", "target"):
            detail_of(empty.post(path, {"target": 1}), 409)
        for path in ("labels", "disagreement?target=1", "explanation?target=1"):
            detail_of(empty.http.get(f"api/{path}"), 409)
        detail_of(empty.http.get("api/images/1/volume"), 409)
        detail_of(empty.post("targets"), 409)
        detail_of(empty.post("save", {"format": "nifti", "overwrite": True}), 409)
        assert empty.post("cancel").status_code == 200
