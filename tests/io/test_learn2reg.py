import re

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from regcli.errors import InputError, OutputError
from regcli.image import Image, Space
from regcli.io.learn2reg import read_learn2reg, write_learn2reg
from regcli.warp import Warp


@pytest.fixture
def moving_space(space):
    affine = torch.diag(torch.tensor([1.9, -2.2, 2.4, 1.0]).double())
    shape = (25, 27, 23)
    affine[:3, 3] = space.centre - affine[:3, :3] @ torch.tensor([12.0, 13.0, 11.0]).double()
    return Space(shape, affine)


@pytest.fixture
def warp(space):
    u = gaussian_filter(np.random.default_rng(0).standard_normal((3, *space.shape)), (0, 4, 4, 4))
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3] += torch.tensor([[0, 0.05, 0, 2], [-0.05, 0, 0, -3], [0, 0, 0.1, 1]]).double()
    return Warp(space, affine, torch.from_numpy(4 * u / np.abs(u).max()).float()[None])


@pytest.mark.parametrize("ending", [".nii.gz", ".npz"])
def test_sampling_at_index_plus_displacement_gives_the_moved_image(
    warp, moving_space, tmp_path, ending
):
    path = tmp_path / f"disp{ending}"
    write_learn2reg(warp, moving_space, path)
    if ending == ".npz":
        (field,) = np.load(path).values()
    else:
        field = np.asarray(nib.Nifti1Image.from_filename(path).dataobj)
    assert field.shape == (*warp.space.shape, 3)
    assert field.dtype == np.float32
    moving = gaussian_filter(np.random.default_rng(1).standard_normal(moving_space.shape), 1.5)
    moving /= np.ptp(moving)
    index = np.indices(warp.space.shape) + field.transpose(3, 0, 1, 2)
    expected = map_coordinates(moving, index, order=1)
    image = Image(torch.from_numpy(moving).float()[None], moving_space)
    sides = np.reshape(moving_space.shape, (3, 1, 1, 1))
    inside = ((index > 0.01) & (index < sides - 1.01)).all(axis=0)
    assert inside.mean() > 0.3
    found = warp.apply(image).data[0].numpy()
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)


@pytest.mark.parametrize("ending", [".nii.gz", ".npz"])
def test_a_map_comes_back_as_it_was_written(warp, moving_space, tmp_path, ending):
    path = tmp_path / f"disp{ending}"
    write_learn2reg(warp, moving_space, path)
    found = read_learn2reg(path, warp.space, moving_space)
    grid = torch.cartesian_prod(*(torch.arange(float(n)) for n in warp.space.shape))
    points = warp.space.voxel_to_world(grid)
    torch.testing.assert_close(found(points), warp(points), atol=3e-5, rtol=0)


def test_a_linear_map_is_written_too(space, moving_space, warp, tmp_path):
    linear = Warp(space, warp.affine)
    write_learn2reg(linear, moving_space, tmp_path / "d.npz")
    found = read_learn2reg(tmp_path / "d.npz", space, moving_space)
    points = space.voxel_to_world(torch.tensor([[3.0, 4.0, 5.0]]))
    torch.testing.assert_close(found(points), linear(points), atol=3e-5, rtol=0)


def test_components_may_come_first_and_in_half_precision(space, tmp_path):
    field = np.zeros((3, *space.shape), np.float16)
    field[1] = 2
    np.savez(tmp_path / "d.npz", field)
    point = torch.tensor([3.0, 4.0, 5.0])
    found = read_learn2reg(tmp_path / "d.npz", space, space)(space.voxel_to_world(point[None]))
    expected = space.voxel_to_world(point + torch.tensor([0.0, 2.0, 0.0]))
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=0)


def test_equal_maps_are_equal_bytes_under_any_name(warp, moving_space, tmp_path):
    for ending in (".nii.gz", ".npz"):
        for name in "ab":
            write_learn2reg(warp, moving_space, tmp_path / f"{name}{ending}")
        one, other = (tmp_path / f"{name}{ending}" for name in "ab")
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", ["d.nii", "d.nii.gz", "d.npz", "d.txt"])
@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x01\x02" * 300])
def test_a_missing_or_damaged_file_is_an_input_error(space, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)):
        read_learn2reg(tmp_path / name, space, space)


def test_a_field_of_another_image_is_refused(space, tmp_path):
    np.savez(tmp_path / "half.npz", np.zeros((*(n // 2 for n in space.shape), 3)))
    np.savez(tmp_path / "two.npz", np.zeros(3), np.zeros(3))
    np.savez(tmp_path / "nan.npz", np.full((*space.shape, 3), np.nan))
    for name, cause in (("half", "shape"), ("two", "2 arrays"), ("nan", "not finite")):
        with pytest.raises(InputError, match=cause):
            read_learn2reg(tmp_path / f"{name}.npz", space, space)


@pytest.mark.parametrize("name", ["d.txt", "none/d.npz", "none/d.nii.gz"])
def test_a_field_that_cannot_be_written_is_an_output_error(warp, moving_space, tmp_path, name):
    with pytest.raises(OutputError, match=re.escape(name)):
        write_learn2reg(warp, moving_space, tmp_path / name)
