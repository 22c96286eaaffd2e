import itertools

import nibabel as nib
import numpy as np
import pytest
import torch

from regcli.image import Box, Image, Space, rearrange, transform_points

ORDERS = [
    "".join(x)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for x in itertools.product(*order)
]


def stored(codes, shape=(4, 5, 6), spacing=(1.0, 2.0, 3.0)):
    """A grid whose array axes point along `codes`, a little oblique."""
    ornt = nib.orientations.axcodes2ornt(tuple(codes))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(ornt):
        affine[int(world), axis] = sign * spacing[axis]
    tilt = np.array([[1, 0.05, 0], [-0.05, 1, 0.08], [0, -0.08, 1]])
    affine[:3, :3] = tilt @ affine[:3, :3]
    affine[:3, 3] = (10, -20, 30)
    return Space(shape, torch.from_numpy(affine))


def voxels_of(space):
    axes = torch.meshgrid(*(torch.arange(n) for n in space.shape), indexing="ij")
    return torch.stack(axes, dim=-1).reshape(-1, 3)


def test_there_are_48_orders():
    assert len(set(ORDERS)) == 48


@pytest.mark.parametrize("codes", ORDERS)
def test_codes_equal_nibabels(codes):
    space = stored(codes)
    assert space.codes == codes
    assert space.codes == "".join(nib.aff2axcodes(space.affine.numpy()))


@pytest.mark.parametrize("codes", ORDERS)
def test_canonical_keeps_every_voxel_at_its_world_point(codes):
    space = stored(codes)
    world = space.voxel_to_world(voxels_of(space))
    image = Image(world.T.reshape(3, *space.shape), space).canonical()
    assert image.space.codes == "RAS"
    here = image.space.voxel_to_world(voxels_of(image.space))
    torch.testing.assert_close(image.data.reshape(3, -1).T, here)
    wanted = nib.as_closest_canonical(
        nib.Nifti1Image(world[:, 0].reshape(space.shape).numpy(), space.affine.numpy())
    )
    np.testing.assert_allclose(image.data[0], wanted.get_fdata(), atol=1e-9)
    np.testing.assert_allclose(image.space.affine, wanted.affine, atol=1e-9)


@pytest.mark.parametrize("codes", ORDERS)
def test_rearranging_there_and_back_changes_nothing(codes):
    space = stored(codes)
    data = torch.arange(2 * 4 * 5 * 6).view(2, 4, 5, 6)
    canonical = space.canonical()
    there = rearrange(data, space, canonical)
    assert there.shape[1:] == canonical.shape
    assert bool((rearrange(there, canonical, space) == data).all())


def test_world_and_voxel_undo_each_other(space):
    points = torch.randn(50, 3, dtype=torch.float64) * 20
    torch.testing.assert_close(space.world_to_voxel(space.voxel_to_world(points)), points)
    first = space.voxel_to_world(torch.zeros(3))
    torch.testing.assert_close(first, space.affine[:3, 3])


def test_spacing_and_centre(space):
    ends = space.voxel_to_world(torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    steps = (ends[1:] - ends[0]).norm(dim=1)
    torch.testing.assert_close(torch.tensor(space.spacing, dtype=torch.float64), steps)
    last = space.voxel_to_world(torch.tensor(space.shape) - 1)
    torch.testing.assert_close(space.centre, (ends[0] + last) / 2)


def test_vectors_are_differences_of_points(space):
    u = torch.randn(2, 3, *space.shape, dtype=torch.float64)
    v = space.vectors_to_world(u)
    x = voxels_of(space)
    steps = u[1].reshape(3, -1).T
    wanted = space.voxel_to_world(x + steps) - space.voxel_to_world(x)
    torch.testing.assert_close(v[1].reshape(3, -1).T, wanted)
    torch.testing.assert_close(space.vectors_to_voxel(v), u)
    assert space.vectors_to_world(u.float()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(13, 14, 12), (51, 7, 33), (26, 28, 24)])
def test_resize_keeps_the_corners(space, shape):
    resized = space.resize(shape)
    corners = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    here = resized.voxel_to_world(corners * (torch.tensor(shape) - 1))
    there = space.voxel_to_world(corners * (torch.tensor(space.shape) - 1))
    torch.testing.assert_close(here, there)
    torch.testing.assert_close(resized.centre, space.centre)


def test_resize_to_one_voxel_stays_in_the_middle(space):
    resized = space.resize((space.shape[0], 1, 1))
    torch.testing.assert_close(resized.centre, space.centre)
    assert resized.solid == (True, False, False)


def test_moved_carries_every_voxel(space):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3] += 0.1 * torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    x = voxels_of(space)
    wanted = transform_points(matrix, space.voxel_to_world(x))
    torch.testing.assert_close(space.moved(matrix).voxel_to_world(x), wanted)


def test_grids_agree_up_to_a_tolerance(space):
    shift = torch.eye(4, dtype=torch.float64)
    shift[0, 3] = 5e-4
    assert space.agrees(space.moved(shift))
    assert not space.agrees(space.moved(shift), tolerance_mm=1e-4)
    assert not space.agrees(space.resize((20, 20, 20)))
    assert not space.agrees(space.moved(torch.diag(torch.tensor([1.0, 1, 1.001, 1]).double())))


def test_a_box_is_a_part_of_the_same_grid(space):
    box = Box(space, (1, 0, 2), (5, 4, space.shape[2]))
    data = torch.arange(float(np.prod(space.shape))).view(1, *space.shape)
    part = box.cut(data)
    assert part.shape[1:] == box.part.shape
    assert torch.equal(part, data[:, 1:5, :4, 2:])
    inside = voxels_of(box.part)
    here = space.voxel_to_world(inside + torch.tensor([1.0, 0, 2]))
    torch.testing.assert_close(box.part.voxel_to_world(inside), here)
