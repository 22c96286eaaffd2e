import pytest
import torch

from regcli.ops.smooth import smoothed

SHAPES = [(5, 7, 6), (1, 8, 9), (9, 1, 6)]


def fields(shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(1, 3, *shape, generator=generator, dtype=dtype) for _ in range(2))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_its_own_transpose(shape):
    """<G a, b> = <a, G b>: what its backward pass relies on."""
    a, b = fields(shape)
    one, other = (smoothed(a, 0.6) * b).sum(), (a * smoothed(b, 0.6)).sum()
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_float64(shape):
    a, b = fields(shape)
    found, wanted = a.clone().requires_grad_(), a.double().requires_grad_()
    one, other = smoothed(found, 0.6), smoothed(wanted, 0.6)
    (one * b).sum().backward()
    (other * b.double()).sum().backward()
    torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.grad.double(), wanted.grad, atol=1e-5, rtol=0)


def test_float64_can_be_derived_twice():
    a, _ = fields((4, 3, 5), torch.float64)
    assert torch.autograd.gradgradcheck(lambda x: smoothed(x, 0.8), (a.requires_grad_(),))


def test_constants_stay_and_sigma_zero_changes_nothing():
    ones = torch.full((1, 3, 4, 5, 1), 2.5)
    torch.testing.assert_close(smoothed(ones, 0.6), ones)
    assert smoothed(ones, 0.0) is ones


def test_single_voxels_spread_as_a_gaussian_of_three_taps():
    x = torch.zeros(1, 1, 5, 1, 1)
    x[:, :, 2] = 1
    side = torch.exp(torch.tensor(-0.5 / 0.36))
    wanted = torch.tensor([0, side, 1, side, 0]) / (1 + 2 * side)
    torch.testing.assert_close(smoothed(x, 0.6).flatten(), wanted)
