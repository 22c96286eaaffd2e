"""Descriptors equal their definition, and do not see how intensities are scaled or inverted."""

import pytest
import torch

from regcli.ops import mind as ops
from regcli.ops.filter import gaussian

SHAPES = [(9, 8, 7), (12, 11, 1), (10, 1, 9), (3, 2, 4)]


def image(shape):
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("distance", [1, 2])
def test_loops_equal_the_reference(shape, distance):
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    found = ops.self_similarity(image(shape), distance, 0.5)
    assert found.shape == (1, 2 * len(axes), *shape)
    wanted = ops._reference(image(shape).double(), distance, 0.5, axes)
    assert found.dtype == wanted.dtype == torch.uint8
    torch.testing.assert_close(found, wanted, atol=1, rtol=0)  # rounding may go either way
    assert float((found != wanted).float().mean()) < 1e-2


def test_a_voxel_inside_is_described_by_its_six_neighbours():
    x = image((11, 12, 13))
    found = ops.self_similarity(x, 2, 0.5)[0, :, 5, 6, 7]
    D = []
    for axis in (2, 3, 4):
        for step in (-2, 2):
            square = (x - x.roll(-step, axis)).square()
            D.append(gaussian(square, 0.5)[0, 0, 5, 6, 7])
    D = torch.stack(D)
    torch.testing.assert_close(found.float(), 255 * torch.exp(-D / D.mean()), atol=0.6, rtol=0)


def test_scale_offset_and_inversion_do_not_matter():
    x = image((9, 8, 7))
    for other in (3 * x + 5, 1 - x):
        found, wanted = (ops.self_similarity(t, 2, 0.5) for t in (other, x))
        torch.testing.assert_close(found, wanted, atol=1, rtol=0)


def test_a_constant_image_is_described_by_ones():
    found = ops.self_similarity(torch.full((1, 1, 5, 6, 7), 0.4), 2, 0.5)
    assert bool((found == ops.ONE).all())
