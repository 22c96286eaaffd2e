"""What every network promises."""

import pytest
import torch

from regcli import registry
from regcli.nets.base import fitting

SHAPES = [(17, 33, 17), (33, 17, 1)]


@pytest.fixture(params=registry.NETWORKS)
def net(request):
    torch.manual_seed(0)
    target, options = registry.resolve(registry.NETWORKS, request.param)
    return target(5, **options).eval()


def image(shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 1, *shape, generator=draw)
    x[:, :, :2] = 0
    return x


@pytest.mark.parametrize("shape", SHAPES)
def test_levels_are_every_fourth_second_and_single_voxel(net, shape):
    x = image(shape)
    with torch.no_grad():
        levels = net(x, x > 0)
    for level, step in zip(levels, (4, 2, 1), strict=True):
        assert level.shape == (1, net.channels, *(-(-n // step) for n in shape))
        assert torch.isfinite(level).all()


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_mirrored_network_sees_a_mirrored_image_in_a_mirror(net, axis):
    """A voxel centre that is off by half a voxel would move to the other side."""
    x = image((17, 33, 17))
    with torch.no_grad():
        wanted = [level.flip(axis) for level in net(x, x > 0)]
        for parameter in net.parameters():
            if parameter.ndim == 5:
                parameter.copy_(parameter.flip(axis))
        found = net(x.flip(axis), x.flip(axis) > 0)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_neither_place_nor_background_matters(net):
    """A slice of a brain moved by whole voxels of the coarsest grid, or in a larger grid."""
    x = torch.zeros(1, 1, 161, 145, 1)
    x[:, :, 64:81, 64:81] = image((17, 17, 1), seed=1)
    larger = torch.nn.functional.pad(x, (0, 0, 16, 0, 0, 32))
    with torch.no_grad():
        levels, shifted, padded = (net(y, y > 0) for y in (x, x.roll(16, 2), larger))
    for level, moved, wide, step in zip(levels, shifted, padded, (4, 2, 1), strict=True):
        before, after = (slice(n // step, (n + 16) // step + 1) for n in (64, 80))
        torch.testing.assert_close(moved[:, :, after], level[:, :, before], atol=1e-4, rtol=1e-3)
        inside = wide[:, :, : level.shape[2], 16 // step :]
        torch.testing.assert_close(inside, level, atol=5e-3, rtol=0)  # zeros outside: 1


def test_every_parameter_learns(net):
    x = image((33, 33, 33))
    sum(level.square().sum() for level in net(x, x > 0)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_an_image_that_shows_nothing_gives_finite_numbers(net):
    x = torch.zeros(1, 1, 17, 17, 17)
    with torch.no_grad():
        assert all(torch.isfinite(level).all() for level in net(x, x > 0))


@pytest.mark.parametrize(("n", "size"), [(1, 1), (2, 17), (17, 17), (18, 33), (80, 81)])
def test_sizes_that_fit_are_multiples_and_one_more(n, size):
    assert fitting(n, 16) == size


@pytest.mark.parametrize("corner", [(0, 0, 0), (1, 0, 1), (1, 1, 1)])
def test_the_finest_level_can_be_asked_about_every_second_voxel(net, corner):
    x = image((33, 17, 17))
    i, j, k = corner
    with torch.no_grad():
        whole, some = net(x, x > 0), net(x, x > 0, corner)
    for a, b in zip(whole[:2], some[:2], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(some[2], whole[2][..., i::2, j::2, k::2], atol=1e-4, rtol=1e-3)


def test_halves_of_floats_give_about_the_same(net):
    x = image((33, 33, 17))
    with torch.no_grad():
        wanted, found = net(x, x > 0), net(x.to(torch.bfloat16), x > 0)
    for a, b in zip(wanted, found, strict=True):
        assert b.dtype == torch.bfloat16
        assert float((a - b).square().mean().sqrt() / a.std()) < 0.1
