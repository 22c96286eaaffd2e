import itertools

import oracles
import pytest
import SimpleITK as sitk
import torch

from regcli.image import Image, Space
from regcli.ops.filter import gaussian
from regcli.registration.linear import typical_extent
from regcli.registration.presets import automatic_levels
from regcli.registration.pyramid import Prepared
from regcli.warp import Warp


def corners(space):
    index = itertools.product(*((0, n - 1) for n in space.shape))
    return space.voxel_to_world(torch.tensor(list(index)))


def bumps(space, seed=0):
    draw = torch.Generator().manual_seed(seed)
    data = gaussian(torch.rand(1, 1, *space.shape, generator=draw), 1.5)
    return Prepared(space, (data - data.min()) / (data.max() - data.min()))


def ramp(space):
    """The world's x, y and z mixed, so that its value tells the place."""
    points = space.voxel_to_world(torch.cartesian_prod(*(torch.arange(n) for n in space.shape)))
    values = points @ torch.tensor([0.01, -0.02, 0.03]).double()
    return values.view(1, 1, *space.shape).float()


def straight(shape, spacing):
    return Space(shape, torch.diag(torch.tensor([*spacing, 1.0])).double())


@pytest.mark.parametrize("spacing_mm", [3.0, 4.5, 8.0, 100.0])
def test_corner_voxels_stay_where_they_are(space, spacing_mm):
    coarse = bumps(space).at(spacing_mm)
    torch.testing.assert_close(corners(coarse.space), corners(space), atol=1e-9, rtol=0)
    assert coarse.data.shape == (1, 1, *coarse.space.shape)
    assert min(coarse.space.shape) >= 4


@pytest.mark.parametrize("spacing_mm", [3.0, 4.5, 8.0])
def test_voxels_become_as_large_as_asked_but_not_larger(space, spacing_mm):
    for old, new in zip(space.spacing, bumps(space).at(spacing_mm).space.spacing, strict=True):
        assert max(old, 0.8 * spacing_mm) <= new + 1e-6 <= max(old, spacing_mm) + 2e-6


def test_only_finer_axes_shrink():
    thick = Prepared(straight((64, 60, 12), (1.0, 1.0, 5.0)), torch.rand(1, 1, 64, 60, 12))
    assert thick.at(2.0).space.shape == (33, 31, 12)
    assert thick.at(4.0).space.shape == (17, 16, 12)
    assert thick.at(10.0).space.shape == (8, 7, 7)
    nearly = Prepared(straight((32, 30, 28), (1.7, 2.0, 1.5)), torch.rand(1, 1, 32, 30, 28))
    assert nearly.at(1.8) is nearly


def test_a_slice_stays_a_slice():
    flat = Prepared(straight((40, 36, 1), (1.0, 1.0, 5.0)), torch.rand(1, 1, 40, 36, 1))
    assert flat.at(4.0).space.shape == (11, 10, 1)
    torch.testing.assert_close(corners(flat.at(4.0).space), corners(flat.space))


def test_the_image_stays_where_it_is(space):
    """What is linear in the world is so on every level, but at the edges: smoothing bends it."""
    coarse = Prepared(space, ramp(space)).at(5.0)
    wanted = ramp(coarse.space)
    inner = (0, 0, *(slice(2, -2),) * 3)
    torch.testing.assert_close(coarse.data[inner], wanted[inner], atol=2e-3, rtol=0)


def test_weights_follow_the_image(space):
    weight = torch.zeros(1, 1, *space.shape)
    weight[:, :, : space.shape[0] // 2] = 1
    coarse = Prepared(space, ramp(space), weight).at(5.0)
    assert coarse.weight.shape == coarse.data.shape
    assert float(coarse.weight.mean()) == pytest.approx(float(weight.mean()), abs=0.1)
    assert (float(coarse.weight.min()), float(coarse.weight.max())) == (0, 1)


def test_onto_resamples_as_itk_does(space):
    """Onto finer voxels nothing is smoothed; onto coarser ones the smoothed image is sampled."""
    moving = bumps(space)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = torch.linalg.matrix_exp(
        torch.tensor([[0.0, -0.2, 0.1], [0.2, 0.0, -0.15], [-0.1, 0.15, 0.0]]).double()
    )
    turn[:3, 3] = space.centre - turn[:3, :3] @ space.centre + torch.tensor([3.0, -2.0, 4.0])
    i, j, k = space.shape
    for shape in ((i + 3, j + 5, k + 2), (i // 3, j // 3, k // 3)):
        onto = space.resize(shape)
        out = moving.onto(onto, turn)
        assert out.space is onto
        change = (torch.linalg.inv(space.affine) @ turn @ onto.affine)[:3, :3].abs().amax(dim=1)
        sigmas = tuple(0.5 * f if f >= 1.25 else 0.0 for f in change.tolist())
        source = Image(gaussian(moving.data, sigmas)[0], space)
        wanted = oracles.resample(source, onto, Warp(onto, turn))
        ones = Image(torch.ones(1, *space.shape), space)
        seen = oracles.resample(ones, onto, Warp(onto, turn), sitk.sitkNearestNeighbor)
        inside = (out.weight[0, 0] > 0) & (seen > 0)
        assert 0.4 < float(inside.float().mean()) < 1
        torch.testing.assert_close(out.data[0, 0][inside], wanted[inside], atol=1e-4, rtol=0)
        assert float((seen != out.weight[0, 0]).float().mean()) < 1e-3  # rounding at the edge


def test_onto_its_own_grid_is_the_image_itself(space):
    moving = bumps(space)
    out = moving.onto(space, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(out.data, moving.data, atol=1e-5, rtol=0)
    assert out.weight is None


def test_onto_carries_the_weight(space):
    weight = (bumps(space, 1).data > 0.5).float()
    moving = Prepared(space, bumps(space).data, weight)
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = space.affine[:3, 0] * 2  # two voxels along the first axis
    out = moving.onto(space, shift)
    torch.testing.assert_close(out.weight[:, :, :-2], weight[:, :, 2:], atol=1e-5, rtol=0)
    assert float(out.weight[:, :, -2:].max()) == 0


def test_automatic_levels_halve_down_to_full_resolution():
    brain = Prepared(straight((160, 192, 160), (1.0, 1.0, 1.0)), torch.empty(0))
    assert automatic_levels(brain) == (8, 4, 2, 1)
    assert automatic_levels(brain, 2) == (2, 1)
    tiny = Prepared(straight((12, 10, 1), (1.0, 1.0, 9.0)), torch.empty(0))
    assert automatic_levels(tiny) == (1,)


def test_the_typical_extent_ignores_a_missing_axis():
    assert typical_extent(bumps(straight((10, 40, 1), (1.0, 1.0, 9.0)))) == pytest.approx(20)
    assert typical_extent(bumps(straight((10, 20, 5), (1.0, 2.0, 4.0)))) == pytest.approx(20)


@pytest.mark.parametrize("change", [1e-13, -1e-13])
def test_a_levels_size_does_not_hang_on_the_last_digit_of_the_voxel_size(change):
    affine = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    space = Space((45, 55, 41), affine * (1 + change))
    image = Prepared(space, torch.rand(1, 1, 45, 55, 41))
    assert image.at(4.0).space.shape == (23, 28, 21)
    cube = Space((160, 160, 160), affine * (1 + change))  # 8 times 20 voxels: three halvings
    assert automatic_levels(Prepared(cube, torch.zeros(1, 1, 1, 1, 1))) == (8, 4, 2, 1)
