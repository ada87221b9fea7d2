"""Peers of this project as sessions, for ``--method session:evaluation.peers:NAME``.

Their packages are not among this project's; docs/peers.md says how to get them and their weights.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from evaluation.sessions import Bounds, FactoryError, Session
from gamt.segmenters.door import describe_exception

PACKAGES = ("nninteractive", "medim", "monai", "torch")
"""Distributions whose versions belong to the identity of a method (docs/peers.md)."""

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def nninteractive(folder: str | None = None, device: str = "auto") -> Session:
    """Returns nnInteractive's own session, set up as its authors did for the challenge.

    Args:
        folder: of a trained model, with ``plans.json`` and one ``fold_...``; None for the default
            model, which nnInteractive gets from its hub where it isn't here yet.
        device: "auto" for the GPU where there is one; or as torch names it, such as "cuda:1".

    Raises:
        FactoryError: nnInteractive isn't installed, or the folder holds no model.
    """
    sessions = _import("nnInteractive.inference.inference_session", "nninteractive==2.6.0")
    import torch

    if folder is None:
        management = import_module("nnInteractive.model_management")
        path = management.ensure_model_available(management.get_default_model_id())
    else:
        path = Path(folder)
        if not (path / "plans.json").is_file():
            raise FactoryError(f"{folder}: no plans.json, expected a trained model's folder")
    session: Any = sessions.nnInteractiveInferenceSession(
        device=_choose_device(device),
        torch_n_threads=torch.get_num_threads(),  # workers share the cores
        enable_undo=False,  # spares it copies that nobody asks for
    )
    session.initialize_from_trained_model_folder(os.fspath(path))
    made: Session = session
    return made


def sam_med3d(checkpoint: str, device: str = "auto") -> Session:
    """Returns SAM-Med3D as a session.

    Args:
        checkpoint: such as ``sam_med3d_turbo.pth``, with the weights under "model_state_dict".
        device: as of `nninteractive`.

    Raises:
        FactoryError: medim isn't installed, or the checkpoint is missing or another model's.
    """
    models = _import("medim", "medim==0.1.2")

    def fill(read: Any) -> Any:
        network = models.create_model("SAM-Med3D")
        network.load_state_dict(read["model_state_dict"])
        return network

    return PointSession(SamMed3d(_load(checkpoint, fill, device)))


def vista3d(checkpoint: str, device: str = "auto") -> Session:
    """Returns VISTA3D, by its head for points, as a session.

    Args:
        checkpoint: of MONAI's `vista3d132`, such as the one tuned for the challenge.
        device: as of `nninteractive`.

    Raises:
        FactoryError: MONAI isn't installed, or the checkpoint is missing or another model's.
    """
    nets = _import("monai.networks.nets.vista3d", "monai==1.6.1")

    def fill(read: Any) -> Any:
        width = read["image_encoder.encoder.conv_init.weight"].shape[0]
        network = nets.vista3d132(encoder_embed_dim=width)
        network.load_state_dict(read)
        return network

    return PointSession(Vista3d(_load(checkpoint, fill, device)))


@dataclass(frozen=True, slots=True)
class Point:
    """A voxel that is inside of the target (`positive`) or outside.

    Attributes:
        index: (z, y, x), fractional where it is the centre of a box.
        positive: whether it is inside.
    """

    index: tuple[float, float, float]
    positive: bool


class PointModel(Protocol):
    """A network that takes points alone."""

    def set_image(self, image: Array, spacing_mm: Sequence[float]) -> None:
        """Takes an image (z, y, x), and its voxel's size in mm (z, y, x)."""

    def predict(self, points: Sequence[Point], previous: Mask) -> Mask:
        """Segments a target.

        Args:
            points: in the order in which they came; one of them at least is positive.
            previous: (z, y, x), what it was before, or empty.

        Returns:
            (z, y, x), the target.
        """


class PointSession:
    """A session of a network that takes points alone: a box is the point in its centre.

    Without a positive point, a target stays as it is.
    """

    def __init__(self, model: PointModel) -> None:
        """Takes the network."""
        self._model = model
        self._points: list[Point] = []
        self._target: npt.NDArray[np.uint8] = np.zeros((0, 0, 0), np.uint8)

    def set_image(self, image: Array, image_properties: dict[str, Any]) -> None:
        """See `evaluation.sessions.Session`."""
        self._model.set_image(image[0], image_properties["spacing"])
        self._points = []

    def set_target_buffer(self, target_buffer: npt.NDArray[np.uint8]) -> None:
        """See `evaluation.sessions.Session`."""
        self._target = target_buffer

    def reset_interactions(self) -> None:
        """See `evaluation.sessions.Session`."""
        self._points = []
        self._target[:] = 0

    def add_initial_seg_interaction(
        self, initial_seg: npt.NDArray[np.uint8], run_prediction: bool = False
    ) -> None:
        """See `evaluation.sessions.Session`."""
        self._points = []
        self._target[:] = initial_seg
        self._predict(run_prediction)

    def add_bbox_interaction(
        self, bbox_coords: Bounds, include_interaction: bool, run_prediction: bool = True
    ) -> None:
        """See `evaluation.sessions.Session`."""
        z, y, x = ((low + past - 1) / 2 for low, past in bbox_coords)
        self._points.append(Point((z, y, x), include_interaction))
        self._predict(run_prediction)

    def add_point_interaction(
        self,
        coordinates: tuple[int, int, int],
        include_interaction: bool,
        run_prediction: bool = True,
    ) -> None:
        """See `evaluation.sessions.Session`."""
        self._points.append(Point(coordinates, include_interaction))
        self._predict(run_prediction)

    def _predict(self, run_prediction: bool) -> None:
        if run_prediction and any(point.positive for point in self._points):
            self._target[:] = self._model.predict(self._points, self._target != 0)


class SamMed3d:
    """SAM-Med3D on a cube of 128 voxels of 1.5 mm around the last positive point.

    As in its authors' program for the challenge, the cube is normalised by the mean and deviation
    of what is above 0, and the previous mask is a prompt. Other than there, all points within the
    cube are prompts, and so are negative ones; what was found before stays outside of the cube
    alone.
    """

    SIDE = 128
    SPACING_MM = 1.5

    def __init__(self, network: Any) -> None:
        """Takes the network of medim."""
        self._network = network
        self._image: npt.NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)
        self._step: npt.NDArray[np.float64] = np.ones(3)  # voxels of the image a voxel of the cube

    def set_image(self, image: Array, spacing_mm: Sequence[float]) -> None:
        """See `PointModel`."""
        self._image = image.astype(np.float32)
        self._step = self.SPACING_MM / np.asarray(spacing_mm)

    def predict(self, points: Sequence[Point], previous: Mask) -> Mask:
        """See `PointModel`."""
        import torch

        centre = np.array([point.index for point in points if point.positive][-1])
        low = centre - self._step * (self.SIDE // 2)  # where the cube's first voxel lies
        cube = self._cut(self._image, low, order=1)
        above = cube[cube > 0]
        if above.size:
            cube = (cube - above.mean()) / max(float(above.std(ddof=1)), 1e-6)
        before = self._cut(previous.astype(np.float32), low, order=0)
        places = (np.array([point.index for point in points]) - low) / self._step
        inside = ((places >= 0) & (places < self.SIDE)).all(axis=1)
        device = next(self._network.parameters()).device
        labels = np.array([point.positive for point in points], np.float32)[inside]

        def batch(array: Array) -> Any:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)[None]

        with torch.inference_mode():
            sparse, dense = self._network.prompt_encoder(
                points=[batch(places[inside]), batch(labels)],
                boxes=None,
                # Its masks have a quarter of the cube's side.
                masks=batch(before[None, ::4, ::4, ::4]),
            )
            scores, _ = self._network.mask_decoder(
                image_embeddings=self._network.image_encoder(batch(cube[None])),
                image_pe=self._network.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
            scores = torch.nn.functional.interpolate(scores, (self.SIDE,) * 3, mode="trilinear")
        # Back to the image's voxels; -inf marks those outside of the cube.
        found = ndimage.affine_transform(
            scores[0, 0].float().cpu().numpy(),
            1 / self._step,
            -low / self._step,
            self._image.shape,
            order=0,
            cval=-np.inf,
        )
        return np.where(np.isneginf(found), previous, found > 0)

    def _cut(self, volume: Array, low: Array, order: Literal[0, 1]) -> Array:
        """Returns the cube of a volume whose first voxel lies at `low` (z, y, x)."""
        size = (self.SIDE,) * 3
        return np.asarray(ndimage.affine_transform(volume, self._step, low, size, order=order))


class Vista3d:
    """VISTA3D's head for points, as in its authors' program for the challenge.

    For each point, a window of 128 voxels around it is segmented; where windows overlap, the mean
    of their scores counts. The previous mask doesn't.
    """

    SIDE = 128

    def __init__(self, network: Any) -> None:
        """Takes the network of MONAI."""
        self._network = network
        self._image: Any = None

    def set_image(self, image: Array, spacing_mm: Sequence[float]) -> None:
        """See `PointModel`; the spacing doesn't count."""
        import torch

        transforms = import_module("monai.transforms")
        scale = transforms.ScaleIntensityRangePercentiles(1, 99, b_min=0, b_max=1, clip=True)
        device = next(self._network.parameters()).device
        scaled = scale(torch.from_numpy(image[None].astype(np.float32)))
        self._image = scaled[None].to(device)

    def predict(self, points: Sequence[Point], previous: Mask) -> Mask:
        """See `PointModel`."""
        import torch

        infer = import_module("monai.apps.vista3d.inferer").point_based_window_inferer
        indices = np.array([[round(one) for one in point.index] for point in points])
        labels = np.array([int(point.positive) for point in points])
        with torch.inference_mode():
            scores = infer(
                inputs=self._image,
                roi_size=(self.SIDE,) * 3,
                predictor=self._network,
                point_coords=torch.from_numpy(indices[None]).to(self._image.device),
                point_labels=torch.from_numpy(labels[None]).to(self._image.device),
                transpose=True,
            )
        # Where no window lies there is no number, which isn't above 0.
        return np.asarray(scores[0, 0].cpu().numpy() > 0)


def _load(checkpoint: str, fill: Callable[[Any], Any], device: str) -> Any:
    """Loads a network without running anything in its file.

    Args:
        checkpoint: path of the file.
        fill: makes the network of what the file holds.
        device: as of `nninteractive`.

    Raises:
        FactoryError: the file is missing, or holds something else.
    """
    import torch

    if not Path(checkpoint).is_file():
        raise FactoryError(f"{checkpoint}: no such file, expected a checkpoint")
    try:
        network = fill(torch.load(checkpoint, map_location="cpu", weights_only=True))
    except Exception as error:
        text = describe_exception(error)
        raise FactoryError(f"{checkpoint}: not this model's: {text}") from error
    return network.eval().to(_choose_device(device))


def _import(module: str, requirement: str) -> Any:
    """Imports a module of a peer.

    Args:
        module: its name.
        requirement: what installs it, in the version that has run here (the group `peers` in
            pyproject.toml).

    Raises:
        FactoryError: its package isn't installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise FactoryError(
            f"{error}; this installs it: pip install {requirement} (docs/peers.md)"
        ) from error


def _choose_device(name: str) -> Any:
    """Returns a torch device."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
