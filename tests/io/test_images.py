"""Images read and written: grid, voxels and types, against SimpleITK and nibabel."""

import hashlib
import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from imagefiles import (
    FORMATS,
    INT16,
    affine_of,
    header_bytes,
    itk_affine,
    numbers,
    refused,
    rotation,
    save,
    space,
)
from nibabel.orientations import inv_ornt_aff

from regcli.errors import InputError, OutputError, RecipeError
from regcli.image import Image, Storage
from regcli.io.images import read_header, read_image, write_image


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
    with pytest.raises(RecipeError, match="median"):
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


def test_intensities_are_no_labels_though_they_be_integers(tmp_path):
    draw = np.random.default_rng(0)
    scan = draw.integers(1, 900, (12, 11, 10)).astype(np.int16)
    refused(save(tmp_path / "a.nii", scan), "intensities", labels=True)
    parcels = np.arange(1, 513).reshape(8, 8, 8).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    path = save(tmp_path / "b.nii", parcels.astype(np.int16))
    assert len(read_image(path, labels=True).image.data.unique()) == 512


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


def test_detached_headers_are_read_with_their_data(tmp_path):
    for header, data in (("a.mhd", "a.raw"), ("a.nhdr", "a.raw")):
        sitk.WriteImage(sitk.GetImageFromArray(numbers((4, 5, 6))), str(tmp_path / header))
        assert np.array_equal(read_image(tmp_path / header).image.data[0], numbers((4, 5, 6)).T)
        raw = (tmp_path / data).read_bytes()
        (tmp_path / data).write_bytes(raw[:100])
        refused(tmp_path / header, "cut short" if header == "a.mhd" else "cannot be read")
        (tmp_path / data).unlink()
        with pytest.raises(InputError, match=data):
            read_image(tmp_path / header)


@pytest.mark.parametrize("name", ["heads/mni152_2mm_T1w.nii.gz", "heads/subject_2mm_T1w.nii.gz"])
def test_real_heads_equal_itks(name, data):
    path = data / name
    ours, oracle = read_image(path).image, sitk.ReadImage(str(path))
    np.testing.assert_allclose(ours.space.affine, itk_affine(oracle), atol=1e-4)
    assert np.array_equal(ours.data[0], sitk.GetArrayFromImage(oracle).T)
