"""Derivatives in closed form against autograd in float64."""

import pytest
import torch

from regcli.ops.backends import reference
from regcli.ops.match import exact_squares
from regcli.solve.curvature import derivative, force_and_blocks, inverse, residual_blocks, times

SHAPES = [(5, 6, 4), (6, 5, 1)]
EYE = torch.eye(3, 4, dtype=torch.float64)


def draw(*shape, seed=0):
    """Random, float64; its graph makes `sample` keep that."""
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.requires_grad_()


def slope(moved, points, axis):
    return torch.autograd.grad(moved.sum(), points, create_graph=True)[0][:, axis]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (2, 1)])
def test_derivatives_are_those_of_linear_interpolation(shape, axes):
    image, u = draw(1, *shape), 3 * draw(3, *shape, seed=1)  # many leave the volume
    points = reference.positions(EYE, u, shape)
    moved = reference.linear(image, points)
    for axis in axes:
        moved = slope(moved, points, axis)
    torch.testing.assert_close(derivative(image, u, axes)[:, 0], moved[:1].view(1, *shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_force_and_blocks_are_those_of_the_compiled_loop(shape):
    M, F, u = draw(4, *shape), draw(4, *shape, seed=1), draw(3, *shape, seed=2)
    weight = draw(1, *shape, seed=3).abs()
    g, A = force_and_blocks(M, F, u, weight, 0.7)
    single = (t.detach().float() for t in (M, F, u, weight))
    model = exact_squares(*single, 0.7)
    torch.testing.assert_close(g.float(), model.g, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(A.float(), model.A, atol=1e-4, rtol=1e-4)


def test_force_and_blocks_can_be_differentiated():
    shape = (3, 3, 2)
    M, F = draw(2, *shape), draw(2, *shape, seed=1)
    u = (0.5 + 0.2 * draw(3, *shape, seed=2).tanh()).detach().requires_grad_()
    weight = draw(1, *shape, seed=3).abs().detach()
    torch.autograd.gradcheck(lambda *x: force_and_blocks(*x, weight, 0.7), (M, F, u))


@pytest.mark.parametrize("shape", SHAPES)
def test_both_parts_together_are_the_hessian(shape):
    M, F, u = draw(3, *shape), draw(3, *shape, seed=1), draw(3, *shape, seed=2)
    weight = draw(1, *shape, seed=3).abs()
    A = force_and_blocks(M, F, u, weight, 0.7)[1]
    S = residual_blocks(M, F, u, weight, 0.7)
    r = reference.linear(M, reference.positions(EYE, u, shape)) - F
    force = torch.autograd.grad(0.35 * (weight * r.square()).sum(), u, create_graph=True)[0]
    p = draw(3, *shape, seed=4).detach()
    product = torch.autograd.grad((force * p).sum(), u)[0]
    torch.testing.assert_close(times(A + S, p), product)
    assert times(S, p).norm() > 0.1 * product.norm()


def test_inverse_undoes_blocks_and_the_diagonal_of_the_stiffness():
    root = draw(3, 3, 4, 5, 1).detach()[0]
    A = torch.einsum("acijk,bcijk->abijk", root, root)
    stiffness = torch.arange(1.0, 10.0, dtype=torch.float64).view(3, 3)
    blocks = A.flatten(0, 1)[None, [0, 1, 2, 4, 5, 8]]
    p = draw(3, 4, 5, 1, seed=1).detach()
    diagonal = 2 * stiffness.sum(dim=1).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(
        times(inverse(blocks, stiffness), times(blocks, p) + diagonal * p), p
    )
