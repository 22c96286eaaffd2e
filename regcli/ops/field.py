"""Displacement fields in voxels of their own grid: compose, invert, resize."""

import torch
from torch import Tensor

from regcli.ops.kernels.cpu import field as loops
from regcli.ops.kernels.cpu.slabs import EVERYWHERE, as_bytes, run
from regcli.ops.sample import Shape, resize, sample

_PASSES = 4  # of starting anew from neighbours, at the few voxels where Newton's steps got stuck


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Displacement of x -> outer(inner(x)): inner(x) + outer(x + inner(x)).

    Args:
        outer: (B, 3, I, J, K), voxels.
        inner: (B, 3, I, J, K), voxels.

    Returns:
        (B, 3, I, J, K), voxels; outside the grid `outer` is that of the nearest edge.
    """
    if outer.device.type != "cpu" or outer.requires_grad or inner.requires_grad:
        return inner + sample(outer, inner)
    out = torch.empty_like(inner, dtype=torch.float32)
    for b in range(inner.shape[0]):
        arrays = (t[b].to(torch.float32).contiguous().numpy() for t in (outer, inner))
        run(loops.compose, inner.shape[2], *arrays, EVERYWHERE, out[b].numpy())
    return out


def compose_again(outer: Tensor, inner: Tensor, where: Tensor, composed: Tensor) -> Tensor:
    """`compose` after `inner` has changed at some voxels; only those are computed.

    Args:
        outer: (1, 3, I, J, K), voxels.
        inner: (1, 3, I, J, K), voxels.
        where: (1, 1, I, J, K) bool, where `inner` has changed.
        composed: (1, 3, I, J, K), what it was before; it is overwritten.
    """
    if outer.device.type != "cpu":
        return compose(outer, inner)
    arrays = (outer[0].numpy(), inner[0].numpy(), as_bytes(where), composed[0].numpy())
    run(loops.compose, inner.shape[2], *arrays)
    return composed


def invert(displacement: Tensor, tolerance: float = 1e-3, steps: int = 40) -> tuple[Tensor, Tensor]:
    """v with v(x) + u(x + v(x)) = 0: the displacement of (Id + u)^-1.

    Args:
        displacement: u, (B, 3, I, J, K), voxels.
        tolerance: Stop at a voxel when the residual is shorter than this, voxels.
        steps: Most steps at a voxel.

    Returns:
        v and the residual v(x) + u(x + v(x)), both (B, 3, I, J, K), voxels.
    """
    if displacement.device.type != "cpu":
        return _invert_reference(displacement, tolerance, steps)
    v, residual = (torch.empty_like(displacement, dtype=torch.float32) for _ in range(2))
    for b in range(displacement.shape[0]):
        u = displacement[b].to(torch.float32).contiguous().numpy()
        out = (v[b].numpy(), residual[b].numpy())
        run(loops.invert, u.shape[1], u, tolerance, steps, *out)
        for _ in range(_PASSES):
            if float(residual[b].square().sum(0).max()) <= tolerance**2:
                break
            old = (v[b].numpy().copy(), residual[b].numpy().copy())
            run(loops.invert_again, u.shape[1], u, tolerance, steps, *old, *out)
    return v, residual


def _invert_reference(u: Tensor, tolerance: float, steps: int) -> tuple[Tensor, Tensor]:
    """Damped fixed-point iteration that keeps the best value of every voxel."""
    best = -u
    residual = best + sample(u, best)
    length = torch.ones_like(u[:, :1])
    for step in range(2 * steps):
        trial = best - length * residual
        new = trial + sample(u, trial)
        better = new.norm(dim=1, keepdim=True) < residual.norm(dim=1, keepdim=True)
        best, residual = torch.where(better, trial, best), torch.where(better, new, residual)
        length = torch.where(better, (2 * length).clamp(max=1), length / 2)
        if step % 10 == 9 and float(residual.norm(dim=1).max()) < tolerance:
            break
    return best, residual


def resize_field(displacement: Tensor, shape: Shape) -> Tensor:
    """The same displacement on a grid of another shape with the same corner voxels.

    Args:
        displacement: (B, 3, I, J, K), voxels of its grid.
        shape: (I', J', K').

    Returns:
        (B, 3, I', J', K'), voxels of the new grid.
    """
    old = displacement.shape[2:]
    if tuple(old) == tuple(shape):
        return displacement
    ratio = [(n - 1) / (o - 1) if o > 1 else 1.0 for n, o in zip(shape, old, strict=True)]
    scale = torch.tensor(ratio, device=displacement.device, dtype=displacement.dtype)
    out = resize(displacement, shape) * scale.view(1, 3, 1, 1, 1)
    return out.contiguous()
