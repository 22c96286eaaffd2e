"""Displacement fields (B, 3, I, J, K) in voxels of their grid: compose, invert, exponentiate."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from regcli.ops.backends.triton.jacobian import central, determinant
from regcli.ops.backends.triton.launch import BLOCK, blocks, launch, plain, voxels_of
from regcli.ops.backends.triton.sample import cell, trilinear, vectors

_NEWTON_BLOCK = 128  # a program goes on until its slowest voxel is there, so it takes few


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Displacement of x -> outer(inner(x)): inner(x) + outer(x + inner(x)), in one pass.

    Args:
        outer: (B, 3, I, J, K), voxels.
        inner: (B, 3, I, J, K), voxels.

    Returns:
        (B, 3, I, J, K) float32, voxels; outside the grid `outer` is that of the nearest edge.
    """
    outer, inner = plain(outer), plain(inner)
    out = torch.empty_like(inner)
    _compose_into(out, outer, inner)
    return out


def exponentiate(velocity: Tensor, squarings: int = 7) -> Tensor:
    """Displacement of exp(v), by scaling and squaring.

    Args:
        velocity: (B, 3, I, J, K), voxels.
        squarings: Halvings before composing; 2**squarings Euler steps.

    Returns:
        (B, 3, I, J, K) float32, voxels.

    Source: Arsigny et al., MICCAI 2006.
    """
    u = plain(velocity) * 0.5**squarings
    spare = torch.empty_like(u)
    for _ in range(squarings):
        _compose_into(spare, u, u)
        u, spare = spare, u
    return u


def invert(u: Tensor, tolerance: float = 1e-3, steps: int = 40) -> tuple[Tensor, Tensor]:
    """v with v(x) + u(x + v(x)) = 0, by damped Newton steps at every voxel on its own.

    Args:
        u: (B, 3, I, J, K), voxels.
        tolerance: Stop at a voxel when the residual is shorter than this, voxels.
        steps: Most steps at a voxel.

    Returns:
        The best v of every voxel and its residual v(x) + u(x + v(x)), both (B, 3, I, J, K)
        float32, voxels.
    """
    u = plain(u)
    v, residual = torch.empty_like(u), torch.empty_like(u)
    batch, _, *shape = u.shape
    grid = (blocks(u[0, 0].numel(), _NEWTON_BLOCK), batch)
    launch(_invert, grid, u, v, residual, *shape, tolerance**2, steps, _NEWTON_BLOCK)
    return v, residual


def _compose_into(out: Tensor, outer: Tensor, inner: Tensor) -> None:
    batch, _, *shape = inner.shape
    grid = (blocks(inner[0, 0].numel()), batch)
    launch(_compose, grid, outer, inner, out, *shape, BLOCK)


@triton.jit
def displacement_at(u, x, y, z, ni, nj, nk, mask):
    """u (3, I, J, K) at positions, trilinear; the nearest edge outside."""
    p, s0, a = cell(x, ni)
    q, s1, b = cell(y, nj)
    r, s2, c = cell(z, nk)
    n, s0, s1 = (p * nj + q) * nk + r, s0 * nj * nk, s1 * nk
    voxels = (ni * nj * nk).to(tl.int64)
    return (
        trilinear(u, n, s0, s1, s2, a, b, c, mask),
        trilinear(u + voxels, n, s0, s1, s2, a, b, c, mask),
        trilinear(u + 2 * voxels, n, s0, s1, s2, a, b, c, mask),
    )


@triton.jit
def _store(out, n, voxels, x, y, z, mask):
    tl.store(out + n, x, mask=mask)
    tl.store(out + voxels + n, y, mask=mask)
    tl.store(out + 2 * voxels + n, z, mask=mask)


@triton.jit(do_not_specialize=["ni", "nj", "nk"])
def _compose(outer, inner, out, ni, nj, nk, BLOCK: tl.constexpr):
    n, i, j, k = voxels_of(tl.program_id(0), nj, nk, BLOCK)
    mask = n < ni * nj * nk
    voxels = (ni * nj * nk).to(tl.int64)
    first = tl.program_id(1).to(tl.int64) * 3 * voxels
    d0, d1, d2 = vectors(inner + first, n, voxels, mask)
    v0, v1, v2 = displacement_at(outer + first, i + d0, j + d1, k + d2, ni, nj, nk, mask)
    _store(out + first, n, voxels, d0 + v0, d1 + v1, d2 + v2, mask)


@triton.jit
def _nearest(x, n):
    """Voxel of an axis nearest to x, and 1 where x lies on it, else 0: outside, u is constant."""
    at = tl.minimum(tl.maximum(x + 0.5, 0.0), n - 1.0).to(tl.int32)
    return at, tl.where((x >= 0.0) & (x <= n - 1.0), 1.0, 0.0)


@triton.jit
def _newton_step(u, x, y, z, r0, r1, r2, length, ni, nj, nk, mask):
    """The step t with (I + Du) t = r, Du at the voxel nearest to (x, y, z); r where that fails."""
    voxels = (ni * nj * nk).to(tl.int64)
    p, along0 = _nearest(x, ni)
    q, along1 = _nearest(y, nj)
    r, along2 = _nearest(z, nk)
    a00, a01, a02 = central(u, p, q, r, ni, nj, nk, mask)
    a10, a11, a12 = central(u + voxels, p, q, r, ni, nj, nk, mask)
    a20, a21, a22 = central(u + 2 * voxels, p, q, r, ni, nj, nk, mask)
    a00, a10, a20 = 1 + a00 * along0, a10 * along0, a20 * along0
    a01, a11, a21 = a01 * along1, 1 + a11 * along1, a21 * along1
    a02, a12, a22 = a02 * along2, a12 * along2, 1 + a22 * along2
    det = determinant(a00, a01, a02, a10, a11, a12, a20, a21, a22)
    plainly = (tl.abs(det) < 0.01) | (length < 0.3)
    det = tl.where(plainly, 1.0, det)
    t0 = determinant(r0, a01, a02, r1, a11, a12, r2, a21, a22) / det
    t1 = determinant(a00, r0, a02, a10, r1, a12, a20, r2, a22) / det
    t2 = determinant(a00, a01, r0, a10, a11, r1, a20, a21, r2) / det
    # no further than the slopes can be trusted
    longest = tl.maximum(tl.abs(t0), tl.maximum(tl.abs(t1), tl.abs(t2)))
    shrink = 2.0 / tl.maximum(longest, 2.0)
    return (
        tl.where(plainly, r0, t0 * shrink),
        tl.where(plainly, r1, t1 * shrink),
        tl.where(plainly, r2, t2 * shrink),
    )


@triton.jit(do_not_specialize=["ni", "nj", "nk", "limit", "steps"])
def _invert(u, v, residual, ni, nj, nk, limit, steps, BLOCK: tl.constexpr):
    n, i, j, k = voxels_of(tl.program_id(0), nj, nk, BLOCK)
    mask = n < ni * nj * nk
    voxels = (ni * nj * nk).to(tl.int64)
    first = tl.program_id(1).to(tl.int64) * 3 * voxels
    u += first
    d0, d1, d2 = vectors(u, n, voxels, mask)
    v0, v1, v2 = -d0, -d1, -d2
    d0, d1, d2 = displacement_at(u, i + v0, j + v1, k + v2, ni, nj, nk, mask)
    r0, r1, r2 = v0 + d0, v1 + d1, v2 + d2
    best = r0 * r0 + r1 * r1 + r2 * r2
    length = tl.full([BLOCK], 1.0, tl.float32)
    step = 0
    going = mask & (best > limit)
    left = tl.sum(going.to(tl.int32), axis=0)
    while (step < steps) & (left != 0):
        x, y, z = i + v0, j + v1, k + v2
        t0, t1, t2 = _newton_step(u, x, y, z, r0, r1, r2, length, ni, nj, nk, going)
        c0, c1, c2 = v0 - length * t0, v1 - length * t1, v2 - length * t2
        d0, d1, d2 = displacement_at(u, i + c0, j + c1, k + c2, ni, nj, nk, going)
        n0, n1, n2 = c0 + d0, c1 + d1, c2 + d2
        size = n0 * n0 + n1 * n1 + n2 * n2
        better = going & (size < best)
        v0, v1, v2 = tl.where(better, c0, v0), tl.where(better, c1, v1), tl.where(better, c2, v2)
        r0, r1, r2 = tl.where(better, n0, r0), tl.where(better, n1, r1), tl.where(better, n2, r2)
        best = tl.where(better, size, best)
        length = tl.where(better, tl.minimum(2.0 * length, 1.0), 0.5 * length)
        going = going & (best > limit) & (length >= 1e-3)
        left = tl.sum(going.to(tl.int32), axis=0)
        step += 1
    _store(v + first, n, voxels, v0, v1, v2, mask)
    _store(residual + first, n, voxels, r0, r1, r2, mask)
