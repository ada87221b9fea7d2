"""NIfTI's header: units, sizes and places that don't agree, compression, several volumes."""

# nibabel has types in part only.
# mypy: allow-untyped-calls

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from gamt.io.format import ImageError
from gamt.io.image import Image, read_image, read_labels, write_image

SHAPE = (5, 6, 7)  # (i, j, k)
AFFINE = np.diag([-0.5, -1.5, 4.0, 1.0])


def numbered() -> npt.NDArray[np.int16]:
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def new(affine: npt.NDArray[np.float64] = AFFINE) -> nib.Nifti1Image:
    return nib.Nifti1Image(numbered(), affine)


def value_at(image: Image, place: tuple[float, float, float]) -> int:
    """Returns the value at a place in RAS coordinates, mm."""
    return int(image.array[image.voxel(place, ras=True)])


@pytest.mark.parametrize(("unit", "size"), [("micron", 500.0), ("meter", 0.0005), ("mm", 0.5)])
def test_places_are_in_millimetres_whatever_the_files_unit(
    unit: str, size: float, tmp_path: Path
) -> None:
    affine = np.diag([size, size, size, 1.0])
    affine[0, 3] = 20 * size  # 10 mm to the right
    file = new(affine)
    file.header.set_xyzt_units(unit)
    nib.save(file, tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii")
    assert image.spacing_mm == pytest.approx((0.5, 0.5, 0.5))
    # Voxel (2, 4, 6) lies at (10 + 1, 2, 3) mm.
    assert value_at(image, (11, 2, 3)) == numbered()[2, 4, 6]
    write_image(tmp_path / "out.nii", image.array, like=image)
    out = nib.load(tmp_path / "out.nii")
    np.testing.assert_array_equal(out.affine, nib.load(tmp_path / "scan.nii").affine)  # type: ignore[attr-defined]
    assert out.header.get_xyzt_units()[0] == unit  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [4, 7])
def test_an_unknown_unit_counts_as_millimetres_with_a_warning(
    code: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = new()
    file.header["xyzt_units"] = code
    nib.save(file, tmp_path / "scan.nii")
    assert read_image(tmp_path / "scan.nii").spacing_mm == (4.0, 1.5, 0.5)
    assert caplog.messages == [f"scan.nii: found the unknown unit code {code}, counted as mm"]


def test_the_affine_says_the_voxels_size_where_the_header_says_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = new()
    file.header["pixdim"][1:4] = (0.5, 1.5, 5.0)
    nib.save(file, tmp_path / "scan.nii")
    assert read_image(tmp_path / "scan.nii").spacing_mm == (4.0, 1.5, 0.5)
    sizes = "size 0.5 x 1.5 x 5 isn't that of its affine, 0.5 x 1.5 x 4, which is used"
    assert caplog.messages == [f"scan.nii: the header's voxel {sizes}"]


def test_sizes_that_agree_but_for_rounding_are_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = new()
    file.header["pixdim"][1:4] = (0.5, 1.5, 4.0001)
    nib.save(file, tmp_path / "scan.nii")
    read_image(tmp_path / "scan.nii")
    assert not caplog.messages


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "SCAN.NII.GZ", "Scan.Nii"])
@pytest.mark.parametrize("zipped", [True, False])
def test_compression_goes_by_content_on_reading(name: str, zipped: bool, tmp_path: Path) -> None:
    data = new().to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(data) if zipped else data)
    image = read_image(tmp_path / name)
    assert image.array[image.voxel((4, 5, 6), ras=False)] == 209
    assert image.name.lower() == "scan"


@pytest.mark.parametrize(
    ("name", "zipped"), [("a.nii", False), ("A.NII", False), ("a.nii.gz", True), ("A.NII.GZ", True)]
)
def test_compression_goes_by_the_suffix_on_writing(name: str, zipped: bool, tmp_path: Path) -> None:
    write_image(tmp_path / name, numbered())
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == zipped
    np.testing.assert_array_equal(read_image(tmp_path / name).array, numbered())


@pytest.mark.parametrize("name", ["scan.hdr", "scan.img"])
def test_a_pair_goes_by_either_of_its_files(name: str, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(numbered(), AFFINE), tmp_path / "scan.img")
    image = read_image(tmp_path / name)
    assert image.array[image.voxel((4, 5, 6), ras=False)] == 209


def test_one_of_several_volumes_is_chosen_and_its_labels_are_one_volume(tmp_path: Path) -> None:
    volumes = np.stack([numbered(), numbered() + 1000], axis=-1)
    file = nib.Nifti1Image(volumes, AFFINE)
    file.header.set_zooms((0.5, 1.5, 4.0, 2.0))
    nib.save(file, tmp_path / "scan.nii")
    with pytest.raises(ImageError, match=r"^scan\.nii: found 2 volumes, .* from 0 to 1$"):
        read_image(tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii", volume=1)
    assert image.array[image.voxel((4, 5, 6), ras=False)] == 1209
    write_image(tmp_path / "out.nii", image.array, like=image)
    out = nib.load(tmp_path / "out.nii")
    np.testing.assert_array_equal(np.asanyarray(out.dataobj), numbered() + 1000)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(out.affine, AFFINE)  # type: ignore[attr-defined]


def test_labels_on_the_qforms_grid_are_those_of_the_same_voxels(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[:3, 3] = (40.0, 0.0, -25.0)
    file = new()
    file.set_sform(moved, code="talairach")
    file.set_qform(AFFINE, code="scanner")
    nib.save(file, tmp_path / "scan.nii")
    nib.save(new(), tmp_path / "labels.nii")
    image = read_image(tmp_path / "scan.nii")
    assert value_at(image, (40, 0, -25)) == 0  # the sform decides
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.nii", image), image.array)


def test_a_qform_of_junk_beside_a_valid_sform_is_ignored(tmp_path: Path) -> None:
    file = new()
    file.set_sform(AFFINE, code="scanner")
    file.header["qform_code"] = 1
    file.header["quatern_b"] = 5.0  # no rotation: its square is more than 1
    file.header["pixdim"][0] = np.nan
    nib.save(file, tmp_path / "scan.nii")
    image = read_image(tmp_path / "scan.nii")
    assert value_at(image, (0, 0, 0)) == 0
    assert image.second_affine is None


@pytest.mark.parametrize("damage", ["checksum", "length", "trailer", "volume not read"])
def test_a_damaged_compressed_file_is_an_error(damage: str, tmp_path: Path) -> None:
    volumes = np.stack([numbered(), numbered()], axis=-1)
    data = bytearray(gzip.compress(nib.Nifti1Image(volumes, AFFINE).to_bytes(), compresslevel=0))
    if damage == "trailer":
        del data[-8:]
    else:  # the trailer is the checksum and the length, 4 bytes each, after the last volume's data
        data[{"checksum": -8, "length": -4, "volume not read": -9}[damage]] ^= 1
    (tmp_path / "scan.nii.gz").write_bytes(data)
    with pytest.raises(ImageError, match=r"^scan\.nii\.gz: can't be read to its end: "):
        read_image(tmp_path / "scan.nii.gz", volume=0)


def changed(path: Path, **fields: object) -> Path:
    """Writes an image, fields of whose header are changed after nibabel has checked them."""
    file = bytearray(new().to_bytes())
    header = nib.Nifti1Header(bytes(file[:348]), check=False)
    for name, value in fields.items():
        header.structarr[name] = value
    file[:348] = header.binaryblock
    packed = gzip.compress(bytes(file), mtime=0) if path.suffix == ".gz" else bytes(file)
    path.write_bytes(packed)
    return path


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("dim", [(3, 30000, 30000, 30000), (7, 5, 6, 7, *[32767] * 4)])
def test_more_voxels_than_the_file_can_have_are_refused(
    name: str, dim: tuple[int, ...], tmp_path: Path
) -> None:
    path = changed(tmp_path / name, dim=[*dim, *[1] * (8 - len(dim))])
    with pytest.raises(ImageError, match=rf"^{name}: can't be read to its end: found \d+ "):
        read_image(path, volume=0)


def test_more_voxels_than_the_memory_has_room_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.save(new(), tmp_path / "scan.nii.gz")
    # Two bytes a voxel, once as read and once as turned: 5 * 6 * 7 * 2 * 2 = 840.
    monkeypatch.setattr("gamt.io.format.available_bytes", lambda: 840)
    assert read_image(tmp_path / "scan.nii.gz").array.size == 210
    monkeypatch.setattr("gamt.io.format.available_bytes", lambda: 839)
    with pytest.raises(ImageError, match=r"found 5 x 6 x 7 voxels, which take .* that is free"):
        read_image(tmp_path / "scan.nii.gz")


def test_a_compressed_file_that_goes_on_after_its_voxels_is_not_read_to_its_end(
    tmp_path: Path,
) -> None:
    more = gzip.compress(bytes(1 << 27), compresslevel=1)
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(new().to_bytes()) + more)
    with pytest.raises(ImageError, match="found over 64 MiB after the voxels, expected none"):
        read_image(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize("offset", [np.nan, np.inf, -1e9, 1e30, 2.0**31])
def test_voxels_that_begin_far_from_the_header_are_refused(offset: float, tmp_path: Path) -> None:
    path = changed(tmp_path / "scan.nii.gz", vox_offset=offset)
    with pytest.raises(ImageError, match=r"voxels from byte .*, expected them in the first 64 MiB"):
        read_image(path)


@pytest.mark.parametrize("size", [-(2**31), 0, 7, 2**31 - 1])
def test_an_extension_of_a_size_that_makes_no_sense_is_refused(size: int, tmp_path: Path) -> None:
    file = bytearray(new().to_bytes())
    file[348:352] = b"\1\0\0\0"
    file[352:352] = size.to_bytes(4, "little", signed=True) + bytes(12)
    file[108:112] = np.float32(368).tobytes()  # vox_offset
    (tmp_path / "scan.nii").write_bytes(file)
    with pytest.raises(ImageError, match=f"found a header extension of {size} bytes, expected 8"):
        read_image(tmp_path / "scan.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_chain_of_extensions_without_end_is_refused(suffix: str, tmp_path: Path) -> None:
    # 60 MiB of extensions of 8 bytes, which are 90 KB in the compressed file.
    count = 60 * 2**17
    file = bytearray(new().to_bytes())
    file[348:352] = b"\1\0\0\0"
    file[352:352] = (8).to_bytes(8, "little") * count
    file[108:112] = np.float32(352 + 8 * count).tobytes()  # vox_offset
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(file if suffix == ".nii" else gzip.compress(file, 1))
    with pytest.raises(ImageError, match="found over 1000 header extensions, expected few"):
        read_image(path)


@pytest.mark.parametrize(("code", "name"), [(128, "RGB"), (2304, "RGBA"), (32, "complex64")])
def test_voxels_that_are_no_plain_numbers_are_refused(code: int, name: str, tmp_path: Path) -> None:
    path = changed(tmp_path / "scan.nii", datatype=code, bitpix=8)
    with pytest.raises(ImageError, match=f"found voxels of type {name}, expected plain numbers"):
        read_image(path)


@pytest.mark.parametrize("slope", [np.nan, np.inf, 0.0])
def test_a_scale_that_is_none_is_left_out(slope: float, tmp_path: Path) -> None:
    image = read_image(changed(tmp_path / "scan.nii", scl_slope=slope))
    assert image.array.max() == 209


def test_scaled_values_past_the_range_of_floats_are_infinite(tmp_path: Path) -> None:
    # nibabel makes them floats of 16 bytes, which few others know.
    file = nib.Nifti2Image(numbered().astype(np.int64) << 50, AFFINE, dtype=np.int64)
    file.header.set_slope_inter(1e300, 0)
    data = bytearray(file.to_bytes())
    data[176:184] = np.float64(1e300).tobytes()  # scl_slope, which to_bytes sets anew
    (tmp_path / "scan.nii").write_bytes(data)
    image = read_image(tmp_path / "scan.nii")
    assert image.array.dtype == np.float64
    assert image.array.max() == np.inf


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_qform_that_places_nothing_is_ignored_beside_a_valid_sform(
    value: float, tmp_path: Path
) -> None:
    file = new()
    file.set_sform(AFFINE, code="scanner")
    file.set_qform(AFFINE, code="scanner")
    file.header["qoffset_x"] = value
    nib.save(file, tmp_path / "scan.nii")
    assert read_image(tmp_path / "scan.nii").second_affine is None


@pytest.mark.parametrize("row", [[np.nan] * 4, [np.inf, 0, 0, 0], [0] * 4, [3e38] * 4])
def test_an_affine_that_places_nothing_is_refused(row: list[float], tmp_path: Path) -> None:
    path = changed(tmp_path / "scan.nii", sform_code=1, srow_x=row)
    with pytest.raises(ImageError, match="the header's affine doesn't place the voxels in space"):
        read_image(path)


def test_a_pair_whose_image_is_a_pipe_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(numbered(), AFFINE), tmp_path / "scan.hdr")
    (tmp_path / "scan.img").unlink()
    os.mkfifo(tmp_path / "scan.img")
    with pytest.raises(ImageError, match=r"found no file scan\.img, expected one with its voxels"):
        read_image(tmp_path / "scan.hdr")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scan.nii")
    with pytest.raises(ImageError, match="found no file, but a pipe or a device"):
        read_image(tmp_path / "scan.nii")
