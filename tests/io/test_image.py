"""NIfTI: whatever way an image lies, what goes in at a voxel comes out at that voxel."""

from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.io.format import ImageError
from gamt.io.image import GridError, Image, read_image, read_labels, write_image
from gamt.prompts import Box

# mypy: allow-untyped-calls

SHAPE = (5, 6, 7)  # of the file, (i, j, k)
ZOOMS = (0.5, 1.5, 4.0)
ORIENTATIONS = [
    tuple(pair[flip] for pair, flip in zip(pairs, flips, strict=True))
    for pairs in permutations(("LR", "PA", "IS"))
    for flips in product((0, 1), repeat=3)
]
TILT = 0.3  # radians about the third axis, and half of it about the first


def affine_of(orientation: tuple[str, ...], tilt: float = 0.0) -> npt.NDArray[np.float64]:
    """Returns the affine of an image whose axes run towards the given sides."""
    turned = np.zeros((3, 3))
    for n, code in enumerate(orientation):
        axis = next(a for a, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        turned[axis, n] = ZOOMS[n] if code in "RAS" else -ZOOMS[n]
    cosine, sine = np.cos(tilt), np.sin(tilt)
    about_z = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    cosine, sine = np.cos(tilt / 2), np.sin(tilt / 2)
    about_x = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ turned
    affine[:3, 3] = (-31.0, 12.5, 208.0)
    return affine


def numbered(shape: tuple[int, ...] = SHAPE) -> npt.NDArray[np.int16]:
    """Returns an array in which every voxel has a value of its own."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def save(
    path: Path,
    array: npt.NDArray[Any] | None = None,
    affine: npt.NDArray[np.float64] | None = None,
) -> Path:
    array = numbered() if array is None else array
    affine = affine_of(("L", "P", "S")) if affine is None else affine
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def read(folder: Path, *args: Any) -> Image:
    return read_image(save(folder / "scan.nii.gz", *args))


def stored(path: Path) -> npt.NDArray[Any]:
    return np.asanyarray(nib.load(path).dataobj)  # type: ignore[attr-defined]


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("tilt", [0.0, TILT])
@pytest.mark.parametrize("orientation", ORIENTATIONS, ids="".join)
def test_every_orientation_goes_there_and_back(
    orientation: tuple[str, ...], tilt: float, tmp_path: Path
) -> None:
    affine = affine_of(orientation, tilt)
    image = read(tmp_path, numbered(), affine)
    # Towards head, back and left, as the affine of the array itself says.
    x, y, z = image.affine[:3, :3].T
    assert z[2] > max(abs(z[0]), abs(z[1]))
    assert -y[1] > max(abs(y[0]), abs(y[2]))
    assert -x[0] > max(abs(x[1]), abs(x[2]))
    for voxel in ((0, 0, 0), (4, 5, 6), (1, 2, 3), (3, 0, 5)):
        place = (affine @ (*voxel, 1))[:3].tolist()
        assert image.array[image.voxel(voxel, ras=False)] == numbered()[voxel]
        assert image.array[image.voxel(place, ras=True)] == numbered()[voxel]
    lengths = [np.linalg.norm(column) for column in (z, y, x)]
    np.testing.assert_allclose(image.spacing_mm, lengths, rtol=1e-6)
    write_image(tmp_path / "out.nii.gz", image.array, like=image)
    np.testing.assert_array_equal(stored(tmp_path / "out.nii.gz"), numbered())


@given(
    orientation=st.sampled_from(ORIENTATIONS),
    tilt=st.floats(-0.6, 0.6),
    corners=st.tuples(*(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)) for _ in range(2))),
)
def test_a_box_of_voxels_covers_just_these_voxels(
    orientation: tuple[str, ...],
    tilt: float,
    corners: tuple[tuple[int, ...], tuple[int, ...]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    image = read(tmp_path_factory.mktemp("box"), numbered(), affine_of(orientation, tilt))
    box = image.box(corners[0], corners[1], ras=False)
    inside = image.array[tuple(map(slice, box.low, box.high))]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0) + 1
    assert set(inside.flat) == set(numbered()[tuple(map(slice, low, high))].flat)
    assert box.z_min <= box.z_mid < box.z_max
    assert abs((box.z_mid - box.z_min) - (box.z_max - 1 - box.z_mid)) <= 1


def test_a_box_in_millimetres_is_the_same_as_in_voxels_in_an_upright_image(tmp_path: Path) -> None:
    affine = affine_of(("A", "I", "R"))
    image = read(tmp_path, numbered(), affine)
    low, high = (1, 1, 2), (3, 4, 5)
    first, last = ((affine @ (*voxel, 1))[:3].tolist() for voxel in (low, high))
    assert image.box(first, last, ras=True) == image.box(low, high, ras=False)


def test_a_box_in_millimetres_is_covered_as_far_as_the_image_goes_if_that_is_oblique(
    tmp_path: Path,
) -> None:
    image = read(tmp_path, numbered(), affine_of(("L", "P", "S"), TILT))
    low, high = image.affine[:3, 3], (image.affine @ (4, 5, 6, 1))[:3]
    box = image.box(low.tolist(), high.tolist(), ras=True)
    assert box == Box(0, 7, 3, 0, 6, 0, 5)


@pytest.mark.parametrize("kind", ["nii", "nii.gz"])
def test_the_written_file_has_the_images_geometry(kind: str, tmp_path: Path) -> None:
    affine = affine_of(("P", "S", "L"), TILT)
    source = nib.Nifti1Image(numbered(), affine)
    source.set_qform(affine, code="scanner")
    source.set_sform(affine, code="talairach")
    source.header.set_xyzt_units("mm", "sec")
    nib.save(source, tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii")
    labels = (image.array % 3).astype(np.uint8)
    write_image(tmp_path / f"out.{kind}", labels, like=image)
    before, after = (read_image(tmp_path / name).header for name in ("scan.nii", f"out.{kind}"))
    assert after.get_data_dtype() == np.uint8
    for field in ("dim", "pixdim", "qform_code", "sform_code", "xyzt_units", "qoffset_x"):
        np.testing.assert_array_equal(after[field], before[field])
    np.testing.assert_array_equal(after.get_sform(), before.get_sform())
    np.testing.assert_array_equal(after.get_qform(), before.get_qform())
    np.testing.assert_array_equal(stored(tmp_path / f"out.{kind}"), numbered() % 3)


def test_scaled_intensities_are_read_scaled_and_do_not_scale_what_is_written(
    tmp_path: Path,
) -> None:
    source = nib.Nifti1Image(numbered(), np.eye(4))
    source.header.set_slope_inter(2.0, -1024.0)
    nib.save(source, tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii")
    assert image.array[image.voxel((4, 5, 6), ras=False)] == 2 * 209 - 1024
    write_image(tmp_path / "out.nii", (image.array > -900).astype(np.uint8), like=image)
    assert set(np.unique(stored(tmp_path / "out.nii"))) == {0, 1}


def test_a_single_volume_in_four_dimensions_keeps_its_shape(tmp_path: Path) -> None:
    image = read(tmp_path, numbered((*SHAPE, 1)))
    assert image.array.shape == SHAPE[::-1]
    write_image(tmp_path / "out.nii.gz", image.array, like=image)
    np.testing.assert_array_equal(stored(tmp_path / "out.nii.gz"), numbered((*SHAPE, 1)))


def test_nifti_2_stays_nifti_2(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(numbered(), np.eye(4)), tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii")
    write_image(tmp_path / "out.nii", image.array, like=image)
    assert isinstance(nib.load(tmp_path / "out.nii"), nib.Nifti2Image)


def test_spacing_in_microns_becomes_millimetres(tmp_path: Path) -> None:
    source = nib.Nifti1Image(numbered(), np.diag([2.0, 3.0, 4.0, 1.0]))
    source.header.set_xyzt_units("micron")
    nib.save(source, tmp_path / "scan.nii")
    np.testing.assert_allclose(read_image(tmp_path / "scan.nii").spacing_mm, (4e-3, 3e-3, 2e-3))


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float16, np.float32, np.uint16, ">i2"])
def test_any_type_of_number_can_be_written_without_an_image_to_lie_on(
    dtype: npt.DTypeLike, tmp_path: Path
) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    write_image(tmp_path / "out.nii.gz", array, spacing_mm=(3.0, 2.0, 1.0))
    image = read_image(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(image.array, array)
    assert image.spacing_mm == (3.0, 2.0, 1.0)
    np.testing.assert_array_equal(image.affine, np.diag([-1.0, -2.0, 3.0, 1.0]))


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ImageError, match=r"^out\.nii\.gz: can't be written: no space left"):
        write_image(tmp_path / "out.nii.gz", np.zeros((2, 2, 2), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_volume_of_another_shape_is_not_written(tmp_path: Path) -> None:
    image = read(tmp_path)
    with pytest.raises(ValueError, match="shape"):
        write_image(tmp_path / "out.nii.gz", image.array[1:], like=image)


def test_a_voxel_outside_is_an_error_that_names_the_bounds(tmp_path: Path) -> None:
    image = read(tmp_path, numbered(), affine_of(("R", "I", "P")))
    with pytest.raises(ImageError, match=r"5,0,0 is outside .* from 0,0,0 to 4,5,6$"):
        image.voxel((5, 0, 0), ras=False)
    with pytest.raises(ImageError, match=r"-1,0,0 is outside"):
        image.voxel((-1, 0, 0), ras=False)
    with pytest.raises(ImageError, match="outside"):
        image.box((0, 0, 0), (4, 5, 7), ras=False)


def test_a_place_outside_is_an_error_that_names_the_bounds_in_millimetres(tmp_path: Path) -> None:
    image = read(tmp_path, numbered(), np.diag([2.0, 2.0, 3.0, 1.0]))
    with pytest.raises(ImageError, match=r"9.5,0,0 mm .* from 0,0,0 to 8,10,18$"):
        image.voxel((9.5, 0, 0), ras=True)
    assert image.voxel((8.9, 0, 0), ras=True) == image.voxel((4, 0, 0), ras=False)
    with pytest.raises(ImageError, match="outside"):
        image.voxel((1e300, 0, 0), ras=True)


@pytest.mark.parametrize("zooms", [(1.0, 1.0, 2000.0), (1e-7, 1e-7, 1e-7), (2e4, 2e4, 2e4)])
def test_a_file_whose_spacing_no_scan_has_is_refused(
    tmp_path: Path, zooms: tuple[float, ...]
) -> None:
    found = " x ".join(f"{mm:g}" for mm in zooms)
    with pytest.raises(ImageError, match=f"found voxels of {found} mm, expected numbers from"):
        read(tmp_path, numbered(), np.diag([*zooms, 1.0]))


def test_voxels_are_whole(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"1\.5,2,3, expected whole"):
        read(tmp_path).voxel((1.5, 2, 3), ras=False)


def test_labels_may_lie_in_another_orientation_on_the_same_grid(tmp_path: Path) -> None:
    image = read(tmp_path)
    other = nib.as_closest_canonical(nib.load(tmp_path / "scan.nii.gz"))
    nib.save(other, tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.nii.gz", image), image.array)


def test_labels_may_be_stored_as_whole_floats(tmp_path: Path) -> None:
    image = read(tmp_path)
    save(tmp_path / "labels.nii.gz", numbered().astype(np.float32))
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.nii.gz", image), image.array)


@pytest.mark.parametrize("size_mm", [0.0005, 0.5, 20.0])
@pytest.mark.parametrize(("share", "same"), [(0.05, True), (0.2, False)])
def test_labels_may_lie_a_small_share_of_a_voxel_away(
    size_mm: float, share: float, same: bool, tmp_path: Path
) -> None:
    affine = np.diag([size_mm, size_mm, size_mm, 1.0])
    image = read(tmp_path, numbered(), affine)
    affine[1, 3] = share * size_mm
    path = save(tmp_path / "labels.nii.gz", numbered(), affine)
    if same:
        np.testing.assert_array_equal(read_labels(path, image), image.array)
    else:
        with pytest.raises(GridError, match="another grid of voxels than scan"):
            read_labels(path, image)


def test_resampled_labels_are_those_of_the_nearest_voxels(tmp_path: Path) -> None:
    image = read(tmp_path, np.zeros((4, 2, 2), np.uint8), np.diag([1.0, 1.0, 1.0, 1.0]))
    # Two voxels along i, 2 mm wide, the first at 0.6 mm: the image's i = 0, 1, 2, 3 lie at -0.3,
    # 0.2, 0.7 and 1.2 of them.
    affine = np.diag([2.0, 4.0, 4.0, 1.0])
    affine[0, 3] = 0.6
    labels = np.array([3, 8], np.uint8)[:, None, None]
    path = save(tmp_path / "labels.nii.gz", labels, affine)
    found = read_labels(path, image, resample=True)
    by_i = [found[image.voxel((i, 0, 0), ras=False)] for i in range(4)]
    assert by_i == [3, 3, 8, 8]


def test_resampled_labels_are_nothing_where_they_do_not_reach(tmp_path: Path) -> None:
    image = read(tmp_path, np.zeros((4, 2, 2), np.uint8), np.eye(4))
    affine = np.eye(4)
    affine[0, 3] = 2.0
    path = save(tmp_path / "labels.nii.gz", np.full((4, 2, 2), 5, np.uint8), affine)
    found = read_labels(path, image, resample=True)
    by_i = [found[image.voxel((i, 1, 1), ras=False)] for i in range(4)]
    assert by_i == [0, 0, 5, 5]


def test_labels_that_all_lie_elsewhere_are_an_error(tmp_path: Path) -> None:
    image = read(tmp_path)
    affine = affine_of(("L", "P", "S"))
    affine[0, 3] += 500
    path = save(tmp_path / "labels.nii.gz", numbered(), affine)
    with pytest.raises(ImageError, match="none of its labels lies within scan"):
        read_labels(path, image, resample=True)


@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (numbered((5, 6, 8)), None, "another grid"),
        (numbered(), np.eye(4), "another grid"),
        (numbered() + np.float32(0.5), None, "fractions"),
        (np.full(SHAPE, np.nan, np.float32), None, "no labels"),
        (-numbered(), None, "no labels"),
    ],
)
def test_what_is_no_segmentation_of_the_image_is_an_error(
    array: npt.NDArray[Any],
    affine: npt.NDArray[np.float64] | None,
    message: str,
    tmp_path: Path,
) -> None:
    image = read(tmp_path)
    path = save(tmp_path / "labels.nii.gz", array, affine)
    with pytest.raises(ImageError, match=rf"^labels\.nii\.gz: .*{message}"):
        read_labels(path, image)


@pytest.mark.parametrize(
    "array",
    [
        numbered((5, 6, 7, 2)),
        numbered((5, 6)),
        numbered().astype(np.complex64),
        np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]),
    ],
    ids=["two volumes", "one slice", "complex", "colour"],
)
def test_what_is_no_volume_of_numbers_is_an_error(array: npt.NDArray[Any], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^scan\.nii\.gz: found"):
        read(tmp_path, array)


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_an_affine_that_places_nothing_is_an_error(bad: float, tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii")
    data = bytearray(path.read_bytes())
    data[280 + 32 : 280 + 48] = np.array([0, 0, bad, 0], "<f4").tobytes()  # srow_z
    path.write_bytes(data)
    with pytest.raises(ImageError, match="affine"):
        read_image(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^none\.nii\.gz: "):
        read_image(tmp_path / "none.nii.gz")


@pytest.mark.parametrize("kind", ["nii", "nii.gz"])
@pytest.mark.parametrize("kept", [0, 10, 100, 400, -20])
def test_a_broken_file_is_an_error(kind: str, kept: int, tmp_path: Path) -> None:
    path = save(tmp_path / f"scan.{kind}")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ImageError, match="can't be read"):
        read_image(path)


def test_another_format_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "scan.mgz"
    nib.save(nib.MGHImage(numbered().astype(np.int32), np.eye(4)), path)
    with pytest.raises(ImageError, match="found no known image"):
        read_image(path)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids="".join)
def test_the_files_own_axes_are_known(orientation: tuple[str, ...], tmp_path: Path) -> None:
    affine = affine_of(orientation, TILT)
    image = read(tmp_path, None, affine)
    assert image.file_shape == SHAPE
    assert image.file_spacing_mm == pytest.approx(ZOOMS)
    np.testing.assert_allclose(image.file_affine, affine, atol=1e-4)
    assert image.file_voxel(image.voxel((4, 0, 3), ras=False)) == (4, 0, 3)
    # The voxel has the file's value: i * 42 + j * 7 + k.
    assert image.array[image.voxel((4, 0, 3), ras=False)] == 171


@pytest.mark.parametrize(
    ("shape", "shift_mm", "same"),
    [
        (SHAPE, (0.0, 0.0, 0.0), True),
        (SHAPE, (0.04, 0.0, 0.0), True),  # 0.08 of a voxel of 0.5 mm
        (SHAPE, (0.06, 0.0, 0.0), False),
        (SHAPE, (0.0, 0.0, 0.3), True),  # 0.075 of 4 mm
        ((7, 6, 5), (0.0, 0.0, 0.0), False),
    ],
)
def test_a_grid_is_the_same_up_to_the_rounding_of_headers(
    shape: tuple[int, ...], shift_mm: tuple[float, ...], same: bool, tmp_path: Path
) -> None:
    affine = affine_of(("L", "P", "S"))
    moved = affine.copy()
    moved[:3, 3] += shift_mm
    assert read(tmp_path, None, affine).has_grid(shape, moved) is same
