import pytest
import torch

from regcli.ops.backends import reference
from regcli.ops.carry import carry

SHAPES = [(5, 7, 6), (1, 8, 9), (9, 1, 6)]


def inputs(shape, channels=3):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, channels, *shape, generator=generator)
    u = 0.8 * torch.randn(1, 3, *shape, generator=generator)
    for axis, n in enumerate(shape):
        if n == 1:
            u[:, axis] = 0
    return image, u, torch.randn(1, channels, *shape, generator=generator)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_torch(shape):
    image, u, v = inputs(shape)
    found, wanted = [], []
    for out in (found, wanted):
        i, d = image.clone().requires_grad_(), u.clone().requires_grad_()
        if out is found:
            moved = carry(i, d)
        else:
            moved = reference.linear(i, reference.positions(torch.eye(3, 4), d, shape))
        (moved * v).sum().backward()
        out += [moved.detach(), i.grad, d.grad]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_float64_carries_like_float32_and_can_be_derived_twice():
    image, u, _ = inputs((5, 4, 6), 1)
    torch.testing.assert_close(carry(image.double(), u.double()).float(), carry(image, u))
    image, u = image.double().requires_grad_(), u.double().requires_grad_()
    assert torch.autograd.gradgradcheck(carry, (image, u))


def test_what_needs_no_gradient_gets_none():
    image, u, v = inputs((5, 7, 6))
    carry(image, u.requires_grad_()).backward(v)
    assert u.grad is not None
    assert image.grad is None
    carry(image.requires_grad_(), u.detach()).backward(v)
    assert image.grad is not None
