"""Every format but NIfTI: what is written can be read, and lies where it lay."""

# nibabel and SimpleITK have types in part only.
# mypy: allow-untyped-calls

import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from gamt.io.format import ImageError, WritableFormat
from gamt.io.formats import all_formats, recognise, strip_suffix, writer_of
from gamt.io.image import Image, read_image, read_label_names, write_image
from tests.io.formats.dicom_series import write_series

sitk = pytest.importorskip("SimpleITK")

SHAPE = (5, 6, 7)  # of the file, (i, j, k)
COSINE, SINE = 0.96, 0.28
SAGITTAL = np.array(  # i towards the back, j towards the feet, k towards the right, thick
    [[0, 0, 6.0, -80], [-0.6, 0, 0, 40], [0, -0.7, 0, 30], [0, 0, 0, 1]]
)
OBLIQUE = np.array(  # turned about z
    [
        [-0.6 * COSINE, 0.7 * SINE, 0, 80],
        [-0.6 * SINE, -0.7 * COSINE, 0, 40],
        [0, 0, 6.0, -300],
        [0, 0, 0, 1],
    ]
)
AFFINES = {"sagittal": SAGITTAL, "oblique": OBLIQUE}
WRITTEN = (".nrrd", ".seg.nrrd", ".mha", ".mhd", ".nii.gz", ".NRRD", ".SEG.NRRD", ".MHA", ".MHD")


def numbered() -> npt.NDArray[np.int16]:
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def source(folder: Path, affine: npt.NDArray[np.float64] = OBLIQUE) -> Image:
    nib.save(nib.Nifti1Image(numbered(), affine), folder / "source.nii.gz")
    return read_image(folder / "source.nii.gz")


def in_file_order(image: Image) -> npt.NDArray[np.float64]:
    """Returns the affine of the file's own axes (i, j, k)."""
    affine: npt.NDArray[np.float64] = image.affine @ image.turn
    return affine


def assert_same(found: Image, expected: Image) -> None:
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.spacing_mm, expected.spacing_mm, rtol=1e-6)
    np.testing.assert_allclose(in_file_order(found), in_file_order(expected), atol=1e-5)


def test_every_module_is_a_format_by_itself() -> None:
    assert [one.NAME for one in all_formats()] == ["DICOM", "MetaImage", "NIfTI", "NRRD"]
    writable = [one.NAME for one in all_formats() if isinstance(one, WritableFormat)]
    assert writable == ["MetaImage", "NIfTI", "NRRD"]


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("suffix", WRITTEN)
def test_an_image_goes_to_a_format_and_back(
    suffix: str, affine: npt.NDArray[np.float64], tmp_path: Path
) -> None:
    image = source(tmp_path, affine)
    path = tmp_path / f"Scan.1{suffix}"
    write_image(path, image.array, like=image)
    back = read_image(path)
    assert_same(back, image)
    assert back.name == "Scan.1"
    write_image(tmp_path / "again.nii", back.array, like=back)
    again: Any = nib.load(tmp_path / "again.nii")
    np.testing.assert_array_equal(np.asanyarray(again.dataobj), numbered())
    np.testing.assert_allclose(again.affine, affine, atol=1e-5)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_dicom_series_lies_where_its_slices_do(
    named: str, affine: npt.NDArray[np.float64], tmp_path: Path
) -> None:
    folder = write_series(tmp_path / "series", numbered(), affine)
    path = folder if named == "folder" else sorted(folder.iterdir())[2]
    image = read_image(path)
    assert_same(image, source(tmp_path, affine))
    assert image.name == path.stem


def test_slices_of_a_tilted_gantry_keep_their_places(tmp_path: Path) -> None:
    sheared = OBLIQUE.copy()
    sheared[1, 2] = 1.5  # each slice lies further in front than the one below
    folder = write_series(tmp_path / "series", numbered(), sheared)
    image = read_image(folder)
    np.testing.assert_allclose(in_file_order(image), sheared, atol=1e-5)
    assert image.spacing_mm[0] == pytest.approx(np.hypot(6, 1.5))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        # Steps of 6 mm, and one of 12 where a slice is missing.
        ([0, 1, 2, 4, 5, 6, 7], "6 to 12 mm apart"),
        ([0, 0, 1, 1, 2, 2, 3], "0 to 6 mm apart"),
    ],
    ids=["missing", "twice"],
)
def test_a_series_with_uneven_steps_is_an_error(
    places: list[float], message: str, tmp_path: Path
) -> None:
    folder = write_series(tmp_path / "series", numbered(), OBLIQUE, places=places)
    with pytest.raises(ImageError, match=rf"^series: found slices {message}"):
        read_image(folder)


def test_of_several_series_in_a_folder_a_file_names_one(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "study", numbered(), OBLIQUE, series="1.2.3")
    write_series(folder, -numbered(), SAGITTAL, series="1.2.4")
    with pytest.raises(ImageError, match=r"^study: found 2 series, expected one: name a file"):
        read_image(folder)
    assert_same(read_image(folder / "1.2.3-001.dcm"), source(tmp_path))


def test_slices_that_lie_nowhere_are_an_error(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", numbered(), OBLIQUE)
    for path in folder.iterdir():  # another tag in place of (0020,0032)
        path.write_bytes(path.read_bytes().replace(b"\x20\0\x32\0", b"\x20\0\x31\0", 1))
    with pytest.raises(ImageError, match=r"^series: found slices that don't say where they lie"):
        read_image(folder)


def test_a_dicom_segmentation_is_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", numbered(), OBLIQUE, modality="SEG")
    with pytest.raises(ImageError, match="DICOM segmentation, which isn't read"):
        read_image(folder)


@pytest.mark.parametrize("name", ["a.b.hdr", "a.b.IMG", "a.b.nii.gz", "a.b.seg.nrrd", "a.b"])
def test_a_scans_name_is_its_files_without_the_suffix(name: str) -> None:
    assert strip_suffix(Path("scans", name)) == "a.b"


def test_the_working_folder_is_named_in_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=r"^\.: can't be read: "):
        read_image(".")


def test_a_folder_without_dicom_is_an_error(tmp_path: Path) -> None:
    source(tmp_path)
    with pytest.raises(ImageError, match="found no known image, expected one of DICOM, "):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".nii.gz", ".dcm"])
@pytest.mark.parametrize("other", ["scan", "scan.nii.gz", "scan.mha", "scan.dcm"])
def test_a_file_is_what_it_holds_whatever_its_name(suffix: str, other: str, tmp_path: Path) -> None:
    image = source(tmp_path)
    path = tmp_path / f"a{suffix}"
    if suffix == ".dcm":
        path = sorted(write_series(tmp_path / "series", numbered(), OBLIQUE).iterdir())[0]
        for file in path.parent.iterdir():
            file.rename(tmp_path / file.with_suffix(".x").name)
        path = tmp_path / path.with_suffix(".x").name
    else:
        write_image(path, image.array, like=image)
    path.rename(tmp_path / other)
    assert_same(read_image(tmp_path / other), image)


@pytest.mark.parametrize(
    ("name", "kept", "message"),
    [
        ("scan.nrrd", 0, "found no known image"),
        ("scan.nrrd", 20, 'hit end of header, but no "data file" given'),
        ("scan.nrrd", -30, "expected 420 bytes but received"),
        ("scan.mha", 0, "found no known image"),
        ("scan.mha", 20, "found no ElementDataFile in its header"),
        ("scan.mha", -30, "File cannot be read"),
    ],
)
def test_a_broken_file_is_an_error_in_one_line(
    name: str, kept: int, message: str, tmp_path: Path
) -> None:
    image = source(tmp_path)
    path = tmp_path / name
    write_image(path, image.array, like=image)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ImageError, match=rf"^{name}: can't be read: [^\n]*{message}[^\n]*$"):
        read_image(path)


def test_one_of_several_volumes_is_chosen_by_its_number(tmp_path: Path) -> None:
    volumes = np.stack([numbered(), numbered() + 1, numbered() + 2])  # (volume, i, j, k)
    series = sitk.GetImageFromArray(volumes.transpose(0, 3, 2, 1), isVector=False)
    sitk.WriteImage(series, str(tmp_path / "4.nrrd"))
    vectors = sitk.GetImageFromArray(volumes.transpose(3, 2, 1, 0), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "vectors.mha"))
    for name in ("4.nrrd", "vectors.mha"):
        with pytest.raises(ImageError, match=rf"^{name}: found 3 volumes, .* from 0 to 2$"):
            read_image(tmp_path / name)
        with pytest.raises(ImageError, match=r"3 volumes and the number 3, expected .* 0 to 2$"):
            read_image(tmp_path / name, volume=3)
        image = read_image(tmp_path / name, volume=1)
        assert image.array[image.voxel((4, 5, 6), ras=False)] == numbered()[4, 5, 6] + 1


def test_a_slice_is_no_volume(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(numbered()[0]), str(tmp_path / "slice.nrrd"))
    with pytest.raises(ImageError, match=r"size \(7, 6\), expected a 3-D volume"):
        read_image(tmp_path / "slice.nrrd")


@pytest.mark.parametrize("axes", ["NDims = -3", " ndims=-1", "NDims : 99999", "NDims = 3.5"])
def test_a_number_of_axes_that_ends_the_process_is_refused(axes: str, tmp_path: Path) -> None:
    header = f"NDims = 3\n{axes}\nDimSize = 10 12 5\nElementType = MET_CHAR\n"
    (tmp_path / "odd.mha").write_bytes(f"{header}ElementDataFile = LOCAL\n".encode() + bytes(600))
    with pytest.raises(ImageError, match=f"found '{axes.strip()}', expected 'NDims = 3'"):
        read_image(tmp_path / "odd.mha")


def test_an_axis_without_voxels_is_no_volume(tmp_path: Path) -> None:
    header = (
        "ObjectType = Image\nNDims = 3\nElementSpacing = 1 1 1\nDimSize = 0 12 5\n"
        "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    (tmp_path / "flat.mha").write_bytes(header.encode() + bytes(8))
    with pytest.raises(ImageError, match=r"size \(0, 12, 5\), expected a 3-D volume"):
        read_image(tmp_path / "flat.mha")


def test_a_segmentation_in_nrrd_has_its_names_as_3d_slicer_keeps_them(tmp_path: Path) -> None:
    image = source(tmp_path)
    labels = (image.array == 3) + 7 * (image.array == 4).astype(np.uint8)
    write_image(tmp_path / "out.seg.nrrd", labels, like=image, names={7: "left kidney"})
    written = sitk.ReadImage(str(tmp_path / "out.seg.nrrd"))
    keys = ("ID", "Name", "LabelValue", "Layer", "Extent")
    segments = [[written.GetMetaData(f"Segment{n}_{key}") for key in keys] for n in (0, 1)]
    assert segments == [
        ["Segment_1", "Segment_1", "1", "0", "0 4 0 5 0 6"],
        ["Segment_7", "left kidney", "7", "0", "0 4 0 5 0 6"],
    ]
    assert not written.HasMetaDataKey("Segment2_ID")


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nrrd", "out.mha"])
def test_names_that_a_format_has_no_place_for_are_a_warning(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.ones((2, 3, 4), np.uint8)
    write_image(tmp_path / name, labels, names={1: "liver"})
    assert caplog.messages == [f"{name}: label names aren't written, .seg.nrrd keeps them"]


def test_intensities_are_no_segmentation(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^a\.seg\.nrrd: found voxels of type float32, expected"):
        write_image(tmp_path / "a.seg.nrrd", np.ones((2, 3, 4), np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.dcm", r"DICOM is read but not written, expected a name that ends in one of \.mha"),
        ("a.png", r"expected a name that ends in one of \.mha, \.mhd, \.nii, \.nii\.gz, \.nrrd"),
    ],
)
def test_a_suffix_that_is_not_written_is_an_error(name: str, message: str) -> None:
    with pytest.raises(ImageError, match=rf"^{name}: {message}"):
        writer_of(Path(name))


def test_the_data_beside_a_header_belongs_to_no_other_file(tmp_path: Path) -> None:
    image = source(tmp_path)
    write_image(tmp_path / "a.mhd", image.array, like=image)
    write_image(tmp_path / "a.mhd", image.array, like=image)  # its own may be replaced
    shutil.move(tmp_path / "a.mhd", tmp_path / "other.mhd")
    with pytest.raises(ImageError, match=r"^a\.mhd: can't be written: would replace a\.zraw"):
        write_image(tmp_path / "a.mhd", image.array, like=image)
    assert_same(read_image(tmp_path / "other.mhd"), image)


@pytest.mark.parametrize("name", ["a%d.mhd", "LIST.mhd", "LISTS.MHD", "LOCAL.mhd", "%n/a.mhd"])
def test_a_name_that_a_header_would_mean_as_something_else_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="expected a name without % that doesn't begin with LIST"):
        writer_of(Path(name))


def test_data_in_the_header_take_any_name(tmp_path: Path) -> None:
    image = source(tmp_path)
    for name in ("a%d.mha", "LIST.mha"):
        write_image(tmp_path / name, image.array, like=image)
        assert_same(read_image(tmp_path / name), image)


# At "%s%n", SimpleITK ends the process.
@pytest.mark.parametrize("data", ["= a%s%n.zraw", ": a%s%n.zraw", "= LIST", "= s%03d.raw 1 7 1"])
def test_data_in_several_files_are_refused(data: str, tmp_path: Path) -> None:
    image = source(tmp_path)
    write_image(tmp_path / "a.mhd", image.array, like=image)
    header = (tmp_path / "a.mhd").read_text()
    (tmp_path / "a.mhd").write_text(header.replace("= a.zraw", data))
    with pytest.raises(
        ImageError, match=r"^a\.mhd: found the ElementDataFile .*, expected one file"
    ):
        read_image(tmp_path / "a.mhd")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".dcm"])
def test_names_at_which_simpleitk_ends_the_process_are_refused(suffix: str, tmp_path: Path) -> None:
    image = source(tmp_path)
    path = tmp_path / os.fsdecode(b"a\xff" + suffix.encode())
    if suffix == ".dcm":
        sorted(write_series(tmp_path / "series", numbered(), OBLIQUE).iterdir())[0].rename(path)
    else:
        write_image(tmp_path / f"a{suffix}", image.array, like=image)
        (tmp_path / f"a{suffix}").rename(path)
        with pytest.raises(ImageError, match=r"found the path b'.*a\\xff.*', expected .* UTF-8"):
            writer_of(path)
    with pytest.raises(ImageError, match=r"found the path b'.*a\\xff.*', expected .* UTF-8"):
        read_image(path)


def test_without_its_package_a_format_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = source(tmp_path)
    write_image(tmp_path / "a.nrrd", image.array, like=image)
    monkeypatch.setattr("gamt.io.formats.find_spec", lambda name: None)
    message = r"NRRD needs the package SimpleITK: pip install 'gamt\[itk\]' .*make setup"
    with pytest.raises(ImageError, match=rf"^a\.nrrd: {message}"):
        read_image(tmp_path / "a.nrrd")
    with pytest.raises(ImageError, match=rf"^b\.nrrd: {message}"):
        writer_of(tmp_path / "b.nrrd")
    assert_same(read_image(tmp_path / "source.nii.gz"), image)


@pytest.mark.parametrize("content", [b"", b"P5 1 1 255\n0", b"\x1f\x8b\x08", b"ObjectTypo = Image"])
def test_other_files_are_recognised_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(content)
    assert recognise(tmp_path / "a.nii") is None


def test_any_type_of_label_can_be_written(tmp_path: Path) -> None:
    array: Any
    for dtype in (bool, np.uint8, np.int16, np.int64, np.float16):
        array = np.arange(24).reshape(2, 3, 4).astype(dtype)
        write_image(tmp_path / "a.nrrd", array, spacing_mm=(3.0, 2.0, 1.0))
        image = read_image(tmp_path / "a.nrrd")
        np.testing.assert_array_equal(image.array, array)
        assert image.spacing_mm == (3.0, 2.0, 1.0)


@pytest.mark.parametrize("name", ["/etc/passwd", "../source.raw", "/dev/zero", "http://a/b", "no"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_data_that_are_no_file_beside_the_header_are_refused(
    suffix: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / "source.raw").write_bytes(bytes(420))
    folder = tmp_path / "in"
    folder.mkdir()
    header = {
        ".mhd": "ObjectType = Image\nNDims = 3\nDimSize = 5 6 7\nElementType = MET_SHORT\n"
        f"ElementDataFile = {name}\n",
        ".nhdr": "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 6 7\nencoding: raw\n"
        f"endian: little\ndata file: {name}\n",
    }
    path = folder / f"a{suffix}"
    path.write_text(header[suffix])
    with pytest.raises(ImageError, match=r"found the data file .*, expected a file beside it"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_more_voxels_than_the_file_can_have_are_refused(suffix: str, tmp_path: Path) -> None:
    image = source(tmp_path)
    path = tmp_path / f"a{suffix}"
    write_image(path, image.array, like=image)
    head = {".mha": (b"DimSize = 5 6 7", b"DimSize = 5 60000 70000")}
    head[".nrrd"] = (b"sizes: 5 6 7", b"sizes: 5 60000 70000")
    path.write_bytes(path.read_bytes().replace(*head[suffix]))
    message = (
        r"can't be read to its end: found \d+ compressed bytes of voxels, expected 42000000000"
    )
    with pytest.raises(ImageError, match=message):
        read_image(path)


def test_more_voxels_than_the_memory_has_room_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = source(tmp_path)
    write_image(tmp_path / "a.nrrd", image.array, like=image)
    series = write_series(tmp_path / "series", numbered(), OBLIQUE)
    monkeypatch.setattr("gamt.io.format.available_bytes", lambda: 1000)
    for path in (tmp_path / "a.nrrd", series):
        with pytest.raises(ImageError, match=r"voxels, which take .*, the memory that is free"):
            read_image(path)


def test_a_pipe_in_the_folder_of_a_series_is_not_waited_for(tmp_path: Path) -> None:
    series = write_series(tmp_path / "series", numbered(), OBLIQUE)
    os.mkfifo(series / "pipe")
    with pytest.raises(ImageError, match="found pipe in its folder, expected files alone"):
        read_image(series)


def test_a_header_with_keys_that_are_no_text_is_read(tmp_path: Path) -> None:
    image = source(tmp_path)
    write_image(tmp_path / "a.seg.nrrd", image.array, like=image, names={3: "liver"})
    content = (tmp_path / "a.seg.nrrd").read_bytes()
    (tmp_path / "a.seg.nrrd").write_bytes(content.replace(b"\n\n", b"\n\xff\xfe:=\xff\n\n", 1))
    assert read_label_names(tmp_path / "a.seg.nrrd") == {
        n: "liver" if n == 3 else f"Segment_{n}" for n in range(1, 210)
    }


def test_names_of_files_move_no_cursor(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J.nii"
    path.write_bytes(b"no image")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(r"a\x1b[2J.nii: ")
    assert str(caught.value).isprintable()
