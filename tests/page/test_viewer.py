"""The viewer in a browser: what is on the screen, and which voxel is where."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from selenium import webdriver

from tests.page.viewing import ViewerPage, viewer_page

PLANES = ("axial", "coronal", "sagittal")

#: Shape, spacing and device pixels per CSS pixel.
SCANS = [
    ((31, 47, 23), (1.0, 1.0, 1.0), 1),
    ((40, 25, 12), (0.7, 1.1, 4.0), 1.5),
    ((9, 64, 50), (5.0, 0.8, 0.8), 2),
]

ORANGE = (230, 159, 0)


@pytest.fixture(scope="module")
def page(
    browser: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ViewerPage]:
    with viewer_page(browser, tmp_path_factory.mktemp("page")) as one:
        yield one


def grey_at(picture: np.ndarray[Any, Any], place: dict[str, float], ratio: float) -> int:
    """The red of the pixel at a place in CSS pixels."""
    return int(color_at(picture, place, ratio)[0])


def color_at(picture: np.ndarray[Any, Any], place: dict[str, float], ratio: float) -> Any:
    return picture[int(place["y"] * ratio), int(place["x"] * ratio)]


def blueness(picture: np.ndarray[Any, Any]) -> int:
    """How much more blue than red the middle of the canvas is, where no crosshair is."""
    red, _, blue = picture[300, 400].astype(int)
    return int(blue - red)


def random_voxels(shape: tuple[int, int, int], count: int) -> list[list[int]]:
    """The first and last voxel, and random ones."""
    random = np.random.default_rng(7).integers(0, shape, (count, 3))
    return [[0, 0, 0], [size - 1 for size in shape], *random.tolist()]


@pytest.mark.parametrize(("shape", "spacing_mm", "ratio"), SCANS)
def test_pixel_where_a_voxel_is_said_to_be_shows_that_voxel(
    page: ViewerPage,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    ratio: float,
) -> None:
    page.begin(ratio)
    page.run("viewer.setLayout('all')")
    for voxel in random_voxels(shape, 3):
        array = np.zeros(shape, np.int16)
        array[tuple(voxel)] = 1000
        page.load(array, spacing_mm)
        page.run("viewer.setCrosshair(arguments[0])", voxel)
        page.wait_for_frame()
        picture = page.picture()
        for plane in PLANES:
            at = page.run("return viewer.positionOf(arguments[0], arguments[1])", plane, voxel)
            # The pixel's centre is within half a pixel of the voxel's, of 3 pixels at least.
            assert grey_at(picture, at, ratio) > 150
            for axis in range(3):
                for step in (-1, 1):
                    other = list(voxel)
                    other[axis] += step
                    at_other = page.run(
                        "return viewer.positionOf(arguments[0], arguments[1])", plane, other
                    )
                    if at_other != at and 0 <= other[axis] < shape[axis]:
                        assert grey_at(picture, at_other, ratio) < 100


@pytest.mark.parametrize(("shape", "spacing_mm", "ratio"), SCANS)
def test_place_of_a_voxel_leads_back_to_it_when_zoomed_and_moved(
    page: ViewerPage,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    ratio: float,
) -> None:
    page.begin(ratio)
    page.load(np.zeros(shape, np.uint8), spacing_mm)
    page.run("viewer.zoom('coronal', 1.7, 130, 420); viewer.pan('axial', 13, -9)")
    seen = 0
    for voxel in random_voxels(shape, 40):
        for plane in PLANES:
            # setCrosshair would bring it into sight, and so move what is to be found again.
            back = page.run(
                """
                const [plane, voxel] = arguments;
                viewer.scroll(plane, voxel[{sagittal: 0, coronal: 1, axial: 2}[plane]] -
                  viewer.tiles().find((tile) => tile.plane === plane).index);
                const {x, y} = viewer.positionOf(plane, voxel);
                const tile = viewer.tiles().find((one) => one.plane === plane);
                const isSeen = x > tile.x && x < tile.x + tile.width &&
                  y > tile.y && y < tile.y + tile.height;
                return isSeen ? viewer.voxelAt(x, y) : null""",
                plane,
                voxel,
            )
            if back is None:
                continue
            seen += 1
            first, second = [n for n in range(3) if n != PLANES[::-1].index(plane)]
            assert back["plane"] == plane
            assert back["voxel"] == voxel
            assert back["point"] == pytest.approx([voxel[first], voxel[second]], abs=1e-3)
    assert seen > 50


def test_nothing_is_at_a_place_beside_the_scan_or_in_3d(page: ViewerPage) -> None:
    page.begin()
    page.load(np.zeros((10, 40, 10), np.uint8))
    # The axial tile is 399 x 299 pixels, of which the scan has 75 in the middle.
    assert page.run("return viewer.voxelAt(20, 150)") is None
    assert page.run("return viewer.voxelAt(200, 150)") is not None
    assert page.run("return viewer.voxelAt(600, 150)") is None


def test_window_changes_what_is_black_and_white(page: ViewerPage) -> None:
    page.begin()
    array = np.full((20, 20, 20), 300, np.int16)
    page.load(array, window=(500, 1000))
    assert grey_at(page.picture(), {"x": 150, "y": 100}, 1) == pytest.approx(255 * 0.3, abs=1)
    page.run("viewer.setWindow(300, 100)")
    page.wait_for_frame()
    assert grey_at(page.picture(), {"x": 150, "y": 100}, 1) == pytest.approx(255 * 0.5, abs=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_every_type_of_voxels_has_its_own_values(page: ViewerPage, dtype: type[Any]) -> None:
    page.begin()
    array = np.full((21, 20, 19), 50, dtype)
    page.load(array, window=(100, 200))
    assert grey_at(page.picture(), {"x": 150, "y": 100}, 1) == pytest.approx(255 * 0.25, abs=1)


def test_labels_change_where_a_patch_lies_and_nowhere_else(page: ViewerPage) -> None:
    page.begin()
    shape = (30, 20, 10)
    page.load(np.full(shape, 1000, np.int16))
    page.run(
        "viewer.setOpacity(1); viewer.setTargets([{id: 7, color: '#E69F00', visible: true}]);"
        "viewer.setCrosshair([3, 3, 5])"
    )
    labels = np.full((3, 2, 4), 7, np.uint8)
    labels[1, 0, 2] = 0
    page.patch((19, 12, 3), labels)
    picture = page.picture()
    expected = np.zeros(shape, bool)
    expected[19:22, 12:14, 3:7] = labels == 7
    for voxel in ([19, 12, 5], [21, 13, 5], [22, 13, 5], [18, 12, 5], [20, 12, 5], [20, 14, 5]):
        at = page.run("return viewer.positionOf('axial', arguments[0])", voxel)
        color = tuple(int(value) for value in color_at(picture, at, 1))
        assert color == (ORANGE if expected[tuple(voxel)] else (255, 255, 255)), voxel


def test_hidden_target_is_not_drawn(page: ViewerPage) -> None:
    page.begin()
    page.load(np.full((20, 20, 20), 1000, np.int16))
    page.patch((0, 0, 0), np.full((20, 20, 20), 1, np.uint8))
    page.run("viewer.setTargets([{id: 1, color: '#E69F00', visible: false}])")
    page.wait_for_frame()
    assert color_at(page.picture(), {"x": 150, "y": 100}, 1).tolist() == [255, 255, 255]


def test_target_without_filling_keeps_its_outline(page: ViewerPage) -> None:
    page.begin()
    page.load(np.full((20, 20, 20), 1000, np.int16))
    page.run(
        "viewer.setTargets([{id: 1, color: '#E69F00', visible: true}]); viewer.setOpacity(0);"
        "viewer.setLayout('axial'); viewer.setCrosshair([10, 2, 10])"
    )
    page.patch((5, 5, 8), np.full((8, 8, 4), 1, np.uint8))
    picture = page.picture()
    inside = page.run("return viewer.positionOf('axial', [8, 8, 10])")
    edge = page.run("return viewer.positionOf('axial', [4.5, 8, 10])")
    assert min(color_at(picture, inside, 1)) >= 253
    # The first voxel begins at 4.5; to the right on the screen lie lower indices.
    assert color_at(picture, {"x": edge["x"] - 1, "y": edge["y"]}, 1).tolist() == list(ORANGE)


def test_disagreement_is_seen_where_it_is_and_goes_again(page: ViewerPage) -> None:
    page.begin()
    page.load(np.zeros((20, 20, 20), np.int16))
    page.run("viewer.setCrosshair([10, 2, 10])")
    values = np.zeros((6, 6, 6), np.uint8)
    values[3:] = 255
    page.show_disagreement((5, 8, 7), values)
    picture = page.picture()
    agreed, disagreed = (
        color_at(picture, page.run("return viewer.positionOf('axial', arguments[0])", voxel), 1)
        for voxel in ([6, 10, 10], [9, 10, 10])
    )
    assert agreed.tolist() == [0, 0, 0]
    assert disagreed[0] > 200
    assert disagreed[2] < 150
    page.run("viewer.showDisagreement(null)")
    page.wait_for_frame()
    at = page.run("return viewer.positionOf('axial', [9, 10, 10])")
    assert color_at(page.picture(), at, 1).tolist() == [0, 0, 0]


def test_another_scan_has_no_labels_of_the_one_before(page: ViewerPage) -> None:
    page.begin()
    page.run("viewer.setTargets([{id: 1, color: '#E69F00', visible: true}])")
    page.load(np.full((20, 20, 20), 1000, np.int16))
    page.patch((0, 0, 0), np.full((20, 20, 20), 1, np.uint8))
    page.load(np.full((24, 20, 18), 200, np.uint8), window=(100, 200))
    assert color_at(page.picture(), {"x": 150, "y": 100}, 1).tolist() == [255, 255, 255]
    page.run("viewer.clear()")
    page.wait_for_frame()
    assert page.picture()[:600, :800].max() == 0


def test_crosshair_stays_in_the_scan_and_in_sight(page: ViewerPage) -> None:
    page.begin()
    page.load(np.zeros((30, 20, 10), np.int16))
    page.run("viewer.zoom('axial', 8, 200, 150)")
    page.run("viewer.setCrosshair([999, -5, 3])")
    assert page.run("return viewer.crosshair") == [29, 0, 3]
    for plane in PLANES:
        at = page.run("return viewer.positionOf(arguments[0], [29, 0, 3])", plane)
        assert (
            page.run("return viewer.voxelAt(arguments[0].x, arguments[0].y)", at)["plane"] == plane
        )


def test_listeners_hear_of_a_redraw_after_scrolling(page: ViewerPage) -> None:
    page.begin()
    page.load(np.zeros((30, 20, 10), np.int16))
    page.run("window.heard = 0; viewer.onChange(() => { heard += 1; })")
    page.run("viewer.scroll('axial', 2)")
    page.wait_for_frame()
    assert page.run("return heard") == 1
    indices = {tile["plane"]: tile["index"] for tile in page.run("return viewer.tiles()")}
    assert indices == {"axial": 7, "coronal": 10, "sagittal": 15, "3d": None}


@pytest.mark.slow
def test_3d_view_shows_the_labels_and_follows_their_colours(page: ViewerPage) -> None:
    page.begin()
    page.load(np.zeros((40, 40, 30), np.int16))
    page.run("viewer.setCrosshair([2, 2, 2])")
    page.run(
        "viewer.setLayout('3d'); viewer.setTargets([{id: 1, color: '#0000ff', visible: true}])"
    )
    page.patch((5, 5, 5), np.full((30, 30, 20), 1, np.uint8))
    assert page.wait_until(lambda picture: blueness(picture) > 50)
    page.run("viewer.setTargets([{id: 1, color: '#ff0000', visible: true}])")
    assert page.wait_until(lambda picture: blueness(picture) < -50)
    before = page.picture()
    page.run("viewer.rotate(80, 20)")
    assert page.wait_until(lambda picture: bool((picture != before).any()))


@pytest.mark.slow
def test_3d_view_shows_no_label_that_is_hidden_or_gone(page: ViewerPage) -> None:
    page.begin()
    page.load(np.zeros((40, 40, 30), np.int16))
    page.run("viewer.setCrosshair([2, 2, 2])")
    blue, hidden = (
        f"viewer.setTargets([{{id: 1, color: '#0000ff', visible: {visible}}}])"
        for visible in ("true", "false")
    )
    page.run("viewer.setLayout('3d');" + blue)
    page.patch((5, 5, 5), np.full((30, 30, 20), 1, np.uint8))
    assert page.wait_until(lambda picture: blueness(picture) > 50)
    page.run(hidden)
    assert page.wait_until(lambda picture: blueness(picture) < 50)
    page.run(blue)
    assert page.wait_until(lambda picture: blueness(picture) > 50)
    page.patch((5, 5, 5), np.zeros((30, 30, 20), np.uint8))
    assert page.wait_until(lambda picture: blueness(picture) < 50)


def test_browser_has_nothing_to_complain_of(page: ViewerPage) -> None:
    """No breach of the page's policy: no foreign request, no code from strings."""
    page.begin()
    page.load(np.zeros((30, 20, 10), np.int16))
    page.run("viewer.setLayout('3d')")
    page.wait_until(lambda picture: False, seconds=2)
    assert page.errors() == []


def test_browser_without_webgl_is_told_what_to_do(page: ViewerPage) -> None:
    page.begin()
    message = page.run(
        """
        HTMLCanvasElement.prototype.getContext = () => null;
        try { begin(); } catch (error) { return error.message; }"""
    )
    assert "WebGL 2" in message
    assert "hardware acceleration" in message


def test_scan_that_the_server_refuses_is_named(page: ViewerPage) -> None:
    page.begin()
    message = page.run(
        "return viewer.load('nothing', {name: 'scan.nii'}).catch((error) => error.message)"
    )
    assert "scan.nii" in message
    assert "404" in message


def test_lost_graphics_are_told(page: ViewerPage) -> None:
    page.begin()
    message = page.run(
        """
        return new Promise((done) => {
          viewer.onFailure(done);
          document.querySelector("canvas").getContext("webgl2")
            .getExtension("WEBGL_lose_context").loseContext();
        })"""
    )
    assert "Reload the page" in message
