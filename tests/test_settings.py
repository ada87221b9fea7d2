"""Settings given as text, and the presets."""

from dataclasses import asdict, replace

import pytest

from gamt.axes import Plane
from gamt.segmenters import BUILT_IN
from gamt.segmenters.checkpoints import read_manifest
from gamt.settings import PRESET_SEGMENTERS, PRESETS, Settings, SettingsError, override
from gamt.windows import IntensityWindow

A, C, S = Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("voxel_mm", "1.5", 1.5),
        ("voxel_mm", "2", 2.0),
        ("crop_voxels", "128", 128),
        ("largest_component", "true", True),
        ("largest_component", "TRUE", True),
        ("budget", "True", True),
        ("smoothing", "closing", "closing"),
        ("smoothing", "opening", "opening"),
        ("fusion", "staple", "staple"),
        ("channels", "neighbours", "neighbours"),
        ("propagation", "both", "both"),
        ("window", "full", "full"),
        ("window", "lung", IntensityWindow(-1350, 150)),
        ("window", "40,400", IntensityWindow(-160, 240)),
        ("planes", "axial", (A,)),
        ("planes", "axial,sagittal", (A, S)),
        ("planes", "Axial, CORONAL , sagittal", (A, C, S)),
    ],
)
def test_values_are_read_as_their_kind(name: str, text: str, value: object) -> None:
    start = replace(Settings(), budget=False, planes=(A, C))
    assert getattr(start, name) != value
    found = getattr(override(start, {name: text}), name)
    assert found == value
    assert type(found) is type(value)


def test_only_what_is_named_changes() -> None:
    start = PRESETS["coreset"]
    changed = override(start, {"runs": "3", "safety": "0.5"})
    assert changed == replace(start, runs=3, safety=0.5)
    assert start == PRESETS["coreset"]
    assert override(start, {}) == start


@pytest.mark.parametrize("name", asdict(Settings()))
def test_every_setting_can_be_written_as_text(name: str) -> None:
    value = getattr(Settings(), name)
    text = "auto" if value is None else str(value)
    if name == "planes":
        text = ",".join(plane.name for plane in value)
    assert override(Settings(), {name: text}) == Settings()


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="no setting is named 'plane'") as caught:
        override(Settings(), {"plane": "axial"})
    assert all(name in str(caught.value) for name in asdict(Settings()))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("voxel_mm", "fine", "a number"),
        ("voxel_mm", "", "a number"),
        ("voxel_mm", "nan", "a number, 0 or more"),
        ("box_margin", "inf", "a number, 0 or more"),
        ("crop_voxels", "256.5", "a whole number"),
        ("crop_voxels", "-1", "a whole number, 1 or more"),
        ("crop_voxels", "0", "a whole number, 1 or more"),
        ("max_grid_voxels", "0", "a whole number, 4096 or more"),
        ("seconds_per_class", "0", "a number, 0.001 or more"),
        ("runs", "0", "a whole number, 1 or more"),
        ("runs_without_box", "0", "a whole number, 1 or more"),
        ("runs", "1" + 400 * "0", "1e+12 at most"),
        ("cache_mb", "-1", "a whole number, 0 or more"),
        ("safety", "1", "0.99 at most"),
        ("low_percentile", "101", "100 at most"),
        ("voxel_mm", "1e300", "1e+12 at most"),
        ("budget", "yes", "true or false"),
        ("smoothing", "median", "none, opening or closing"),
        ("channels", "rgb", "same, neighbours or windows"),
        ("fusion", "opening", "mean, median or staple"),
        ("propagation", "median", "prompts, memory or both"),
        ("window", "liver", "auto, full, soft-tissue, lung, bone, brain, or LEVEL,WIDTH"),
        ("window", "40,0", "with a width above 0"),
        ("planes", "axial,oblique", "planes such as axial,coronal,sagittal"),
        ("planes", "", "planes such as axial,coronal,sagittal"),
        ("planes", "coronal,axial", "axial first"),  # the walk from the box is always axial
        ("planes", "axial,coronal,coronal", "planes such as axial,coronal,sagittal"),
    ],
)
def test_a_bad_value_is_answered_with_what_was_found_and_expected(
    name: str, text: str, expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        override(Settings(), {name: text})
    shown = text if len(text) < 80 else f"{text[:80]}..."
    assert str(caught.value).startswith(f"setting {name}: found {shown!r}, expected ")
    assert expected in str(caught.value)


def test_a_grid_is_no_finer_than_any_scan() -> None:
    assert override(Settings(), {"voxel_mm": "0"}).voxel_mm == 0
    with pytest.raises(SettingsError, match=r"voxel_mm: found 1e-300, expected 0, or 1e-06"):
        override(Settings(), {"voxel_mm": "1e-300"})


def test_a_windows_low_percentile_is_below_its_high_one() -> None:
    with pytest.raises(SettingsError, match=r"found 0\.5 and 0, expected the first below"):
        override(Settings(), {"high_percentile": "0"})


def test_a_long_name_is_shortened() -> None:
    with pytest.raises(SettingsError) as caught:
        override(Settings(), {5000 * "n": "1"})
    assert str(caught.value).startswith(f"no setting is named '{80 * 'n'}...'; expected one of ")


def test_the_papers_presets_are_the_papers() -> None:
    # Section 3.2: the axial view alone for all data, axial and coronal for the coreset; section
    # 2.2: the 90th percentile, and votes of the views alone; 2.1: crops of 256 voxels.
    assert PRESETS["all-data"].planes == (A,)
    assert PRESETS["coreset"].planes == (A, C)
    for name in ("all-data", "coreset"):
        assert PRESETS[name].range_percentile == 90
        assert PRESETS[name].shape_weight == 0
        assert PRESETS[name].guide_weight == 0
        assert PRESETS[name].crop_voxels == 256
        assert PRESETS[name].largest_component


def test_the_papers_presets_have_the_papers_segmenters() -> None:
    # Section 3.2: SAM ViT-L for all data, SAM-Med2D for the coreset.
    assert PRESET_SEGMENTERS["all-data"] == "sam_vit_l"
    assert PRESET_SEGMENTERS["coreset"] == "sam_med2d"


def test_presets_bring_segmenters_that_there_are() -> None:
    assert set(PRESETS) == {"default", "all-data", "coreset", "memory", "cpu"}
    assert set(PRESET_SEGMENTERS) == set(PRESETS) - {"default"}
    for name in PRESET_SEGMENTERS.values():
        assert name in BUILT_IN
        assert name in read_manifest()  # `gamt weights fetch` gets it


def test_the_preset_memory_walks_by_prompts_as_well() -> None:
    # docs/ablation.md: where errors go on from slice to slice, memory alone loses 0.03 of Dice.
    assert PRESETS["memory"] == Settings(propagation="both")
    assert PRESETS["cpu"] == Settings()


@pytest.mark.parametrize(("alone", "expected"), [(True, (1.0, 0.0)), (False, (0.3, 0.7))])
def test_votes_are_taken_as_their_segmenter_errs_unless_a_setting_says_how(
    alone: bool, expected: tuple[float, float]
) -> None:
    assert Settings().shape_weight_and_blur(alone) == expected
    assert Settings(shape_weight=0.5, vote_blur=0.0).shape_weight_and_blur(alone) == (0.5, 0.0)
    assert override(Settings(shape_weight=2.0), {"shape_weight": "auto"}) == Settings()
    for name in ("all-data", "coreset"):
        assert PRESETS[name].shape_weight_and_blur(alone) == (0.0, 0.0)


def test_the_default_preset_is_the_default() -> None:
    assert PRESETS["default"] == Settings()
    assert set(PRESETS["default"].planes) == set(Plane)


def test_presets_keep_to_the_challenges_limit() -> None:
    for preset in PRESETS.values():
        assert preset.budget
        assert (preset.seconds_per_class, preset.runs, preset.runs_without_box) == (90, 6, 5)
