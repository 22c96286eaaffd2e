import itertools

import numpy as np
import pytest
import torch

from regcli.ops import jacobian
from regcli.ops.backends import reference

SHAPES = [(6, 5, 7), (4, 3, 2), (2, 2, 2)]
FLAT_SHAPES = [(7, 6, 1), (1, 5, 4), (5, 1, 6)]


def field(shape, size=0.8, batch=1):
    draw = torch.Generator().manual_seed(sum(shape))
    u = size * torch.randn(batch, 3, *shape, generator=draw)
    for axis, n in enumerate(shape):
        u[:, axis] *= n > 1  # a 2-D map stays in its plane
    return u


def place(u, voxel):
    return np.array(voxel, float) + u[(slice(None), *voxel)]


def corner_volume(u, corner, others):
    """Signed volume of a simplex after the map, 1 for three unit edges along +i, +j, +k."""
    edges = np.array([place(u, other) - place(u, corner) for other in others])
    rest = np.array([np.subtract(other, corner) for other in others], float)
    return np.linalg.det(edges) / np.linalg.det(rest)


def brute_force(u):
    """Least determinant and folded volume at every voxel, from the tetrahedra of every cube."""
    shape = u.shape[1:]
    least, folded = np.full(shape, np.inf), np.zeros(shape)
    for cube in itertools.product(*(range(n - 1) for n in shape)):
        corners = [tuple(np.add(cube, c)) for c in itertools.product((0, 1), repeat=3)]
        for corner in corners:
            others = [c for c in corners if np.abs(np.subtract(c, corner)).sum() == 1]
            det = corner_volume(u, corner, others)
            least[corner] = min(least[corner], det)
            folded[corner] += max(-det, 0) / 6
        for parity in (0, 1):
            first, *others = [c for c in corners if np.subtract(c, cube).sum() % 2 == parity]
            det = corner_volume(u, first, others)
            least[cube] = min(least[cube], det)
            folded[cube] += max(-det, 0) / 3
    return least, folded / 2  # every cube is cut in two ways


def brute_force_2d(u, flat):
    """The same from the four triangles of every square: each square has two diagonals."""
    u = np.delete(np.take(u, 0, axis=flat + 1), flat, axis=0)  # (2, I, J)
    shape = u.shape[1:]
    least, folded = np.full(shape, np.inf), np.zeros(shape)
    for square in itertools.product(*(range(n - 1) for n in shape)):
        corners = [tuple(np.add(square, c)) for c in itertools.product((0, 1), repeat=2)]
        for corner in corners:
            others = [c for c in corners if np.abs(np.subtract(c, corner)).sum() == 1]
            det = corner_volume(u, corner, others)
            least[corner] = min(least[corner], det)
            folded[corner] += max(-det, 0) / 2
    return np.expand_dims(least, flat), np.expand_dims(folded / 2, flat)


@pytest.mark.parametrize("shape", SHAPES)
def test_digital_determinants_are_those_of_the_tetrahedra(shape):
    u = field(shape, batch=2)
    least, folded = jacobian.digital_determinants(u)
    for b in range(2):
        wanted_least, wanted_folded = brute_force(u[b].double().numpy())
        np.testing.assert_allclose(least[b], wanted_least, atol=1e-5)
        np.testing.assert_allclose(folded[b], wanted_folded, atol=1e-5)
        assert wanted_folded.sum() > 0


@pytest.mark.parametrize("shape", FLAT_SHAPES)
def test_least_determinants_in_2d_are_those_of_the_triangles(shape):
    u = field(shape)
    least, _ = jacobian.digital_determinants(u)
    wanted, _ = brute_force_2d(u[0].double().numpy(), shape.index(1))
    np.testing.assert_allclose(least[0], wanted, atol=1e-5)


@pytest.mark.parametrize("shape", FLAT_SHAPES)
def test_folded_area_in_2d_is_that_of_the_triangles(shape):
    u = field(shape)
    _, folded = jacobian.digital_determinants(u)
    _, wanted = brute_force_2d(u[0].double().numpy(), shape.index(1))
    np.testing.assert_allclose(folded[0], wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [*SHAPES, *FLAT_SHAPES, (9, 8, 1)])
def test_the_fast_least_determinant_is_the_same(shape):
    u = field(shape, batch=2)
    wanted, _ = jacobian.digital_determinants(u)
    torch.testing.assert_close(jacobian.least_determinant(u), wanted, atol=1e-5, rtol=0)


def test_a_map_turned_inside_out_folds_all_of_its_volume():
    u = torch.zeros(1, 3, 5, 6, 7)
    u[0, 0] = -2 * torch.arange(5.0)[:, None, None]
    least, folded = jacobian.digital_determinants(u)
    assert bool((least == -1).all())
    assert float(folded.sum()) == pytest.approx(4 * 5 * 6)


def test_digital_determinants_see_folds_that_central_differences_miss():
    u = torch.zeros(1, 3, 9, 8, 8)
    u[0, 0, 4] = 1.2  # one plane jumps past the next, its neighbours stay
    assert float(jacobian.jacobian_determinant(u).min()) > 0.3
    assert float(jacobian.digital_determinants(u)[0].min()) == pytest.approx(-0.2)


@pytest.mark.parametrize("shape", SHAPES + FLAT_SHAPES)
def test_compiled_determinants_equal_the_reference_in_float64(shape):
    u = field(shape, batch=2)
    wanted = reference.determinant(reference.jacobian(u.double()))
    torch.testing.assert_close(jacobian.jacobian_determinant(u).double(), wanted, atol=1e-5, rtol=0)


def test_reference_gradient_equals_numpy():
    u = field((6, 5, 7)).double()
    wanted = np.stack(np.gradient(u.numpy(), axis=(2, 3, 4)), axis=2)
    np.testing.assert_allclose(reference.gradient(u), wanted, atol=1e-12)


def test_determinants_of_a_field_with_gradient_pass_gradcheck():
    u = field((4, 3, 5)).double().requires_grad_()
    assert torch.autograd.gradcheck(jacobian.jacobian_determinant, u)
