"""Images read and written: against SimpleITK, and every defect by its own message."""

import contextlib
import gzip
import hashlib
import itertools
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nibabel.orientations import inv_ornt_aff

from regcli.errors import InputError, OutputError, RecipeError
from regcli.image import Image, Space, Storage
from regcli.io.nifti import read_header, read_image, write_image

DATA = Path(os.environ.get("REGCLI_DATA", Path(__file__).parents[3] / "shared" / "data"))
INT16 = Storage("int16")
FORMATS = (".nii", ".nii.gz", ".mha", ".nrrd", ".mgz")


def rotation(*angles: float) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[[i, i, j, j], [i, j, i, j]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        matrix = turn @ matrix
    return matrix


def space(shape: tuple[int, ...], affine: np.ndarray | None = None) -> Space:
    i, j, k = shape
    return Space((i, j, k), torch.from_numpy(np.eye(4) if affine is None else affine.copy()))


def affine_of(linear: np.ndarray, origin: tuple[float, ...] = (-11.5, 7.25, 30.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, origin
    return affine


GRIDS = {
    "ras": ((6, 5, 4), affine_of(np.eye(3))),
    "las": ((6, 5, 4), affine_of(np.diag((-1.0, 1, 1)))),
    "lps": ((6, 5, 4), affine_of(np.diag((-1.0, -1, 1)))),
    "oblique": ((6, 5, 4), affine_of(rotation(0.3, -0.5, 0.2) * (1, 1.5, 2))),
    "left-handed oblique": ((6, 5, 4), affine_of(rotation(0.3, 0.5, 0.2) * (-1, 1.5, 2))),
    "anisotropic": ((6, 5, 4), affine_of(np.diag((0.4, 0.9, 5.0)))),
    "odd": ((7, 13, 3), affine_of(rotation(0.1, 0, 0.7) * (1.1, 0.7, 3))),
}


@pytest.fixture(params=GRIDS)
def grid(request: pytest.FixtureRequest) -> tuple[tuple[int, int, int], np.ndarray]:
    return GRIDS[request.param]


def numbers(shape: tuple[int, ...], dtype: type = np.int16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape, order="C").astype(dtype)


def save(
    path: Path, voxels: np.ndarray, affine: np.ndarray | None = None, **fields: object
) -> Path:
    """A NIfTI file by nibabel, with header fields overwritten."""
    image = nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine, dtype=voxels.dtype)
    image.header["qform_code"], image.header["vox_offset"] = 0, 352
    for key, value in fields.items():
        if key == "pixdim":
            image.header["pixdim"][1 : 1 + len(value)] = value
        else:
            image.header[key] = value
    raw = image.header.binaryblock + b"\0" * 4 + np.asarray(voxels).tobytes(order="F")
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def header_bytes(path: Path, edit: dict[str, object]) -> Path:
    """Overwrite fields that nibabel refuses to write."""
    raw = bytearray(path.read_bytes())
    fields = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in edit.items():
        fields[key] = value
    raw[:348] = fields.binaryblock
    path.write_bytes(raw)
    return path


def refused(path: Path, words: str, **options: object) -> InputError:
    with pytest.raises(InputError) as caught:
        read_image(path, **options)
    error = caught.value
    assert error.code == 3
    assert str(path) in error.cause
    assert "\n" not in error.cause + error.remedy
    assert error.remedy
    assert words in error.cause, error.cause
    return error


def itk_affine(image: sitk.Image) -> np.ndarray:
    """The RAS affine by ITK's own arithmetic, one corner after the other."""
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    points = [image.TransformContinuousIndexToPhysicalPoint([float(v) for v in c]) for c in corners]
    points = np.array(points) * (-1, -1, 1)
    return affine_of((points[1:] - points[0]).T, tuple(points[0]))


def test_space_and_voxels_equal_itks(grid, tmp_path):
    shape, affine = grid
    path = save(tmp_path / "a.nii", numbers(shape), affine)
    header_bytes(path, {"qform_code": 0})
    ours, oracle = read_image(path).image, sitk.ReadImage(str(path))
    np.testing.assert_allclose(ours.space.affine, itk_affine(oracle), atol=1e-5)
    assert np.array_equal(ours.data[0], sitk.GetArrayFromImage(oracle).T)
    assert ours.data.dtype == torch.int16
    assert ours.data.is_contiguous()


@pytest.mark.parametrize("ending", FORMATS)
def test_itk_and_nibabel_read_what_is_written(grid, ending, tmp_path):
    shape, affine = grid
    image = Image(torch.from_numpy(numbers(shape))[None], space(shape, affine), storage=INT16)
    path = tmp_path / f"a{ending}"
    write_image(image, path)
    if ending == ".mgz":
        oracle = nib.load(path)
        found, voxels = oracle.affine, np.asarray(oracle.dataobj)
    else:
        oracle = sitk.ReadImage(str(path))
        found, voxels = itk_affine(oracle), sitk.GetArrayFromImage(oracle).T
    np.testing.assert_allclose(found, affine, atol=2e-5)
    assert np.array_equal(voxels, image.data[0])
    assert voxels.dtype.newbyteorder("=") == np.int16


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_a_round_trip_changes_nothing(grid, ending, dtype, tmp_path):
    shape, affine = grid
    first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    values = torch.from_numpy(numbers(shape, np.dtype(dtype).newbyteorder("=").type) % 251)
    values = values.to({"uint16": torch.int32, "float64": torch.float32}.get(dtype, values.dtype))
    write_image(Image(values[None], space(shape, affine), storage=Storage(dtype)), first)
    read = read_image(first)
    write_image(read.image, second)
    again = read_image(second)
    assert torch.equal(again.image.data, values[None])
    assert again.image.data.dtype == values.dtype
    assert again.image.storage == read.image.storage
    assert again.image.space.agrees(space(shape, affine))
    atol = 1e-5 if ending == ".mgz" else 1e-13
    assert torch.allclose(again.image.space.affine, read.image.space.affine, rtol=0, atol=atol)
    if ending != ".mgz":
        assert read.image.storage.dtype == dtype
    if ending in (".nii", ".nii.gz", ".mha"):  # whose headers hold the affine to the last bit
        write_image(again.image, first)
        assert first.read_bytes() == second.read_bytes()
    assert again.warnings == ()


@pytest.mark.parametrize("ending", FORMATS)
def test_all_48_axis_orders_keep_every_voxel_in_its_place(ending, tmp_path):
    base, world = numbers((4, 3, 2)), affine_of(rotation(0.2, 0.1, -0.3) * (1, 2, 3))
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            voxels = nib.apply_orientation(base, np.array(list(zip(order, flips, strict=True))))
            back = inv_ornt_aff(np.array(list(zip(order, flips, strict=True))), base.shape)
            affine = world @ back
            image = Image(
                torch.from_numpy(np.ascontiguousarray(voxels))[None],
                space(voxels.shape, affine),
                storage=INT16,
            )
            path = tmp_path / f"a{ending}"
            write_image(image, path)
            read = read_image(path).image
            assert torch.equal(read.data, image.data)
            assert read.space.agrees(image.space)
            upright = read.canonical()
            assert np.array_equal(upright.data[0], base)
            np.testing.assert_allclose(upright.space.affine, world, atol=2e-5)
            if ending == ".nii":
                np.testing.assert_allclose(itk_affine(sitk.ReadImage(str(path))), affine, atol=1e-5)


def test_the_qform_serves_where_there_is_no_sform(tmp_path):
    affine = affine_of(rotation(0.3, -0.5, 0.2) * (-1, 1.5, 2))
    image = nib.Nifti1Image(numbers((6, 5, 4)), None)
    image.set_qform(affine, code=1)
    nib.save(image, tmp_path / "a.nii.gz")
    read = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read.image.space.affine, affine, atol=1e-5)
    assert read.warnings == ()


def test_without_any_orientation_the_axes_are_itks_and_there_is_a_warning(tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)), sform_code=0, pixdim=(1, 2, 3), qoffset_x=9)
    read = read_image(path)
    np.testing.assert_allclose(read.image.space.affine, itk_affine(sitk.ReadImage(str(path))))
    assert "no orientation" in read.warnings[0]


def test_contradictory_sform_and_qform_are_named_in_mm(tmp_path):
    image = nib.Nifti1Image(numbers((6, 5, 4)), np.eye(4))
    image.set_sform(affine_of(np.eye(3), (3.0, 4.0, 0.0)), code=1)
    image.set_qform(np.eye(4), code=1)
    nib.save(image, tmp_path / "a.nii")
    read = read_image(tmp_path / "a.nii")
    assert read.image.space.affine[:3, 3].tolist() == [3, 4, 0]
    assert "by up to 5 mm; the sform is used" in read.warnings[0]
    assert read_header(tmp_path / "a.nii").warnings == read.warnings


def test_forms_that_agree_to_a_hundredth_of_a_mm_pass_in_silence(tmp_path):
    image = nib.Nifti1Image(numbers((6, 5, 4)), np.eye(4))
    image.set_sform(affine_of(np.eye(3), (0.009, 0, 0)), code=1)
    image.set_qform(np.eye(4), code=1)
    nib.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").warnings == ()


def test_an_sform_that_contradicts_the_voxel_size_is_named(tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)), pixdim=(1, 1, 2))
    assert "contradicts its voxel size (1 x 1 x 2 mm)" in read_image(path).warnings[0]


@pytest.mark.parametrize(("code", "scale"), [(1, 1000.0), (3, 0.001)])
def test_metres_and_micrometres_become_mm(code, scale, tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)), xyzt_units=code)
    read = read_image(path)
    assert read.image.space.spacing == pytest.approx((scale, scale, scale))
    assert "converted to mm" in read.warnings[0]


@pytest.mark.parametrize("ending", FORMATS)
def test_shear_survives(ending, tmp_path):
    sheared = affine_of(np.array([[1.0, 0.3, 0], [0, 1, 0.2], [0, 0, 2]]))
    image = Image(
        torch.from_numpy(numbers((6, 5, 4)))[None], space((6, 5, 4), sheared), storage=INT16
    )
    write_image(image, tmp_path / f"a{ending}")
    read = read_image(tmp_path / f"a{ending}")
    np.testing.assert_allclose(read.image.space.affine, sheared, atol=1e-5)
    assert read.warnings == ()
    if ending == ".nii":
        fields = nib.load(tmp_path / "a.nii").header
        assert (fields["sform_code"], fields["qform_code"]) == (1, 0)


def test_both_forms_are_written_with_code_1_in_mm(grid, tmp_path):
    shape, affine = grid
    write_image(Image(torch.zeros(1, *shape), space(shape, affine)), tmp_path / "a.nii")
    fields = nib.load(tmp_path / "a.nii").header
    assert (fields["sform_code"], fields["qform_code"]) == (1, 1)
    np.testing.assert_allclose(fields.get_sform(), affine, atol=1e-5)
    np.testing.assert_allclose(fields.get_qform(), affine, atol=1e-5)
    assert fields.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_either_byte_order_of_either_nifti_is_read(order, kind, tmp_path):
    voxels = numbers((6, 5, 4)).astype(f"{order}i2")
    image = kind(voxels, np.eye(4), header=kind.header_class(endianness=order))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii.gz")
    assert np.array_equal(read_image(tmp_path / "a.nii.gz").image.data[0], voxels)
    assert read_header(tmp_path / "a.nii.gz").storage == INT16


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        ("int8", torch.int8),
        ("uint8", torch.uint8),
        ("uint16", torch.int32),
        ("uint32", torch.int64),
        ("int64", torch.int64),
        ("uint64", torch.int64),
        ("float64", torch.float32),
    ],
)
def test_types_are_widened_only_where_they_must_and_written_as_they_were(stored, kept, tmp_path):
    voxels = numbers((3, 4, 5)).astype(stored)
    voxels[0, 0, 0] = min(float(np.finfo("f4").max), 2**62) if "64" in stored else 100
    if stored in ("uint16", "uint32"):
        voxels[0, 0, 0] = np.iinfo(stored).max
    path = save(tmp_path / "a.nii", voxels)
    read = read_image(path).image
    assert read.data.dtype == kept
    assert np.array_equal(read.data[0].numpy().astype(stored), voxels)
    write_image(read, tmp_path / "b.nii")
    again = nib.load(tmp_path / "b.nii")
    assert again.get_data_dtype() == stored
    assert np.array_equal(np.asarray(again.dataobj), voxels)


def test_slope_and_intercept_are_applied_and_applied_back(tmp_path):
    voxels = numbers((6, 5, 4))
    path = save(tmp_path / "a.nii.gz", voxels, scl_slope=0.01, scl_inter=-3)
    read = read_image(path).image
    assert read.data.dtype == torch.float32
    np.testing.assert_array_equal(read.data[0], nib.load(path).get_fdata(dtype=np.float32))
    write_image(read, tmp_path / "b.nii.gz")
    again = nib.load(tmp_path / "b.nii.gz")
    assert np.array_equal(again.dataobj.get_unscaled(), voxels)
    assert again.get_data_dtype() == np.int16
    write_image(read, tmp_path / "b.mha")
    assert torch.equal(read_image(tmp_path / "b.mha").image.data, read.data)


def test_intensities_are_rounded_and_clipped_to_integer_storage(tmp_path):
    values = torch.tensor([-5.0, 0.4, 0.6, 254.6, 300.0, 7.0]).reshape(1, 3, 2, 1)
    write_image(Image(values, space((3, 2, 1)), storage=Storage("uint8")), tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").image.data.flatten().tolist() == [0, 0, 1, 255, 255, 7]
    for name in ("int64", "uint64", "int32", "uint32"):
        wide = Image(values * 1e20, space((3, 2, 1)), storage=Storage(name))
        write_image(wide, tmp_path / "b.nii")
        top = np.asarray(nib.load(tmp_path / "b.nii").dataobj).max()
        assert 0.99 * np.iinfo(name).max < top <= np.iinfo(name).max
    signed = Image(torch.tensor([[[[-1], [300]], [[2], [3]]]]), space((2, 2, 1)))
    write_image(Image(signed.data, signed.space, storage=Storage("uint8")), tmp_path / "c.nii")
    assert read_image(tmp_path / "c.nii").image.data.flatten().tolist() == [0, 255, 2, 3]


@pytest.mark.parametrize("ending", [".nii.gz", ".mgz"])
def test_compressed_bytes_depend_on_the_content_alone(ending, tmp_path):
    image = Image(torch.rand(1, 6, 5, 4), space((6, 5, 4)))
    write_image(image, tmp_path / f"one{ending}")
    write_image(image, tmp_path / f"other{ending}")
    raw = (tmp_path / f"one{ending}").read_bytes()
    assert raw == (tmp_path / f"other{ending}").read_bytes()
    assert raw[3:8] == b"\0" * 5  # no name, no time


def test_several_channels_are_written_as_frames(tmp_path):
    image = Image(torch.rand(3, 6, 5, 4), space((6, 5, 4)))
    write_image(image, tmp_path / "a.nii.gz")
    assert torch.equal(read_image(tmp_path / "a.nii.gz", frame=2).image.data[0], image.data[2])
    write_image(image, tmp_path / "a.mha")
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.mha")))
    assert np.array_equal(voxels.transpose(3, 2, 1, 0), image.data)


def test_mgz_widens_what_it_lacks_and_refuses_what_it_cannot_hold(tmp_path):
    image = Image(
        torch.tensor([[[[1], [40000]], [[2], [3]]]]), space((2, 2, 1)), storage=Storage("uint16")
    )
    write_image(image, tmp_path / "a.mgz")
    assert read_image(tmp_path / "a.mgz").image.data.tolist() == image.data.tolist()
    huge = Image(image.data * 2**40, image.space, storage=Storage("int64"))
    with pytest.raises(OutputError, match="MGH cannot hold"):
        write_image(huge, tmp_path / "b.mgz")


@pytest.mark.parametrize("name", ["a.mhd", "a.jpg", "a"])
def test_unknown_output_formats_are_refused(name, tmp_path):
    with pytest.raises(OutputError, match="not a format for images"):
        write_image(Image(torch.rand(1, 2, 2, 2), space((2, 2, 2))), tmp_path / name)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 1, 1)])
@pytest.mark.parametrize("third", [(0, 0, 0), (0, 0, 3)])
def test_a_2d_image_is_one_slice_with_an_orthogonal_thickness(shape, third, tmp_path):
    affine = affine_of(np.stack([(-2, 0, 0), (0, 1, 0), third], axis=1))
    rows = {f"srow_{axis}": row for axis, row in zip("xyz", affine, strict=False)}
    path = save(tmp_path / "a.nii", numbers(shape), pixdim=(2, 1, third[2]), **rows)
    read = read_image(path).image
    assert read.data.shape == (1, 6, 5, 1)
    assert read.space.affine[:3, 2].tolist() == [0, 0, third[2] or 1]
    write_image(read, tmp_path / "b.nii")
    assert read_image(tmp_path / "b.nii").image.space.agrees(read.space)


def test_a_2d_image_with_a_qform_only_gets_its_normal(tmp_path):
    image = nib.Nifti1Image(numbers((6, 5)), None)
    image.set_qform(affine_of(rotation(0.5, 0.2, 0) * (2, 3, 1)), code=1)
    image.header["pixdim"][3] = 0
    nib.save(image, tmp_path / "a.nii")
    affine = read_image(tmp_path / "a.nii").image.space.affine
    np.testing.assert_allclose(affine[:3, :3], rotation(0.5, 0.2, 0) * (2, 3, 1), atol=1e-6)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_2d_itk_image_lies_in_the_axial_plane(ending, tmp_path):
    flat = sitk.GetImageFromArray(numbers((5, 6)))
    flat.SetSpacing((2.0, 3.0))
    flat.SetOrigin((10.0, 20.0))
    sitk.WriteImage(flat, str(tmp_path / f"a{ending}"))
    read = read_image(tmp_path / f"a{ending}").image
    assert read.space.shape == (6, 5, 1)
    expected = [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(read.space.affine, expected)
    assert np.array_equal(read.data[0, :, :, 0].T, numbers((5, 6)))


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd", ".mgz"])
def test_4d_files_need_a_frame(ending, tmp_path):
    voxels, path = numbers((6, 5, 4, 3)), tmp_path / f"a{ending}"
    if ending in (".mha", ".nrrd"):
        series = [sitk.GetImageFromArray(voxels[..., t].T) for t in range(3)]
        sitk.WriteImage(sitk.JoinSeries(series), str(path))
    else:
        kind = nib.MGHImage if ending == ".mgz" else nib.Nifti1Image
        nib.save(kind(voxels, np.eye(4)), path)
    assert "--frame" in refused(path, "3 volumes").remedy
    assert read_header(path).frames == 3
    for frame in (0, 2, "1"):
        read = read_image(path, frame=frame).image
        assert np.array_equal(read.data[0], voxels[..., int(frame)])
    mean = read_image(path, frame="mean").image
    np.testing.assert_allclose(mean.data[0], voxels.mean(-1), rtol=1e-6)
    assert mean.storage == Storage()
    refused(path, "no frame 3", frame=3)
    refused(path, "no frame -1", frame=-1)
    with pytest.raises(RecipeError):
        read_image(path, frame="median")


def test_a_4d_file_of_one_frame_is_3d(tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4, 1)))
    assert read_image(path).image.data.shape == (1, 6, 5, 4)
    assert read_image(path, frame=0).image.data.shape == (1, 6, 5, 4)


def test_labels_come_as_integers(tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)).astype(np.float32))
    read = read_image(path, labels=True).image
    assert read.data.dtype == torch.int32
    assert read.labels
    assert read.storage.dtype == "float32"
    assert read_image(save(path, np.ones((3, 3, 3), np.uint8)), labels=True).image.data.min() == 1
    refused(save(path, numbers((3, 3, 3)) + 0.5), "fractions", labels=True)
    refused(save(path, np.zeros((3, 3, 3), np.uint8)), "no labels", labels=True)


def test_the_header_alone_says_the_same_as_the_image(grid, tmp_path):
    shape, affine = grid
    for ending in FORMATS:
        path = tmp_path / f"a{ending}"
        image = Image(torch.from_numpy(numbers(shape))[None], space(shape, affine), storage=INT16)
        write_image(image, path)
        header, image = read_header(path), read_image(path).image
        assert torch.equal(header.space.affine, image.space.affine)
        assert (header.space.shape, header.storage, header.frames) == (shape, image.storage, 1)


def test_the_digest_is_that_of_the_file(tmp_path):
    for name in ("a.nii.gz", "a.mha"):
        write_image(Image(torch.rand(1, 6, 5, 4), space((6, 5, 4))), tmp_path / name)
        expected = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        assert read_image(tmp_path / name).sha256 == expected


def test_endings_count_in_any_case(tmp_path):
    for ending in FORMATS:
        write_image(Image(torch.rand(1, 6, 5, 4), space((6, 5, 4))), tmp_path / f"a{ending}")
        path = (tmp_path / f"a{ending}").rename(tmp_path / f"ä b{ending.upper()}")
        assert read_image(path).image.data.shape == (1, 6, 5, 4)


def test_metaimages_of_every_kind_equal_itks(grid, tmp_path):
    shape, affine = grid
    path, other = tmp_path / "a.mha", tmp_path / "b.mha"
    image = Image(torch.from_numpy(numbers(shape))[None], space(shape, affine), storage=INT16)
    write_image(image, path)
    flat = sitk.ReadImage(str(path))
    sitk.WriteImage(flat, str(other))
    raw = other.read_bytes()
    head, body = raw[: -2 * image.data.numel()], raw[-2 * image.data.numel() :]
    swapped = head.replace(b"MSB = False", b"MSB = True")
    text = head.replace(b"BinaryData = True", b"BinaryData = False")
    legacy = head.replace(b"TransformMatrix", b"Orientation").replace(b"Offset", b"Position")
    for content in (
        raw,
        swapped + np.frombuffer(body, "<i2").astype(">i2").tobytes(),
        text + "".join(f"{v} " for v in np.frombuffer(body, "<i2")).encode(),
        legacy + body,
    ):
        other.write_bytes(content)
        oracle, ours = sitk.ReadImage(str(other)), read_image(other).image
        assert np.array_equal(ours.data[0], sitk.GetArrayFromImage(oracle).T)
        np.testing.assert_allclose(ours.space.affine, itk_affine(oracle), atol=1e-12)


def test_a_metaimage_in_many_files_is_refused(tmp_path):
    path = tmp_path / "a.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(numbers((4, 5, 6))), str(path))
    text = path.read_text()
    for name in ("LIST", "slice%03d.raw 1 4 1"):
        path.write_text(text.replace("a.raw", name))
        refused(path, "separate files")
    path.write_text(text.replace("ElementDataFile", "HeaderSize = -1\nElementDataFile"))
    raw = (tmp_path / "a.raw").read_bytes()
    (tmp_path / "a.raw").write_bytes(b"some header" + raw)
    assert np.array_equal(read_image(path).image.data[0], numbers((4, 5, 6)).T)


def test_detached_headers_are_read_with_their_data(tmp_path):
    for header, data in (("a.mhd", "a.raw"), ("a.nhdr", "a.raw")):
        sitk.WriteImage(sitk.GetImageFromArray(numbers((4, 5, 6))), str(tmp_path / header))
        assert np.array_equal(read_image(tmp_path / header).image.data[0], numbers((4, 5, 6)).T)
        raw = (tmp_path / data).read_bytes()
        (tmp_path / data).write_bytes(raw[:100])
        refused(tmp_path / header, "cut short" if header == "a.mhd" else "cannot be read")
        (tmp_path / data).unlink()
        with pytest.raises(InputError):
            read_image(tmp_path / header)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd", "a.mgz", "a.xyz"])
def test_missing_files_folders_and_empty_files_are_refused(name, tmp_path):
    path = tmp_path / name
    refused(path, "does not exist")
    path.touch()
    refused(path, "is empty")
    path.unlink()
    path.mkdir()
    refused(path, "is a folder")


def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path):
    path = tmp_path / "a.img"
    path.write_bytes(b"something")
    assert ".nrrd" in refused(path, "unknown image format (.img)").remedy
    bare = tmp_path / "a"
    bare.write_bytes(b"something")
    refused(bare, "no ending")


def test_a_file_without_read_permission_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)))

    def denied(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)  # chmod does not stop root
    refused(path, "permission denied")


@pytest.mark.parametrize("name", ["a.nii", "a.mha", "a.nrrd", "a.mgh"])
def test_files_that_are_not_what_their_name_says_are_refused(name, tmp_path, capfd):
    path = tmp_path / name
    for content in (b"hello world", b"\x89PNG" * 300, b"\0" * 600):
        path.write_bytes(content)
        refused(path, "is not a")
    assert capfd.readouterr() == ("", "")


def test_compression_against_the_name_is_refused(tmp_path):
    plain = save(tmp_path / "a.nii", numbers((6, 5, 4)))
    refused(plain.rename(tmp_path / "b.nii.gz"), "is not gzip-compressed")
    packed = save(tmp_path / "c.nii.gz", numbers((6, 5, 4)))
    refused(packed.rename(tmp_path / "d.nii"), "is gzip-compressed")


def test_one_half_of_a_pair_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)), magic=b"ni1")
    refused(path, ".hdr/.img pair")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_gzip_is_refused(share, tmp_path):
    voxels = np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", voxels)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    refused(path, "cut short")
    path.write_bytes(raw[:-8] + b"\1\2\3\4" + raw[-4:])
    refused(path, "damaged")


@pytest.mark.parametrize("ending", [".nii", ".mha", ".nrrd", ".mgh"])
def test_truncated_voxels_are_refused(ending, tmp_path, capfd):
    path = tmp_path / f"a{ending}"
    voxels = torch.randint(0, 999, (1, 20, 20, 20), dtype=torch.int16)
    write_image(Image(voxels, space((20, 20, 20)), storage=INT16), path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 2 // 3])
    with pytest.raises(InputError):
        read_image(path)
    assert capfd.readouterr() == ("", "")
    if ending == ".nii":
        refused(path, "bytes of voxels")
        path.write_bytes(raw[:200])
        refused(path, "is not a NIfTI")


def test_a_damaged_compressed_metaimage_is_refused(tmp_path, capfd):
    path = tmp_path / "a.mha"
    voxels = torch.randint(0, 999, (1, 20, 20, 20), dtype=torch.int16)
    write_image(Image(voxels, space((20, 20, 20)), storage=INT16), path)
    raw = bytearray(path.read_bytes())
    raw[-3000:-2900] = b"U" * 100  # ITK would return what it has, and noise
    path.write_bytes(raw)
    refused(path, "damaged")
    sitk.WriteImage(sitk.GetImageFromArray(voxels[0].numpy()), str(path))
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "15999 of 16000 bytes")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan"))])
def test_impossible_voxel_sizes_are_refused(spacing, tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)))
    refused(header_bytes(path, {"pixdim": [1, *spacing, 1, 1, 1, 1]}), "voxel size")
    mgh = tmp_path / "a.mgh"
    nib.save(nib.MGHImage(numbers((6, 5, 4)), np.eye(4)), mgh)
    raw = mgh.read_bytes()
    mgh.write_bytes(raw[:30] + np.array(spacing, ">f4").tobytes() + raw[42:])
    refused(mgh, "voxel size")


@pytest.mark.parametrize("line", ["nan 1 1", "0 1 1", "1 1 -2"])
def test_impossible_metaimage_voxel_sizes_are_refused(line, tmp_path, capfd):
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(numbers((4, 5, 6))), str(path))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"Spacing = 1 1 1", f"Spacing = {line}".encode()))
    refused(path, "voxel size")
    for key in (b"DimSize = 6 5 4", b"ElementType = MET_SHORT", b"Offset = 0 0 0"):
        for wrong in (b"= x", b"= -6 5", b"="):
            path.write_bytes(raw.replace(key, key.partition(b"=")[0] + wrong))
            with pytest.raises(InputError):
                read_image(path)
    assert capfd.readouterr() == ("", "")


def test_a_nrrd_with_degenerate_directions_is_refused(tmp_path):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(numbers((4, 5, 6))), str(path))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"(1,0,0)", b"(0,0,0)"))
    refused(path, "voxel size")
    path.write_bytes(raw.replace(b"(1,0,0)", b"(0,1,0)"))
    refused(path, "singular")


@pytest.mark.parametrize(
    ("row", "words"),
    [((0, 0, 0, 0), "singular"), ((0, 1, 0, 0), "singular"), ((1, np.nan, 0, 0), "not finite")],
)
def test_degenerate_affines_are_refused(row, words, tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)), srow_x=row)
    refused(path, words)
    header_bytes(path, {"qform_code": 1})
    refused(path, words)


def test_a_broken_qform_is_passed_over_where_there_is_an_sform(tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)), qform_code=1, quatern_b=3)
    assert "not a rotation" in read_image(path).warnings[0]


def test_voxels_that_are_not_finite_are_counted(tmp_path):
    voxels = numbers((6, 5, 4)).astype(np.float64)
    voxels[0, 0, :3] = np.nan, np.inf, 1e300
    refused(save(tmp_path / "a.nii", voxels), "3 of 120 voxels")


def test_constant_images_are_refused(tmp_path):
    refused(save(tmp_path / "a.nii", np.full((6, 5, 4), 7, np.int16)), "every voxel is 7")
    path = save(tmp_path / "a.nii", np.zeros((6, 5, 4), np.float32))
    refused(path, "every voxel is 0")
    assert not read_image(path, constant=True).image.data.any()


def test_colours_complex_numbers_and_vectors_are_refused(tmp_path):
    path = tmp_path / "a.nii"
    refused(save(path, np.ones((6, 5, 4), np.complex64)), "complex numbers")
    rgb = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(save(path, rgb), "colours")
    refused(header_bytes(save(path, numbers((6, 5, 4))), {"datatype": 777}), "unknown kind")
    for kind, words in ((sitk.sitkVectorUInt8, "3 values"), (sitk.sitkVectorFloat64, "field")):
        for ending in (".mha", ".nrrd"):
            sitk.WriteImage(sitk.Image([4, 5, 6], kind, 3), str(tmp_path / f"a{ending}"))
            refused(tmp_path / f"a{ending}", words)
    sitk.WriteImage(sitk.Image([4, 5, 6], sitk.sitkComplexFloat32), str(tmp_path / "a.nrrd"))
    refused(tmp_path / "a.nrrd", "complex")


def test_a_displacement_field_is_refused_with_what_to_do(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((6, 5, 4, 1, 3), np.float32), intent_code=1007)
    assert "regcli apply" in refused(path, "displacement field").remedy
    refused(save(path, np.zeros((6, 5, 4, 1, 3), np.float32)), "displacement field")
    refused(save(path, np.zeros((6, 5, 4, 2, 3), np.float32)), "5 dimensions")


@pytest.mark.parametrize("dim", [(0,), (1, 6), (3, 6, 0, 4), (3, 6, -5, 4), (3, 6, 1, 1), (9, 6)])
def test_files_without_an_image_are_refused(dim, tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)))
    header_bytes(path, {"dim": [*dim, *(1,) * (8 - len(dim))]})
    with pytest.raises(InputError):
        read_image(path)


def test_integers_beyond_int64_are_refused(tmp_path):
    voxels = numbers((6, 5, 4)).astype(np.uint64)
    voxels[0] = 2**63
    refused(save(tmp_path / "a.nii", voxels), "beyond 2^63")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mgh", ".mha"])
def test_random_damage_is_read_or_refused_and_never_crashes(ending, tmp_path, capfd):
    generator = np.random.default_rng(5)
    path = tmp_path / f"a{ending}"
    voxels = torch.randint(0, 999, (1, 8, 7, 5), dtype=torch.int16)
    write_image(Image(voxels, space((8, 7, 5)), storage=INT16), path)
    raw = path.read_bytes()
    for _ in range(100):
        damaged = bytearray(raw)
        at = int(generator.integers(0, min(len(raw), 400)))
        damaged[at : at + 4] = generator.bytes(int(generator.integers(0, 5)))
        path.write_bytes(damaged)
        for read in (read_header, read_image):
            with contextlib.suppress(InputError):
                read(path)
    assert capfd.readouterr() == ("", "")


# -- real files -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["heads/mni152_2mm_T1w.nii.gz", "heads/subject_2mm_T1w.nii.gz"])
def test_real_heads_equal_itks(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no {path}; set REGCLI_DATA")
    ours, oracle = read_image(path).image, sitk.ReadImage(str(path))
    np.testing.assert_allclose(ours.space.affine, itk_affine(oracle), atol=1e-4)
    assert np.array_equal(ours.data[0], sitk.GetArrayFromImage(oracle).T)
