"""Displacement fields in voxels of their own grid: compose, invert, resize."""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends.choose import backend, triton
from regcli.ops.backends.numba import field as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import as_rows, run
from regcli.ops.sample import Shape, resize, sample

_PASSES = 4  # of starting anew from neighbours, at the few voxels where Newton's steps got stuck


def compose(
    outer: Tensor, inner: Tensor, rows: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Displacement of x -> outer(inner(x)): inner(x) + outer(x + inner(x)).

    Args:
        outer: (B, 3, I, J, K), voxels.
        inner: (B, 3, I, J, K), voxels.
        rows: (I, J) bool, the rows along the last axis where `inner` has changed; None for all.
        out: What this gave before the change: it is overwritten.

    Returns:
        (B, 3, I, J, K), voxels; outside the grid `outer` is that of the nearest edge.
    """
    where = backend(outer, inner)
    if where == "triton":
        return triton("field").compose(outer, inner)
    if where == "reference":
        return inner + sample(outer, inner)
    out = empty(*inner.shape) if out is None else out
    for b in range(inner.shape[0]):
        arrays = (t[b].to(torch.float32).contiguous().numpy() for t in (outer, inner))
        run(loops.compose, inner.shape[2], *arrays, as_rows(rows), out[b].numpy())
    return out


def exponentiate(velocity: Tensor, squarings: int = 7) -> Tensor:
    """Displacement of exp(v), by scaling and squaring.

    Args:
        velocity: (B, 3, I, J, K), voxels.
        squarings: Halvings before composing; 2**squarings Euler steps.

    Returns:
        (B, 3, I, J, K), voxels.

    Source: Arsigny et al., MICCAI 2006.
    """
    where = backend(velocity)
    if where == "triton":
        return triton("field").exponentiate(velocity, squarings)
    u, spare = velocity * 0.5**squarings, None
    u = u.to(torch.float32) if where == "numba" else u
    for _ in range(squarings):
        u, spare = compose(u, u, out=spare), u  # in turns, so that two fields are enough
    return u


def rotate(matrix: Tensor, vectors: Tensor) -> Tensor:
    """matrix v at every voxel.

    Args:
        matrix: (3, 3).
        vectors: (B, 3, I, J, K).

    Returns:
        (B, 3, I, J, K), contiguous.
    """
    if backend(vectors) != "numba" or vectors.dtype != torch.float32:
        return torch.einsum("cd,bdijk->bcijk", matrix.to(vectors), vectors).contiguous()
    out = empty(*vectors.shape)
    m = matrix.to("cpu", torch.float32).contiguous().numpy()
    for b in range(vectors.shape[0]):
        run(loops.turn, vectors.shape[2], m, vectors[b].contiguous().numpy(), out[b].numpy())
    return out


def lengths(vectors: Tensor) -> Tensor:
    """|v| at every voxel: (B, 3, I, J, K) to (B, I, J, K)."""
    if backend(vectors) != "numba":
        return vectors.norm(dim=1)
    out = empty(vectors.shape[0], *vectors.shape[2:])
    for v, length in zip(vectors, out, strict=True):
        run(loops.lengths, v.shape[1], v.to(torch.float32).contiguous().numpy(), length.numpy())
    return out


def capped(vectors: Tensor, longest: float) -> Tensor:
    """Vectors (B, 3, I, J, K), shortened to at most `longest`; in the same memory on the CPU."""
    if backend(vectors) != "numba":
        length = vectors.norm(dim=1, keepdim=True)
        return vectors * (longest / length.clamp(min=longest))
    for part in vectors:
        run(loops.cap, part.shape[1], part.numpy(), np.float32(longest))
    return vectors


def invert(displacement: Tensor, tolerance: float = 1e-3, steps: int = 40) -> tuple[Tensor, Tensor]:
    """v with v(x) + u(x + v(x)) = 0: the displacement of (Id + u)^-1.

    Args:
        displacement: u, (B, 3, I, J, K), voxels.
        tolerance: Stop at a voxel when the residual is shorter than this, voxels.
        steps: Most steps at a voxel.

    Returns:
        v and the residual v(x) + u(x + v(x)), both (B, 3, I, J, K), voxels.
    """
    where = backend(displacement)
    if where == "triton":
        return triton("field").invert(displacement, tolerance, steps)
    if where == "reference":
        return _invert_reference(displacement, tolerance, steps)
    v, residual = (empty(*displacement.shape) for _ in range(2))
    for b in range(displacement.shape[0]):
        u = displacement[b].to(torch.float32).contiguous().numpy()
        out = (v[b].numpy(), residual[b].numpy())
        run(loops.invert, u.shape[1], u, tolerance, steps, *out)
        for _ in range(_PASSES):
            where = (lengths(residual[b : b + 1])[0] > tolerance).nonzero()
            if len(where) == 0:
                break
            found = torch.empty(len(where), 6)
            arrays = (where.numpy(), u, tolerance, steps, *out, found.numpy())
            run(loops.invert_again, len(where), *arrays)
            i, j, k = where.T
            v[b, :, i, j, k], residual[b, :, i, j, k] = found[:, :3].T, found[:, 3:].T
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


def extend_field(displacement: Tensor, start: Shape, shape: Shape) -> Tensor:
    """A field on a larger grid that holds its own; outside, it is that of the nearest edge.

    Args:
        displacement: (1, 3, i, j, k), voxels.
        start: Voxel of the larger grid where its first one lies.
        shape: (I, J, K) of the larger grid.

    Returns:
        (1, 3, I, J, K), voxels.
    """
    pad = []
    for n, first, whole in zip(displacement.shape[:1:-1], start[::-1], shape[::-1], strict=True):
        pad += [first, whole - first - n]
    if not any(pad):
        return displacement
    return torch.nn.functional.pad(displacement, pad, mode="replicate")


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
    out = displacement.new_empty(len(displacement), 3, *shape)
    for c in range(3):  # one by one, for a field is a lot of memory
        ratio = (shape[c] - 1) / (old[c] - 1) if old[c] > 1 else 1.0
        torch.mul(resize(displacement[:, c : c + 1], shape), ratio, out=out[:, c : c + 1])
    return out
