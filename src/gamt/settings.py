"""Every number of the method, with its source, and the presets."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gamt.axes import Plane
from gamt.windows import EXPECTED, WindowChoice, parse_window

Fusion = Literal["mean", "median", "staple"]
"""Names of the fusion rules (`gamt.lifting.rules`)."""

Propagation = Literal["prompts", "memory", "both"]
"""Names of what a walk goes on by from slice to slice (`gamt.lifting.walk`)."""

Scale = Literal["tight", "medium", "large"]
"""Names of the bodies that a click may stand in (`gamt.lifting.bodies`); "medium" is likeliest."""

Channels = Literal["same", "neighbours", "windows"]
"""What a network's three channels show of a slice (`gamt.volume.scan`)."""

Smoothing = Literal["none", "opening", "closing"]
"""Names of what may be done to the final masks (`gamt.lifting.postprocess.smooth`)."""


LARGEST = 1e12
"""No number of the method is larger."""

BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "low_percentile": (0, 100),
        "high_percentile": (0, 100),
        "range_percentile": (0, 100),
        "crop_voxels": (1, LARGEST),
        "max_grid_voxels": (4096, LARGEST),
        "max_growth": (1, LARGEST),
        "seconds_per_class": (0.001, LARGEST),
        "runs": (1, LARGEST),
        "runs_without_box": (1, LARGEST),
        "safety": (0, 0.99),
    }
)
"""The least and the largest value of settings that can't take every number from 0 on."""

LEAST_VOXEL_MM = 1e-6
"""A grid voxel is no smaller than what is believed of a scan's (`gamt.spacing`)."""

LONGEST_TEXT = 80
"""Characters of what a user wrote that an error shows, at most."""


class SettingsError(ValueError):
    """A setting that does not exist, or a value that it can't take."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The numbers of the method, each with where it comes from.

    Attributes:
        planes: the views, axial first: it walks from the box (paper, 2.2; presets: 3.2).
        window: the intensities that become 0 and 255. "auto" finds them around each target's first
            prompt, but in images of 8 bits, which are windowed already; "full" takes the volume's
            percentiles; an `IntensityWindow` is taken as it is (docs/design.md, 13).
        low_percentile: of the volume's foreground, the full window's low end (docs/design.md, 3).
        high_percentile: likewise, its high end (docs/design.md, 3).
        channels: what the three channels of a network's input show: "same" is the slice in all of
            them; "neighbours" the slices one grid voxel before it, itself, and after it; "windows"
            the slice in windows of half, all and twice the width (docs/design.md, 19).
        voxel_mm: side of a grid voxel; 0 takes the finest of the scan's three spacings.
        crop_voxels: side of the crop in grid voxels (paper, 2.1).
        crop_margin: least room around the prompts, as a share of their extent (docs/constants.md).
        max_grid_voxels: a grid that would be larger gets coarser; 2^28 bytes are 256 MB.
        range_percentile: a coronal or sagittal slice is used when its share of an axial mask
            exceeds this percentile of the sums along the axis (paper, 2.2: 90; docs/design.md, 5).
        box_margin: free room around a slice's box that counts as looked at, as a share of the box
            (docs/constants.md).
        propagation: what a walk goes on by: "prompts" asks about each slice by the mask before,
            "memory" leaves it to a segmenter that tracks (`Tracker`), and "both" does the one and
            the other in every plane, and lets both vote (docs/design.md, 15).
        min_quality: a walk ends below this predicted IoU (docs/constants.md).
        min_overlap: a walk ends when less than this share of the smaller of two neighbouring
            masks lies in both (docs/constants.md).
        max_growth: a walk ends when the area grows by more than this factor from one slice to
            the next (docs/constants.md).
        fusion: how the planes' votes become one: "mean" by quality, "median", or "staple", which
            estimates how far each plane is to be trusted (docs/design.md, 8).
        shape_weight: weight of the prompts' own ellipsoid as one more vote where views looked;
            a view's vote weighs its quality, 0..1. None takes 0.3, or 1 beside a segmenter that
            knows intensities alone and no shapes (docs/ablation.md, "its vote 0.3" and 1).
        vote_blur: grid voxels over which the views' votes are smoothed, as neighbouring slices err
            in different ways. None takes 0.7, or 0 for a segmenter that knows intensities alone,
            whose neighbouring slices err alike (docs/ablation.md, "votes as they are" and on).
        guide_weight: how much of the ellipsoid's log-odds is added to a slice's mask prompt, for
            segmenters whose traits say that they are to be guided (docs/ablation.md, "no
            ellipsoid in prompts").
        scale: of what a first click stands in: "medium" is the likeliest, "tight" and "large" are
            the next smaller and larger ones (docs/design.md, 7).
        largest_component: keep only the largest 3-D component of a class with a box (paper, 2.3);
            a class without one is always in one piece (docs/ablation.md, "largest component").
        smoothing: "none", "opening" or "closing" of the final masks (paper, 2.3: optional).
        cache_mb: encoded slices kept in memory, in MB.
        votes_mb: classes are segmented together as long as their votes fit, in MB: 9 bytes a voxel
            for each plane.
        budget: whether to keep to the time limit.
        seconds_per_class: the challenge's limit for all runs of a case (paper, 3.1).
        runs: runs that share the limit: a box prediction and five clicks (docs/challenge.md, 1).
        runs_without_box: the same where the first run is skipped (docs/challenge.md, 2).
        safety: share of the time that is left unused: container start-up, writing
            (docs/constants.md).
    """

    planes: tuple[Plane, ...] = (Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL)
    window: WindowChoice = "auto"
    low_percentile: float = 0.5
    high_percentile: float = 99.5
    channels: Channels = "same"
    voxel_mm: float = 0.0
    crop_voxels: int = 256
    crop_margin: float = 0.25
    max_grid_voxels: int = 2**28
    range_percentile: float = 0.0
    box_margin: float = 0.25
    propagation: Propagation = "prompts"
    min_quality: float = 0.2
    min_overlap: float = 0.2
    max_growth: float = 4.0
    fusion: Fusion = "mean"
    shape_weight: float | None = None
    vote_blur: float | None = None
    guide_weight: float = 1.0
    scale: Scale = "medium"
    largest_component: bool = False
    smoothing: Smoothing = "none"
    cache_mb: int = 1024
    votes_mb: int = 1024
    budget: bool = True
    seconds_per_class: float = 90.0
    runs: int = 6
    runs_without_box: int = 5
    safety: float = 0.2

    def shape_weight_and_blur(self, intensities_alone: bool) -> tuple[float, float]:
        """Returns `shape_weight` and `vote_blur` for votes of one kind of segmenter or the other.

        Args:
            intensities_alone: whether it knows nothing but the slice's intensities.
        """
        weight, blur = (1.0, 0.0) if intensities_alone else (0.3, 0.7)
        return (
            weight if self.shape_weight is None else self.shape_weight,
            blur if self.vote_blur is None else self.vote_blur,
        )


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "default": Settings(),
        # The paper's two tracks (3.2), with the percentile of 2.2 and no vote but the views'.
        "all-data": Settings(
            planes=(Plane.AXIAL,),
            range_percentile=90.0,
            shape_weight=0.0,
            vote_blur=0.0,
            guide_weight=0.0,
            largest_component=True,
        ),
        "coreset": Settings(
            planes=(Plane.AXIAL, Plane.CORONAL),
            range_percentile=90.0,
            shape_weight=0.0,
            vote_blur=0.0,
            guide_weight=0.0,
            largest_component=True,
        ),
        "memory": Settings(propagation="both"),
        "cpu": Settings(),
    }
)
"""Named settings: `default` is what measures best, `all-data` and `coreset` are the paper's;
`memory` and `cpu` are for the segmenters below."""

PRESET_SEGMENTERS: Mapping[str, str] = MappingProxyType(
    {
        "all-data": "sam_vit_l",
        "coreset": "sam_med2d",
        "memory": "sam2.1_hiera_large",
        "cpu": "medsam2",
    }
)
"""The segmenter that a preset is made for (paper, 3.2; README, "Segmenters"); a preset without one
takes any."""


def override(settings: Settings, changes: Mapping[str, str]) -> Settings:
    """Returns `settings` with some of them replaced by values given as text.

    Args:
        settings: where to start from.
        changes: names of attributes, with values as a user writes them: numbers, `true` or
            `false`, planes as `axial,coronal,sagittal`, `auto` for None, a window as
            `parse_window` reads it.

    Raises:
        SettingsError: for an unknown name or a value of the wrong kind.
    """
    kinds = get_type_hints(Settings)
    values: dict[str, Any] = {}
    for name, text in changes.items():
        if name not in kinds:
            known = ", ".join(field.name for field in fields(Settings))
            raise SettingsError(f"no setting is named {shorten(name)!r}; expected one of {known}")
        values[name] = _parse(name, text, kinds[name])
    changed = replace(settings, **values)
    if 0 < changed.voxel_mm < LEAST_VOXEL_MM:
        raise SettingsError(
            f"setting voxel_mm: found {changed.voxel_mm:g}, expected 0, or {LEAST_VOXEL_MM:g} or "
            "more"
        )
    if changed.low_percentile >= changed.high_percentile:
        found = f"{changed.low_percentile:g} and {changed.high_percentile:g}"
        raise SettingsError(
            f"settings low_percentile and high_percentile: found {found}, expected the first below "
            "the second"
        )
    return changed


def _parse(name: str, text: str, kind: Any) -> Any:
    least, most = BOUNDS.get(name, (0, LARGEST))
    try:
        if kind == WindowChoice:
            return parse_window(text)
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind == float | None and text.lower() == "auto":
            return None
        if kind in (int, float, float | None):
            number = int(text) if kind is int else float(text)
            if not least <= number <= most:  # or NaN
                raise ValueError
            return number
        if get_origin(kind) is Literal:
            return {choice: choice for choice in get_args(kind)}[text]
        planes = tuple(Plane[part.strip().upper()] for part in text.split(","))
        if planes[0] is not Plane.AXIAL or len(set(planes)) < len(planes):
            raise ValueError
        return planes
    except (KeyError, ValueError):
        limits = f"{least:g} or more, {most:g} at most"
        expected = {
            bool: "true or false",
            int: f"a whole number, {limits}",
            float: f"a number, {limits}",
            float | None: f"a number, {limits}, or auto",
            WindowChoice: EXPECTED,
            Fusion: _list_choices(Fusion),
            Propagation: _list_choices(Propagation),
            Scale: _list_choices(Scale),
            Channels: _list_choices(Channels),
            Smoothing: _list_choices(Smoothing),
        }.get(kind, "planes such as axial,coronal,sagittal, axial first")
        raise SettingsError(
            f"setting {name}: found {shorten(text)!r}, expected {expected}"
        ) from None


def shorten(text: str) -> str:
    """Returns what a user wrote, or the beginning of it where it is long."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def _list_choices(kind: Any) -> str:
    """Returns the values of a `Literal` as in "one, two or three"."""
    *rest, last = get_args(kind)
    return f"{', '.join(rest)} or {last}"
