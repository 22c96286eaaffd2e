"""Half the grid and back: sums, means, interpolation between centres, blending."""

import pytest
import torch
from torch.nn import functional as F

from regcli.ops import twogrid as ops
from regcli.ops.backends import reference
from regcli.ops.field import compose
from regcli.ops.jacobian import least_determinant

SHAPES = [(8, 6, 4), (7, 9, 5), (6, 1, 5), (9, 8, 1), (2, 3, 2)]


def noise(shape, channels=3, seed=0):
    return torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_loops_equal_the_reference(shape):
    fine = noise(shape)
    steps = ops.factors(fine)
    coarse = ops.restrict(fine)
    torch.testing.assert_close(coarse, reference.restrict(fine, steps))
    wanted = reference.prolong(coarse, steps, shape)
    torch.testing.assert_close(ops.prolong(coarse, shape), wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_keep_the_total_and_means_a_constant(shape):
    fine = noise(shape)
    torch.testing.assert_close(ops.restrict(fine).sum((2, 3, 4)), fine.sum((2, 3, 4)))
    same = ops.average(torch.full_like(fine, 3.0))
    torch.testing.assert_close(same, torch.full_like(same, 3.0))
    back = ops.prolong(same, shape)
    torch.testing.assert_close(back, torch.full_like(fine, 3.0))


def test_a_linear_image_comes_back_but_at_the_edges():
    i = torch.arange(12.0).view(1, 1, -1, 1, 1).expand(1, 1, 12, 8, 6)
    back = ops.prolong(ops.average(i.contiguous()), (12, 8, 6))
    torch.testing.assert_close(back[:, :, 1:-1], i[:, :, 1:-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_blending_replaces_a_share(shape):
    fine, smooth = noise(shape), ops.average(noise(shape, seed=1))
    share = ops.average(torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(2)))
    share[share < 0.5] = 0
    steps = ops.factors(fine)
    part, other = (reference.prolong(t, steps, shape) for t in (share, smooth))
    wanted = fine + part * (other - fine)
    torch.testing.assert_close(ops.blend(fine.clone(), share, smooth), wanted)


def test_only_touched_rows_need_to_be_computed_again():
    shape = (13, 14, 11)
    y = F.avg_pool3d(noise(shape, seed=3), 3, stride=1, padding=1)
    delta = F.avg_pool3d(noise(shape, seed=4), 3, stride=1, padding=1)
    before, least = compose(y, delta), least_determinant(compose(y, delta))
    share = torch.zeros(1, 1, 7, 7, 6)
    share[0, 0, 2, 5, 3] = share[0, 0, 6, 0, 0] = 0.7
    changed = ops.blend(delta.clone(), share, torch.zeros_like(ops.restrict(delta)))
    rows = ops.touched_rows(share, shape)
    assert 0 < int(rows.sum()) < rows.numel()
    u = compose(y, changed, rows, before)
    torch.testing.assert_close(u, compose(y, changed), atol=0, rtol=0)
    again = least_determinant(u, rows, least)
    torch.testing.assert_close(again, least_determinant(u), atol=0, rtol=0)
