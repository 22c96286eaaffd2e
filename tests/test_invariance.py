"""What must not matter to a registration: the order of voxels, the world's axes, threads."""

import itertools
from dataclasses import replace

import phantoms
import pytest
import torch

from regcli.image import Image, Space, rearrange, transform_points
from regcli.recipe import RegisterRecipe
from regcli.registration.checks import Masks
from regcli.registration.pipeline import register
from regcli.registration.stages import SAME

SMALL = Space((20, 22, 18), torch.diag(torch.tensor([3.0, 2.5, 2.8, 1.0])).double())
DIFFEO = RegisterRecipe(metric=("lncc",), iterations=(20, 10), levels=(2, 1))


def points(space, count=1000):
    draw = torch.Generator().manual_seed(0)
    last = torch.tensor(space.shape) - 1
    return space.voxel_to_world(torch.rand(count, 3, generator=draw).double() * last)


def apart(one, other, x):
    """Largest distance between two results' maps, both ways, mm."""
    forth = (one.warp(x) - other.warp(x)).norm(dim=1).max()
    y = one.warp(x)
    back = (one.inverse(y) - other.inverse(y)).norm(dim=1).max()
    return max(float(forth), float(back))


def stored(image, axes, flips):
    """The same image with its voxels stored in another order."""
    index = torch.zeros(4, 4, dtype=torch.float64)
    index[3, 3] = 1
    for new, old in enumerate(axes):
        index[old, new] = -1 if flips[new] else 1
        index[old, 3] = image.space.shape[old] - 1 if flips[new] else 0
    i, j, k = (image.space.shape[old] for old in axes)
    space = Space((i, j, k), image.space.affine @ index)
    return Image(rearrange(image.data, image.space, space), space)


ORDERS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3))
)


def test_the_order_of_the_voxels_in_the_file_does_not_matter():
    """Each of the 48 orders, of one image or the other."""
    space = Space((11, 13, 10), torch.diag(torch.tensor([5.0, 4.5, 5.2, 1.0])).double())
    pair = phantoms.pair(space)
    wish = replace(DIFFEO, init="header", iterations=(3,), levels=(1,))
    wanted = register(pair.fixed, pair.moving, wish)
    assert float(wanted.warp.displacement.abs().max()) > 0.5
    x = points(space)
    for n, order in enumerate(ORDERS[::2]):
        other = ORDERS[(10 * n + 7) % 48]  # all of those that `order` is not
        fixed, moving = stored(pair.fixed, *order), stored(pair.moving, *other)
        result = register(fixed, moving, wish)
        assert result.warp.space.shape == fixed.space.shape
        assert apart(wanted, result, x) < 1e-3, order


def test_turning_the_world_of_both_turns_the_result():
    pair = phantoms.pair(SMALL)
    turn = torch.from_numpy(phantoms.phantom.turned(37, (0.5, 1.0, -0.7)))
    turn[:3, 3] = torch.tensor([40.0, -25.0, 60.0])
    fixed, moving = (
        Image(image.data, image.space.moved(turn)) for image in (pair.fixed, pair.moving)
    )
    one, other = (register(f, m, DIFFEO) for f, m in ((pair.fixed, pair.moving), (fixed, moving)))
    x = points(SMALL)
    wanted = transform_points(turn, one.warp(x))
    gap = (other.warp(transform_points(turn, x)) - wanted).norm(dim=1).max()
    assert float(gap) < 1e-3


@pytest.mark.parametrize("transform", ["affine", "diffeo", "freeform"])
def test_runs_have_equal_bits_on_any_number_of_threads(transform):
    pair = phantoms.pair(SMALL, contrast="cross")
    wish = RegisterRecipe(transform=transform, init="header")
    one, two = (register(pair.fixed, pair.moving, replace(wish, threads=n)) for n in (1, 2))
    assert torch.equal(one.linear, two.linear)
    assert torch.equal(one.moved.data, two.moved.data)
    if transform != "affine":
        assert torch.equal(one.warp.displacement, two.warp.displacement)
        assert torch.equal(one.inverse.displacement, two.inverse.displacement)


def test_volumes_that_torch_would_share_among_threads_have_equal_bits_too():
    space = Space((38, 40, 36), torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])).double())
    pair = phantoms.pair(space, linear=False)
    one, two = (
        register(pair.fixed, pair.moving, RegisterRecipe(init="none", threads=n)) for n in (1, 2)
    )
    assert one.metrics == SAME
    assert torch.equal(one.warp.displacement, two.warp.displacement)


def test_a_mask_of_ones_changes_nothing():
    pair = phantoms.pair(SMALL)
    ones = torch.ones_like(pair.fixed.data)
    wish = replace(DIFFEO, init="header")
    plain = register(pair.fixed, pair.moving, wish)
    masked = register(pair.fixed, pair.moving, wish, masks=Masks(ones, ones))
    assert apart(plain, masked, points(SMALL)) < 0.02
