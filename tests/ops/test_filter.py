import numpy as np
import pytest
import torch
from scipy import ndimage

from regcli.ops import filter as ops
from regcli.ops.backends import reference

SHAPES = [(7, 9, 8), (9, 11, 1), (1, 8, 7), (2, 3, 5)]


def volume(shape):
    return torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(sum(shape)))


def gaussian_taps(image, sigma):
    return [
        ops.gaussian_taps(s if n > 1 else 0.0) for s, n in zip(sigma, image.shape[2:], strict=True)
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("replicate", [True, False])
def test_compiled_filter_equals_the_reference_in_float64(shape, replicate):
    image = volume(shape)
    taps = gaussian_taps(image, (0.8, 1.3, 0.5))
    i, j, k = (tap.double() for tap in taps)
    wanted = reference.separable(image.double(), (i, j, k), replicate)
    ours = ops.separable(image, tuple(taps), replicate=replicate)
    torch.testing.assert_close(ours.double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_equals_scipy(shape):
    image, sigma = volume(shape), (0.8, 1.3, 0.0)
    applied = [s if n > 1 else 0 for s, n in zip(sigma, shape, strict=True)]
    radius = [int(np.ceil(3 * s)) for s in applied]
    wanted = ndimage.gaussian_filter(image[1, 2].double(), applied, mode="nearest", radius=radius)
    np.testing.assert_allclose(ops.gaussian(image, sigma)[1, 2], wanted, atol=1e-5)


def test_gaussian_leaves_constants_and_takes_one_number():
    ones = torch.full((1, 1, 6, 7, 5), 3.0)
    torch.testing.assert_close(ops.gaussian(ones, 2.0), ones)
    image = volume((6, 7, 5))
    assert bool((ops.gaussian(image, 1.0) == ops.gaussian(image, (1.0, 1.0, 1.0))).all())
    assert bool((ops.gaussian(image, 0.0) == image).all())


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_box_sum_counts_what_lies_in_the_window(shape, radius):
    image = volume(shape)
    width = [2 * radius + 1 if n > 1 else 1 for n in shape]
    wanted = ndimage.uniform_filter(image[0, 1].double(), width, mode="constant") * np.prod(width)
    np.testing.assert_allclose(ops.box_sum(image, radius)[0, 1], wanted, atol=2e-5)


def test_filters_with_gradient_give_the_same():
    image = volume((6, 7, 5))
    plain = ops.gaussian(image.clone().requires_grad_(), 1.2)
    torch.testing.assert_close(ops.gaussian(image, 1.2), plain.detach(), atol=1e-5, rtol=0)
    assert torch.autograd.gradcheck(
        lambda x: ops.box_sum(x, 1), image[:1, :1, :4, :3, :3].double().requires_grad_()
    )
