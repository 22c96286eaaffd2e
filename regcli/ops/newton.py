"""The Gauss-Newton step of a dense displacement: (A + R + mu) d = -(g + R u)."""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.kernels.cpu import newton as loops
from regcli.ops.kernels.cpu.slabs import run
from regcli.ops.match import Quadratic


def diffuse(u: Tensor, stiffness: Tensor) -> tuple[Tensor, Tensor]:
    """R u and the energy u . R u / 2 of R's quadratic form.

    Args:
        u: (1, 3, I, J, K), voxels.
        stiffness: (3, 3), see `Regularizer.stiffness`.

    Returns:
        (1, 3, I, J, K) and () float64.
    """
    if u.device.type != "cpu":
        out = _diffuse_reference(u, stiffness.to(u))
        return out, 0.5 * (u * out).sum(dtype=torch.float64)
    out, energy = torch.empty_like(u), np.empty(u.shape[2])
    run(loops.diffuse, u.shape[2], u[0].numpy(), stiffness.numpy(), out[0].numpy(), energy)
    return out, torch.tensor(energy.sum(), dtype=torch.float64)


def solve(
    model: Quadratic, u: Tensor, stiffness: Tensor, damping: float, iterations: int
) -> Tensor:
    """d of (A + R + mu) d = -(g + R u), by conjugate gradients with 3 x 3 block preconditioning.

    Args:
        model: g and A.
        u: (1, 3, I, J, K), voxels.
        stiffness: (3, 3), see `Regularizer.stiffness`.
        damping: mu, relative to the mean diagonal of A.
        iterations: Of conjugate gradients.

    Returns:
        (1, 3, I, J, K), voxels.
    """
    mu = damping * model.A[:, [0, 3, 5]].mean() + 1e-9
    diagonal = 2 * stiffness.sum(dim=1)
    if u.device.type != "cpu":
        return _solve_reference(model, u, stiffness.to(u), mu, diagonal.to(u), iterations)
    planes = u.shape[2]
    force = diffuse(u, stiffness)[0]
    r = force.add_(model.g).neg_()[0].numpy()
    d = torch.zeros_like(u)
    x, p, q, z = d[0].numpy(), np.zeros_like(r), np.zeros_like(r), np.empty_like(r)
    a, s, m, diag = model.A[0].numpy(), stiffness.numpy(), float(mu), diagonal.numpy()
    dot = np.empty(planes)
    run(loops.advance, planes, 0.0, p, q, a, diag, m, x, r, z, dot)
    p[:] = z
    rz = dot.sum()
    for iteration in range(iterations):
        run(loops.multiply, planes, p, a, s, m, q, dot)
        curvature = dot.sum()
        if curvature <= 0 or rz <= 0:  # solved to rounding
            break
        run(loops.advance, planes, rz / curvature, p, q, a, diag, m, x, r, z, dot)
        new = dot.sum()
        if iteration < iterations - 1:
            run(loops.turn, planes, z, new / rz, p)
        rz = new
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
    a = model.A[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(1, (3, 3))
    blocks = a + torch.diag(diagonal + mu).view(1, 3, 3, 1, 1, 1)
    inverse = torch.linalg.inv(blocks.movedim((1, 2), (-2, -1))).movedim((-2, -1), (1, 2))

    def apply(matrix: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("bcdijk,bdijk->bcijk", matrix, v)

    r = -(model.g + _diffuse_reference(u, stiffness))
    d = torch.zeros_like(u)
    z = apply(inverse, r)
    p, rz = z, (r * z).sum()
    for _ in range(iterations):
        q = apply(a, p) + _diffuse_reference(p, stiffness) + mu * p
        alpha = rz / (p * q).sum().clamp(min=1e-30)
        d, r = d + alpha * p, r - alpha * q
        z = apply(inverse, r)
        new = (r * z).sum()
        p, rz = z + (new / rz.clamp(min=1e-30)) * p, new
    return d
