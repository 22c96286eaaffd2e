import gzip
import math
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from regcli.errors import InputError, OutputError
from regcli.image import Space
from regcli.io.displacements import is_displacement, read_displacement, write_displacement


def random_field(space, seed=0):
    return torch.randn(1, 3, *space.shape, generator=torch.Generator().manual_seed(seed)) * 5


def small(space):
    """The fixture's grid with fewer voxels, none as many as another."""
    return Space((5, 4, 7), space.affine)


def save(path, values, *, intent=1007, affine=None, name="", codes=(1, 1)):
    affine = np.diag([-1.5, 2, 2.5, 1]) if affine is None else affine
    image = nib.Nifti1Image(np.asarray(values), affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.header.set_intent(intent, name=name)
    image.to_filename(path)
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_field_comes_back_as_it_was_written(space, tmp_path, ending):
    space = small(space)
    u = random_field(space)
    write_displacement(space, u, tmp_path / f"warp{ending}")
    found, v = read_displacement(tmp_path / f"warp{ending}")
    assert found.agrees(space)
    assert torch.equal(u, v)


def test_itk_reads_a_field_as_lps_vectors_on_the_grid(space, tmp_path):
    space = small(space)
    u = random_field(space)
    write_displacement(space, u, tmp_path / "warp.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "warp.nii.gz"))
    assert image.GetSize() == space.shape
    assert image.GetNumberOfComponentsPerPixel() == 3
    lps = u[0, :, 3, 1, 5].numpy() * (-1, -1, 1)
    np.testing.assert_array_equal(image[3, 1, 5], lps)
    place = np.array(image.TransformIndexToPhysicalPoint((3, 1, 5))) * (-1, -1, 1)
    expected = space.voxel_to_world(torch.tensor([3.0, 1.0, 5.0])).numpy()
    np.testing.assert_allclose(place, expected, atol=1e-4)


def test_the_header_is_that_of_ants(space, tmp_path):
    space = small(space)
    write_displacement(space, random_field(space), tmp_path / "warp.nii.gz")
    header = nib.Nifti1Image.from_filename(tmp_path / "warp.nii.gz").header
    assert header["dim"].tolist() == [5, *space.shape, 1, 3, 1, 1]
    assert int(header["intent_code"]) == 1007
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_data_dtype() == np.float32
    np.testing.assert_allclose(header.get_sform(), space.affine, atol=1e-4)
    np.testing.assert_allclose(header.get_qform(), space.affine, atol=1e-4)


def test_equal_fields_are_equal_bytes_under_any_name(space, tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_displacement(space, random_field(space), tmp_path / name)
    raw = (tmp_path / "a.nii.gz").read_bytes()
    assert raw == (tmp_path / "b.nii.gz").read_bytes()
    assert len(gzip.decompress(raw)) == 352 + 12 * math.prod(space.shape)


def test_no_displacement_is_written_as_zeros(tmp_path, space):
    space = small(space)
    write_displacement(space, None, tmp_path / "warp.nii.gz")
    assert not read_displacement(tmp_path / "warp.nii.gz")[1].any()


def test_a_field_of_one_slice_stays_in_its_plane_in_space(tmp_path):
    space = Space((7, 6, 1), torch.diag(torch.tensor([-2.0, 3.0, 4.0, 1.0]).double()))
    u = random_field(space)
    u[:, 2] = 0
    write_displacement(space, u, tmp_path / "warp.nii.gz")
    found, v = read_displacement(tmp_path / "warp.nii.gz")
    assert found.agrees(space)
    assert torch.equal(u, v)
    assert sitk.ReadImage(str(tmp_path / "warp.nii.gz")).GetSize()[:2] == (7, 6)


def test_a_2d_field_of_ants_gets_a_slice_and_a_third_component(tmp_path):
    values = np.random.default_rng(0).standard_normal((7, 6, 1, 1, 2)).astype("f4")
    space, u = read_displacement(save(tmp_path / "warp.nii.gz", values))
    assert space.shape == (7, 6, 1)
    np.testing.assert_array_equal(u[0, :2, :, :, 0].numpy(), -values[:, :, 0, 0].transpose(2, 0, 1))
    assert not u[0, 2].any()


def test_a_sheared_grid_is_kept_by_the_sform_alone(tmp_path):
    space = Space((5, 4, 7), torch.eye(4, dtype=torch.float64))
    space.affine[0, 1] = 0.2
    u = random_field(space)
    write_displacement(space, u, tmp_path / "warp.nii.gz")
    assert int(nib.Nifti1Image.from_filename(tmp_path / "warp.nii.gz").header["qform_code"]) == 0
    found, v = read_displacement(tmp_path / "warp.nii.gz")
    assert found.agrees(space)
    assert torch.equal(u, v)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(tmp_path / "warp.nii.gz"))


@pytest.mark.parametrize("intent", [1006, 1007])
def test_both_intents_mean_to_regcli_what_they_mean_to_itk(tmp_path, intent):
    values = np.random.default_rng(0).standard_normal((4, 3, 5, 1, 3)).astype("f4")
    path = save(tmp_path / "warp.nii.gz", values, intent=intent)
    _, u = read_displacement(path)
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))  # (K, J, I, 3) LPS
    np.testing.assert_array_equal(u[0].numpy(), (image * (-1, -1, 1)).transpose(3, 2, 1, 0))


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<i2"])
def test_numbers_of_any_type_order_and_scaling_are_read(tmp_path, dtype):
    values = np.arange(180).reshape(3, 4, 5, 1, 3).astype(dtype)
    image = nib.Nifti1Image(values, np.eye(4), nib.Nifti1Header(endianness=dtype[0]))
    image.set_data_dtype(dtype)
    image.header.set_intent(1007)
    image.header.set_slope_inter(0.5, 2)
    image.to_filename(tmp_path / "warp.nii")
    raw = nib.Nifti1Image.from_filename(tmp_path / "warp.nii")
    expected = np.asarray(raw.dataobj)[..., 0, :] * (-1, -1, 1)
    u = read_displacement(tmp_path / "warp.nii")[1][0].permute(1, 2, 3, 0)
    np.testing.assert_allclose(u.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".mhd", ".nhdr"])
def test_itk_vector_images_are_the_same_fields(space, tmp_path, ending):
    space = small(space)
    u = random_field(space)
    write_displacement(space, u, tmp_path / "warp.nii")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "warp.nii")), str(tmp_path / f"warp{ending}"))
    assert is_displacement(tmp_path / f"warp{ending}")
    found, v = read_displacement(tmp_path / f"warp{ending}")
    assert found.agrees(space)
    torch.testing.assert_close(v, u, atol=1e-5, rtol=0)


def test_a_2d_itk_field_gets_a_slice(tmp_path):
    image = sitk.GetImageFromArray(np.ones((6, 7, 2), "f4"), isVector=True)
    image.SetSpacing((2, 3))
    sitk.WriteImage(image, str(tmp_path / "warp.mha"))
    space, u = read_displacement(tmp_path / "warp.mha")
    assert space.shape == (7, 6, 1)
    assert u[0, :, 0, 0, 0].tolist() == [-1, -1, 0]


@pytest.mark.parametrize(
    ("size", "intent", "name", "cause"),
    [
        ((4, 3, 5, 3), 1007, "", "4 x 3 x 5 x 3, not"),
        ((4, 3, 5), 0, "", "4 x 3 x 5, not"),
        ((4, 3, 5, 1, 3), 0, "", "intent is 0"),
        ((4, 3, 5, 1, 6), 1007, "", "its size"),
        ((4, 3, 5, 1, 2), 1007, "", "two components"),
        ((4, 3, 5, 1, 3), 1007, "Mapping", "SPM"),
        ((4, 3, 5, 1, 3), 1007, "NREG_TRANS", "NiftyReg"),
    ],
)
def test_what_may_mean_something_else_is_refused(tmp_path, size, intent, name, cause):
    save(tmp_path / "warp.nii.gz", np.zeros(size, "f4"), intent=intent, name=name)
    with pytest.raises(InputError, match=cause):
        read_displacement(tmp_path / "warp.nii.gz")


def test_a_field_without_orientation_is_refused(tmp_path):
    save(tmp_path / "warp.nii.gz", np.zeros((4, 3, 5, 1, 3), "f4"), codes=(0, 0))
    with pytest.raises(InputError, match="no orientation"):
        read_displacement(tmp_path / "warp.nii.gz")


def test_a_field_whose_only_orientation_is_broken_is_refused(tmp_path):
    path = save(tmp_path / "warp.nii", np.zeros((4, 3, 5, 1, 3), "f4"), codes=(0, 1))
    header = nib.Nifti1Header(path.read_bytes()[:348])
    header["quatern_b"] = header["quatern_c"] = 3
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    with pytest.raises(InputError, match="qform"):
        read_displacement(path)


def test_a_field_that_is_not_finite_is_refused(tmp_path):
    save(tmp_path / "warp.nii.gz", np.full((4, 3, 5, 1, 3), np.nan, "f4"))
    with pytest.raises(InputError, match="not finite"):
        read_displacement(tmp_path / "warp.nii.gz")


@pytest.mark.parametrize("name", ["warp.nii", "warp.nii.gz", "warp.mha", "warp.nrrd", "warp.png"])
@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x01\x02" * 300])
def test_a_missing_or_damaged_file_is_an_input_error(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)):
        read_displacement(tmp_path / name)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_field_cut_short_is_an_input_error(tmp_path, ending):
    path = tmp_path / f"warp{ending}"
    save(tmp_path / "warp.nii", np.ones((9, 8, 7, 1, 3), "f4"))
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "warp.nii")), str(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=re.escape(path.name)):
        read_displacement(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("datatype", 128), ("datatype", 32), ("datatype", 9999), ("vox_offset", np.nan),
     ("dim", [5, 9, -8, 7, 1, 3, 1, 1]), ("dim", [0] * 8), ("dim", [5, 9, 0, 7, 1, 3, 1, 1]),
     ("magic", b"abc"), ("dim", [5, 9000, 9000, 9000, 1, 3, 1, 1])],
)  # fmt: skip
def test_a_nonsensical_header_is_an_input_error_and_nothing_is_logged(
    tmp_path, caplog, capfd, field, value
):
    path = save(tmp_path / "warp.nii", np.ones((9, 8, 7, 1, 3), "f4"))
    raw = path.read_bytes()
    header = nib.Nifti1Header(raw[:348])
    header[field] = value
    path.write_bytes(header.binaryblock + raw[348:])
    with pytest.raises(InputError, match=r"warp\.nii"):
        read_displacement(path)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_images_are_told_from_fields_by_their_headers(tmp_path):
    save(tmp_path / "field.nii.gz", np.zeros((4, 3, 5, 1, 3), "f4"))
    save(tmp_path / "image.nii.gz", np.zeros((4, 3, 5), "f4"), intent=0)
    sitk.WriteImage(sitk.Image(4, 3, 5, sitk.sitkFloat32), str(tmp_path / "image.mha"))
    assert is_displacement(tmp_path / "field.nii.gz")
    assert not is_displacement(tmp_path / "image.nii.gz")
    assert not is_displacement(tmp_path / "image.mha")
    assert not is_displacement(tmp_path / "affine.mat")


@pytest.mark.parametrize("name", ["warp.mha", "warp", "none/warp.nii.gz"])
def test_a_field_that_cannot_be_written_is_an_output_error(space, tmp_path, name):
    with pytest.raises(OutputError, match=re.escape(name)):
        write_displacement(space, None, tmp_path / name)
