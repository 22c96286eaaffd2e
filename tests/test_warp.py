from dataclasses import replace

import oracles
import phantoms
import pytest
import SimpleITK as sitk
import torch

from regcli.image import Image, Space, transform_points
from regcli.warp import Warp


def turn(space, degrees=8.0, shift=(2.0, -1.5, 1.0)):
    """A about the middle of the grid: rotation, anisotropic scaling, shift."""
    matrix = torch.from_numpy(phantoms.phantom.turned(degrees, (0.3, 1.0, -0.5)))
    matrix[:3, :3] @= torch.diag(torch.tensor([1.06, 0.95, 1.02], dtype=torch.float64))
    matrix[:3, 3] = space.centre - matrix[:3, :3] @ space.centre + torch.tensor(shift)
    return matrix


def smooth_warp(space, seed=0, linear=True):
    u = displacement(space, phantoms.exact_map(space, space, seed=seed, linear=False)[0])
    return Warp(space, turn(space) if linear else torch.eye(4, dtype=torch.float64), u)


def grid_points(space):
    return torch.from_numpy(phantoms.phantom.grid_points(space.shape, space.affine.numpy()))


def displacement(space, phi):
    x = grid_points(space)
    return (phi(x) - x).T.reshape(1, 3, *space.shape).float()


def other_grid(space):
    """Another orientation, size and spacing over about the same field of view."""
    middle = torch.eye(4, dtype=torch.float64)
    middle[:3, :3] = torch.from_numpy(phantoms.phantom.turned(12, (1.0, 0.2, -0.4)))[:3, :3]
    middle[:3, :3] @= torch.diag(torch.tensor([-2.2, -1.9, 2.4], dtype=torch.float64))
    middle[:3, 3] = space.centre - middle[:3, :3] @ torch.tensor([12.0, 14.0, 10.0]).double()
    return Space((25, 29, 21), middle)


def well_inside(warp, onto, moving):
    """Voxels that ITK and we must agree on: no rounding at the edge, u inside its own grid."""

    def margin(space, points, shape):
        voxels = space.world_to_voxel(points)
        last = torch.tensor(space.shape) - 1
        return ((voxels >= -1e-6) & (voxels <= last + 1e-6)).all(1).view(shape)

    x = grid_points(onto)
    return margin(warp.space, x, onto.shape) & margin(moving.space, warp(x), onto.shape)


def test_call_is_affine_after_displacement(space):
    warp = smooth_warp(space)
    x = grid_points(space)
    wanted = transform_points(warp.affine, x + warp.displacement[0].reshape(3, -1).T)
    torch.testing.assert_close(warp(x), wanted, atol=1e-4, rtol=0)
    assert warp(x).dtype == torch.float64
    torch.testing.assert_close(Warp(space, warp.affine)(x), transform_points(warp.affine, x))


def test_call_equals_simpleitk_between_voxels(space):
    warp = smooth_warp(space)
    draw = torch.Generator().manual_seed(0)
    voxels = torch.rand(60, 3, generator=draw).double() * (torch.tensor(space.shape) - 1)
    x = space.voxel_to_world(voxels)
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    itk = oracles.to_itk_transform(warp)
    wanted = torch.tensor([itk.TransformPoint((p * flip).tolist()) for p in x]).double() * flip
    torch.testing.assert_close(warp(x), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("linear", [True, False])
def test_apply_equals_simpleitk(space, linear):
    warp = smooth_warp(space, linear=linear)
    moving = phantoms.pair(space).fixed
    moved = warp.apply(moving)
    inside = well_inside(warp, space, moving)
    assert inside.float().mean() > 0.4
    wanted = oracles.resample(moving, space, warp)
    torch.testing.assert_close(moved.data[0][inside], wanted[inside], atol=2e-4, rtol=0)
    assert moved.space is space


def test_apply_equals_simpleitk_between_different_grids(space):
    warp = smooth_warp(space)
    moving = phantoms.pair(other_grid(space)).fixed
    onto = other_grid(space).resize((19, 23, 22))
    moved = warp.apply(moving, onto)
    inside = well_inside(warp, onto, moving)
    assert inside.float().mean() > 0.2
    # u is first resampled onto the new grid, voxel by voxel the same numbers
    wanted = oracles.resample(moving, onto, warp)
    torch.testing.assert_close(moved.data[0][inside], wanted[inside], atol=2e-4, rtol=0)


def test_affine_alone_equals_simpleitk_and_is_zero_outside(space):
    warp = Warp(space, turn(space, 20.0, (9.0, -8.0, 7.0)))
    moving = phantoms.pair(space).fixed
    moving = replace(moving, data=moving.data + 1)
    moved, wanted = warp.apply(moving).data[0], oracles.resample(moving, space, warp)
    assert 0.05 < float((wanted == 0).float().mean()) < 0.8
    assert float(((moved == 0) != (wanted == 0)).float().mean()) < 1e-3  # ties at the edge
    same = (moved == 0) == (wanted == 0)
    torch.testing.assert_close(moved[same], wanted[same], atol=2e-4, rtol=0)


def test_cubic_equals_simpleitks_bspline(space):
    warp = smooth_warp(space)
    moving = phantoms.pair(other_grid(space)).fixed
    moved = warp.apply(moving, interpolation="cubic").data[0]
    inside = well_inside(warp, space, moving)
    wanted = oracles.resample(moving, space, warp, sitk.sitkBSpline)
    torch.testing.assert_close(moved[inside], wanted[inside], atol=1e-3, rtol=0)


@pytest.mark.parametrize("interpolation", ["nearest", "label"])
def test_labels_never_invent_codes(space, interpolation):
    pair = phantoms.pair(space)
    warp = smooth_warp(space)
    moved = warp.apply(pair.fixed_labels, interpolation=interpolation)
    assert moved.labels
    assert moved.data.dtype == pair.fixed_labels.data.dtype
    assert set(moved.data.unique().tolist()) <= {0, *pair.fixed_labels.data.unique().tolist()}
    inside = well_inside(warp, space, pair.fixed_labels)
    nearest = oracles.resample(pair.fixed_labels, space, warp, sitk.sitkNearestNeighbor)
    same = (moved.data[0] == nearest)[inside].float().mean()
    assert same > (0.999 if interpolation == "nearest" else 0.85)


def test_label_equals_simpleitks_label_interpolator_on_one_label(space):
    codes = phantoms.pair(space).fixed_labels
    one = replace(codes, data=(codes.data > 0).to(torch.int16))
    warp = smooth_warp(space)
    moved = warp.apply(one, interpolation="label").data[0]
    share = warp.apply(replace(one, data=one.data.float())).data[0]
    inside = well_inside(warp, space, one) & ((share - 0.5).abs() > 1e-4)
    assert bool((moved == (share > 0.5))[inside].all())


def test_the_exact_map_carries_the_moving_phantom_onto_the_fixed_one(space):
    pair = phantoms.pair(space, linear=False, noise=0.0)
    warp = Warp(space, torch.eye(4, dtype=torch.float64), displacement(space, pair.phi))
    before = (pair.moving.data - pair.fixed.data).square().mean()
    after = (warp.apply(pair.moving).data - pair.fixed.data).square().mean()
    assert after < 0.35 * before
    torch.testing.assert_close(warp(pair.points), pair.phi(pair.points), atol=1e-3, rtol=0)


def test_then_is_one_map_after_the_other(space):
    first, later = smooth_warp(space, 1), smooth_warp(other_grid(space), 2)
    x = grid_points(space)
    torch.testing.assert_close(first.then(later)(x), later(first(x)), atol=2e-3, rtol=0)


def test_then_takes_linear_maps_on_either_side(space):
    warp, linear = smooth_warp(space), Warp(other_grid(space), turn(space, -15.0))
    x = grid_points(space)
    torch.testing.assert_close(warp.then(linear)(x), linear(warp(x)), atol=1e-3, rtol=0)
    on_grid = Warp(space, linear.affine)
    torch.testing.assert_close(on_grid.then(warp)(x), warp(on_grid(x)), atol=2e-3, rtol=0)
    assert on_grid.then(linear).displacement is None


def test_inverse_undoes_the_map(space):
    warp = smooth_warp(space)
    inverse, error = warp.inverse()
    assert error.shape == space.shape
    assert float(error.max()) < 5e-3
    y = inverse.space.voxel_to_world(
        torch.rand(300, 3, generator=torch.Generator().manual_seed(1)).double()
        * (torch.tensor(space.shape) - 1)
    )
    # between voxels both fields are interpolated, so that they agree to their curvature only
    assert float((warp(inverse(y)) - y).norm(dim=1).mean()) < 0.1
    y = grid_points(inverse.space)
    torch.testing.assert_close(warp(inverse(y)), y, atol=2e-2, rtol=0)


def test_inverse_of_a_linear_map(space):
    warp = Warp(space, turn(space))
    inverse, error = warp.inverse()
    x = grid_points(space)
    torch.testing.assert_close(inverse(warp(x)), x)
    assert inverse.displacement is None
    assert float(error.max()) == 0


def test_a_slice_is_moved_in_its_plane():
    affine = torch.diag(torch.tensor([-2.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    space = Space((40, 36, 1), affine)
    pair = phantoms.pair(space, linear=False, noise=0.0)
    warp = Warp(space, torch.eye(4, dtype=torch.float64), displacement(space, pair.phi))
    before = (pair.moving.data - pair.fixed.data).square().mean()
    for interpolation in ("linear", "cubic"):
        moved = warp.apply(pair.moving, interpolation=interpolation)
        assert moved.data.shape == (1, 40, 36, 1)
        assert (moved.data - pair.fixed.data).square().mean() < 0.35 * before
    inverse, error = warp.inverse()
    assert float(error.max()) < 5e-3
    assert float(inverse.displacement[:, 2].abs().max()) < 1e-4


def test_channels_are_moved_alike(space):
    image = phantoms.pair(space).fixed
    both = Image(torch.cat([image.data, 2 * image.data]), space)
    moved = smooth_warp(space).apply(both).data
    torch.testing.assert_close(moved[1], 2 * moved[0])
