"""What NIfTI headers may say: forms, units, byte orders, slices; and what is believed."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from imagefiles import FORMATS, INT16, affine_of, itk_affine, numbers, rotation, save, space

from regcli.image import Image
from regcli.io.images import read_header, read_image, write_image


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
