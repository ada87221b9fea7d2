"""Adapters of peers, without the peers: tests/peers has them with their packages."""

import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from evaluation import peers
from evaluation.peers import Point, PointSession, SamMed3d
from evaluation.sessions import FactoryError

SHAPE = (20, 60, 40)


class Noting:
    """A network for points that answers with its last point, and notes what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[list[Point], int]] = []

    def set_image(self, image: npt.NDArray[Any], spacing_mm: Sequence[float]) -> None:
        self.shape = image.shape

    def predict(
        self, points: Sequence[Point], previous: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        self.given.append((list(points), int(previous.sum())))
        mask = np.zeros(self.shape, bool)
        mask[tuple(round(one) for one in points[-1].index)] = True
        return mask


@pytest.fixture
def model() -> Noting:
    return Noting()


@pytest.fixture
def target() -> npt.NDArray[np.uint8]:
    return np.zeros(SHAPE, np.uint8)


@pytest.fixture
def session(model: Noting, target: npt.NDArray[np.uint8]) -> PointSession:
    session = PointSession(model)
    session.set_image(np.zeros((1, *SHAPE)), {"spacing": (1, 1, 1)})
    session.set_target_buffer(target)
    return session


class TestPointSession:
    def test_a_box_is_the_point_in_its_centre(self, session: PointSession, model: Noting) -> None:
        # Half-open: of the voxels 4..7, 10..20 and 6..6.
        session.add_bbox_interaction([[4, 8], [10, 21], [6, 7]], True)
        assert model.given == [([Point((5.5, 15.0, 6.0), True)], 0)]

    def test_points_add_up_until_the_next_target(
        self, session: PointSession, model: Noting, target: npt.NDArray[np.uint8]
    ) -> None:
        session.add_point_interaction((1, 2, 3), True, run_prediction=False)
        assert model.given == []
        session.add_point_interaction((4, 5, 6), False)
        assert [len(points) for points, _ in model.given] == [2]
        assert np.argwhere(target).tolist() == [[4, 5, 6]]
        session.reset_interactions()
        assert not target.any()
        session.add_point_interaction((7, 8, 9), True)
        assert [len(points) for points, _ in model.given] == [2, 1]

    def test_a_mask_is_gone_on_from(
        self, session: PointSession, model: Noting, target: npt.NDArray[np.uint8]
    ) -> None:
        initial = np.zeros(SHAPE, np.uint8)
        initial[2:4, 2:5, 2] = 1
        session.add_initial_seg_interaction(initial)
        session.add_point_interaction((0, 0, 0), False)
        # Without a positive point there is nothing to look for.
        assert model.given == []
        np.testing.assert_array_equal(target, initial)
        session.add_point_interaction((1, 2, 3), True)
        assert model.given[0][1] == 6


class Cube(torch.nn.Module):
    """In place of SAM-Med3D: finds the cube of 48 mm in the middle of what it sees.

    Attributes:
        points, masks, image: what it was prompted with last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def image_encoder(self, image: torch.Tensor) -> torch.Tensor:
        self.image = image
        return image

    @property
    def prompt_encoder(self) -> Any:
        def encode(points: Any, boxes: None, masks: torch.Tensor) -> tuple[None, None]:
            self.points, self.masks = points, masks
            return None, None

        encode.get_dense_pe = lambda: None  # type: ignore[attr-defined]
        return encode

    def mask_decoder(self, **prompts: Any) -> tuple[torch.Tensor, None]:
        # A quarter of the cube's 128 voxels a side; 8 of them are 32 there, of 1.5 mm.
        scores = torch.full((1, 1, 32, 32, 32), -1.0)
        scores[..., 12:20, 12:20, 12:20] = 1
        return scores, None


class TestSamMed3d:
    SPACING_MM = (6.0, 1.0, 2.0)

    def predict(
        self, network: Cube, points: Sequence[Point], previous: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        model = SamMed3d(network)
        image = np.random.default_rng(3).integers(1, 200, SHAPE).astype(np.uint8)
        model.set_image(image, self.SPACING_MM)
        return model.predict(points, previous)

    def test_what_is_found_lies_around_the_point_at_its_size_in_millimetres(self) -> None:
        found = self.predict(Cube(), [Point((10, 30, 20), True)], np.zeros(SHAPE, bool))
        # 48 mm are 8, 48 and 24 voxels.
        low, high = np.argwhere(found).min(axis=0), np.argwhere(found).max(axis=0) + 1
        np.testing.assert_allclose(high - low, (8, 48, 24), atol=1)
        np.testing.assert_allclose((low + high - 1) / 2, (10, 30, 20), atol=1)

    def test_points_and_mask_are_given_in_the_cubes_voxels(self) -> None:
        network = Cube()
        previous = np.zeros(SHAPE, bool)
        previous[9:12] = True
        points = [Point((10, 30, 20), True), Point((11, 33, 14), False)]
        self.predict(network, points, previous)
        places, labels = network.points
        # Away from the middle by 6, 3 and -12 mm, of 1.5 mm each.
        assert places.tolist() == [[[64, 64, 64], [68, 66, 56]]]
        assert labels.tolist() == [[1, 0]]
        assert network.masks.shape == (1, 1, 32, 32, 32)
        # Three slices of 6 mm are three steps of four voxels of 1.5 mm.
        assert int(network.masks[0, 0, :, 16, 16].sum()) == 3
        # The scan is above 0, and what surrounds it is not.
        scan = network.image[network.image > network.image.min()]
        assert float(scan.mean()) == pytest.approx(0, abs=1e-3)
        assert float(scan.std()) == pytest.approx(1, abs=1e-3)

    def test_what_was_found_before_stays_outside_of_the_cube(self) -> None:
        # The cube spans 192 mm, or 96 voxels along x, so that a point at one end sees all; along y
        # it begins 64 * 1.5 mm = 96 voxels before the point.
        network, shape = Cube(), (8, 150, 12)
        model = SamMed3d(network)
        model.set_image(np.ones(shape), (6.0, 1.0, 2.0))
        previous = np.ones(shape, bool)
        found = model.predict([Point((4, 140, 6), True)], previous)
        assert found[:, :44].all()
        assert not found[:, 46:110].any()


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (peers.nninteractive, "nninteractive"),
        (lambda: peers.sam_med3d("a.pth"), "medim"),
        (lambda: peers.vista3d("a.pth"), "monai"),
    ],
)
def test_a_package_that_is_missing_is_named(
    make: Callable[[], object], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the version that the tests of peers run with.
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    group = tomllib.loads(pyproject.read_text(encoding="utf-8"))["dependency-groups"]["peers"]
    (requirement,) = [one for one in group if one.startswith(f"{package}==")]
    for name in [one for one in sys.modules if one.startswith("nnInteractive.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("nnInteractive", "medim", "monai"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(FactoryError, match=f"pip install {requirement} "):
        make()


def test_a_checkpoint_that_is_missing_or_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with pytest.raises(FactoryError, match=r"a\.pth: no such file, expected a checkpoint"):
        peers._load(str(path), lambda read: read, "cpu")
    torch.save({"other": torch.zeros(1)}, path)
    with pytest.raises(FactoryError, match=r"a\.pth: not this model's: KeyError"):
        peers._load(str(path), lambda read: read["model_state_dict"], "cpu")
    path.write_bytes(b"no zip")
    with pytest.raises(FactoryError, match=r"a\.pth: not this model's: "):
        peers._load(str(path), lambda read: read, "auto")


def test_a_network_is_loaded_to_be_used(tmp_path: Path) -> None:
    torch.save({"weight": torch.full((1,), 3.0)}, tmp_path / "a.pth")

    def fill(read: Any) -> Cube:
        network = Cube()
        network.load_state_dict(read)
        return network

    network = peers._load(str(tmp_path / "a.pth"), fill, "auto")
    assert network.weight.tolist() == [3]
    assert not network.training
