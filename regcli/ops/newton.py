"""The Gauss-Newton step of a dense displacement: (A + R + mu) d = -(g + R u)."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends.choose import backend
from regcli.ops.backends.numba import newton as loops
from regcli.ops.backends.numba import twogrid
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run
from regcli.ops.match import Quadratic
from regcli.ops.totals import total
from regcli.ops.twogrid import factors, prolong, restrict
from regcli.ops.volume import divergence_onto

_ROUNDING = 1e-14  # of the squared residual
_SWEEPS, _OMEGA = 2, 0.8  # of Jacobi on the fine grid; undamped, it lets checkerboards grow


def diffuse(u: Tensor, stiffness: Tensor) -> tuple[Tensor, Tensor]:
    """R u and the energy u . R u / 2 of R's quadratic form.

    Args:
        u: (1, 3, I, J, K), voxels.
        stiffness: (3, 3), see `Diffusion.stiffness`.

    Returns:
        (1, 3, I, J, K) and () float64.
    """
    if backend(u) != "numba":
        out = _diffuse_reference(u, stiffness.to(u))
        return out, 0.5 * (u * out).sum(dtype=torch.float64)
    out, energy = empty(*u.shape), np.empty(u.shape[2])
    run(loops.diffuse, u.shape[2], u[0].numpy(), stiffness.numpy(), out[0].numpy(), energy)
    return out, torch.tensor(energy.sum(), dtype=torch.float64)


def solve(
    model: Quadratic,
    u: Tensor,
    stiffness: Tensor,
    damping: float,
    iterations: int,
    bulk: float = 0.0,
) -> Tensor:
    """d of (A + R + mu) d = -(g + R u), by conjugate gradients with 3 x 3 block preconditioning.

    Args:
        model: g and A.
        u: (1, 3, I, J, K), voxels.
        stiffness: (3, 3), see `Diffusion.stiffness`.
        damping: mu, relative to the mean diagonal of A.
        iterations: Of conjugate gradients.
        bulk: Weight of the squared divergence in R, see `divergence_onto`; on the CPU.

    Returns:
        (1, 3, I, J, K), voxels.
    """
    mu, diagonal = damping_of(model, damping), inner_diagonal(stiffness, bulk)
    if backend(u) != "numba":
        return _solve_reference(model, u, stiffness.to(u), mu, diagonal.to(u), iterations)
    planes = u.shape[2]
    force = elastic_force(u, stiffness, bulk)
    r = force.add_(model.g).neg_()[0].numpy()
    d, step, image, other = (empty(*u.shape).zero_() for _ in range(4))
    x, p, q, z = (t[0].numpy() for t in (d, step, image, other))
    a, s, m, diag = model.A[0].numpy(), stiffness.numpy(), np.float32(mu), diagonal.numpy()
    dot = np.empty(planes)
    run(loops.advance, planes, np.float32(0), p, q, a, diag, m, x, r, z, dot)
    p[:] = z
    first = rz = dot.sum()
    for iteration in range(iterations):
        run(loops.multiply, planes, p, a, s, m, q, dot)
        curvature = dot.sum()
        if bulk:
            curvature += float(divergence_onto(image, step, bulk))
        if curvature <= 0 or rz <= _ROUNDING * first:  # solved as far as float32 goes
            break
        run(loops.advance, planes, np.float32(rz / curvature), p, q, a, diag, m, x, r, z, dot)
        new = dot.sum()
        if iteration < iterations - 1:
            run(loops.turn, planes, z, np.float32(new / rz), p)
        rz = new
    return d


def two_grid(
    model: Quadratic,
    u: Tensor,
    stiffness: Tensor,
    damping: float,
    iterations: int,
    bulk: float = 0.0,
) -> Tensor:
    """The d of `solve`, nearly, for a sixth of the work: what is smooth in it, on half the grid.

    Conjugate gradients on the grid with half as many voxels along each axis find the smooth part;
    two damped Jacobi steps on the fine grid add what only it can show.

    Args:
        model: g and A.
        u: (1, 3, I, J, K), voxels.
        stiffness: (3, 3), see `Diffusion.stiffness`.
        damping: mu, relative to the mean diagonal of A.
        iterations: Of conjugate gradients.
        bulk: Weight of the squared divergence in R, see `divergence_onto`; of volumes on the CPU.

    Returns:
        (1, 3, I, J, K), voxels.
    """
    if u.shape[4] == 1 < u.shape[3]:  # rows of one voxel are slow: the same slice, as one plane
        flat = (t.view(1, -1, 1, *u.shape[2:4]) for t in (model.g, model.A))
        turned = Quadratic(model.value, *flat), u.view(1, 3, 1, *u.shape[2:4])
        return two_grid(*turned, stiffness[:, [2, 0, 1]], damping, iterations).view(u.shape)
    g = restrict(elastic_force(u, stiffness, bulk)).add_(restrict(model.g))
    half = Quadratic(model.value, g, restrict(model.A))
    # a coarse difference is spread over two fine ones, in each of the rows of fine voxels
    share = math.prod(factors(u)) / 4
    d = solve(half, 0 * half.g, stiffness * share, damping, iterations, bulk * share)
    i, j, k = u.shape[2:]
    d = prolong(d, (i, j, k))
    mu, diagonal = damping_of(model, damping), inner_diagonal(stiffness, bulk)
    if backend(u) != "numba":
        return _relax_reference(d, u, model, stiffness.to(u), mu, diagonal.to(u))
    numbers = (stiffness.numpy(), diagonal.numpy(), np.float32(mu), np.float32(_OMEGA))
    still, force = model.g, model.g
    if bulk:  # the loop of a sweep knows springs only
        still, force = empty(*d.shape), empty(*d.shape)
        divergence_onto(still, u, bulk, model.g)
    for _ in range(_SWEEPS):
        out = empty(*d.shape)
        if bulk:
            divergence_onto(force, d, bulk, still)
        arrays = (d[0].numpy(), u[0].numpy(), force[0].numpy(), model.A[0].numpy())
        run(twogrid.relax, i, *arrays, *numbers, out[0].numpy())
        d = out
    return d


def elastic_force(u: Tensor, stiffness: Tensor, bulk: float) -> Tensor:
    """R u of springs and, on the CPU, of the squared divergence: (1, 3, I, J, K)."""
    out = diffuse(u, stiffness)[0]
    if bulk:
        divergence_onto(out, u, bulk)
    return out


def inner_diagonal(stiffness: Tensor, bulk: float) -> Tensor:
    """(3,): half of R's largest eigenvalues, of the springs those that inner voxels have."""
    return 2 * stiffness.sum(dim=1) + 2 * bulk


def damping_of(model: Quadratic, damping: float) -> Tensor:
    """mu of a share of the mean diagonal of A: () float32."""
    trace = total(model.A[:, 0]) + total(model.A[:, 3]) + total(model.A[:, 5])
    return (damping * trace / (3 * model.A[:, 0].numel()) + 1e-9).to(model.A)


def conjugate_gradients(
    multiply: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    r: Tensor,
    iterations: int,
) -> Tensor:
    """d of H d = r, nearly; a GPU is not waited for.

    Args:
        multiply: p -> H p, symmetric and positive.
        precondition: r -> z, about H^-1 r.
        r: The right side.
        iterations: Of the method.
    """
    d, z = torch.zeros_like(r), precondition(r)
    p, rz = z, (r * z).sum()
    for _ in range(iterations):
        q = multiply(p)
        alpha = rz / (p * q).sum().clamp(min=1e-30)
        d, r = d + alpha * p, r - alpha * q
        z = precondition(r)
        new = (r * z).sum()
        p, rz = z + (new / rz.clamp(min=1e-30)) * p, new
    return d


def product(A: Tensor, d: Tensor) -> Tensor:
    """A d at every voxel: (1, 6, I, J, K) and (1, 3, I, J, K) to (1, 3, I, J, K)."""
    rows = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
    return torch.stack([(A[:, row] * d).sum(1) for row in map(list, rows)], dim=1)


def _blocks(A: Tensor, mu: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
    """A (1, 6, I, J, K) as matrices (1, 3, 3, I, J, K), and the inverses of A + diagonal + mu."""
    a = A[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(1, (3, 3))
    blocks = a + torch.diag(diagonal + mu).view(1, 3, 3, 1, 1, 1)
    return a, torch.linalg.inv(blocks.movedim((1, 2), (-2, -1))).movedim((-2, -1), (1, 2))


def _apply(matrix: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bcdijk,bdijk->bcijk", matrix, v)


def _relax_reference(
    d: Tensor, u: Tensor, model: Quadratic, stiffness: Tensor, mu: Tensor, diagonal: Tensor
) -> Tensor:
    a, inverse = _blocks(model.A, mu, diagonal)
    g = model.g + _diffuse_reference(u, stiffness)
    for _ in range(_SWEEPS):
        r = g + _apply(a, d) + _diffuse_reference(d, stiffness) + mu * d
        d = d - _OMEGA * _apply(inverse, r)
    return d


def _diffuse_reference(u: Tensor, stiffness: Tensor) -> Tensor:
    out = torch.zeros_like(u)
    for axis in range(3):
        n = u.shape[2 + axis]
        if n == 1:
            continue
        edge = stiffness[:, axis].view(1, 3, 1, 1, 1) * u.diff(dim=2 + axis)
        out.narrow(2 + axis, 1, n - 1).add_(edge)
        out.narrow(2 + axis, 0, n - 1).sub_(edge)
    return out


def _solve_reference(
    model: Quadratic, u: Tensor, stiffness: Tensor, mu: Tensor, diagonal: Tensor, iterations: int
) -> Tensor:
    a, inverse = _blocks(model.A, mu, diagonal)

    def multiply(p: Tensor) -> Tensor:
        return _apply(a, p) + _diffuse_reference(p, stiffness) + mu * p

    r = -(model.g + _diffuse_reference(u, stiffness))
    return conjugate_gradients(multiply, lambda r: _apply(inverse, r), r, iterations)
