"""Determinants of displacement fields in voxels, and folds as `numba.jacobian` has them."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from regcli.ops.backends.triton.launch import BLOCK, blocks, launch, plain, voxels_of

_MOST = tl.constexpr(1e30)


def determinants(u: Tensor) -> Tensor:
    """det(I + Du), central differences; one-sided at edges, none on axes of length 1.

    Args:
        u: (B, 3, I, J, K), voxels.

    Returns:
        (B, I, J, K) float32.
    """
    return _each(_determinants, u)


def least(u: Tensor) -> Tensor:
    """The least of the ten finite-difference determinants that exist at each voxel.

    Args:
        u: (B, 3, I, J, K), voxels.

    Returns:
        (B, I, J, K) float32.

    Source: Liu et al., On Finite Difference Jacobian Computation in Deformable Image
    Registration, IJCV 2024.
    """
    return _each(_least, u)


def _each(kernel: Any, u: Tensor) -> Tensor:
    u = plain(u)
    batch, _, *shape = u.shape
    out = torch.empty(batch, *shape, dtype=torch.float32, device=u.device)
    launch(kernel, (blocks(out[0].numel()), batch), u, out, *shape, BLOCK)
    return out


@triton.jit
def determinant(a00, a01, a02, a10, a11, a12, a20, a21, a22):
    """Determinants of 3 x 3 matrices."""
    return (
        a00 * (a11 * a22 - a12 * a21)
        - a01 * (a10 * a22 - a12 * a20)
        + a02 * (a10 * a21 - a11 * a20)
    )


@triton.jit
def span(i, n):
    """Steps to the voxels behind and ahead of voxel i of n, and one over their distance."""
    behind = tl.where(i > 0, -1, 0)
    ahead = tl.where(i + 1 < n, 1, 0)
    return behind, ahead, 1.0 / tl.maximum(ahead - behind, 1).to(tl.float32)


@triton.jit
def _slope(u, n, behind, ahead, share, mask):
    upper = tl.load(u + (n + ahead), mask=mask, other=0.0)
    return share * (upper - tl.load(u + (n + behind), mask=mask, other=0.0))


@triton.jit
def central(u, i, j, k, ni, nj, nk, mask):
    """Central differences of one component u (I, J, K) at voxels (i, j, k), along its axes."""
    n = (i * nj + j) * nk + k
    i0, i1, wi = span(i, ni)
    j0, j1, wj = span(j, nj)
    k0, k1, wk = span(k, nk)
    return (
        _slope(u, n, i0 * nj * nk, i1 * nj * nk, wi, mask),
        _slope(u, n, j0 * nk, j1 * nk, wj, mask),
        _slope(u, n, k0, k1, wk, mask),
    )


@triton.jit(do_not_specialize=["ni", "nj", "nk"])
def _determinants(u, out, ni, nj, nk, BLOCK: tl.constexpr):
    n, i, j, k = voxels_of(tl.program_id(0), nj, nk, BLOCK)
    mask = n < ni * nj * nk
    voxels, batch = (ni * nj * nk).to(tl.int64), tl.program_id(1).to(tl.int64)
    u += batch * 3 * voxels
    a00, a01, a02 = central(u, i, j, k, ni, nj, nk, mask)
    a10, a11, a12 = central(u + voxels, i, j, k, ni, nj, nk, mask)
    a20, a21, a22 = central(u + 2 * voxels, i, j, k, ni, nj, nk, mask)
    det = determinant(1 + a00, a01, a02, a10, 1 + a11, a12, a20, a21, 1 + a22)
    tl.store(out + batch * voxels + n, det, mask=mask)


@triton.jit
def _sides(u, n, here, at, length, stride, unit, mask):
    """Differences of u to the voxels ahead and behind along an axis, plus `unit`.

    At an edge, the one that exists stands for both: the least determinant stays the same.
    """
    has_ahead, has_behind = at + 1 < length, at > 0
    ahead = tl.load(u + (n + stride), mask=mask & has_ahead, other=0.0) - here
    behind = here - tl.load(u + (n - stride), mask=mask & has_behind, other=0.0)
    first = tl.where(has_ahead, ahead, tl.where(has_behind, behind, 0.0))
    second = tl.where(has_behind, behind, first)
    return first + unit, second + unit


@triton.jit
def _both(c0, c1, c2, f0, f1, f2, b0, b1, b2):
    """The lesser of two determinants whose first two columns have the cross product c."""
    return tl.minimum(c0 * f0 + c1 * f1 + c2 * f2, c0 * b0 + c1 * b1 + c2 * b2)


@triton.jit
def _pair(p0, p1, p2, q0, q1, q2, f0, f1, f2, b0, b1, b2):
    """The lesser of the two determinants of columns p, q and either f or b."""
    c0, c1, c2 = p1 * q2 - p2 * q1, p2 * q0 - p0 * q2, p0 * q1 - p1 * q0
    return _both(c0, c1, c2, f0, f1, f2, b0, b1, b2)


@triton.jit
def _cube(u, n, nj, nk, mask):
    """One component at the corners of the forward cube other than its first."""
    plane = nj * nk
    return (
        tl.load(u + (n + 1), mask=mask, other=0.0),
        tl.load(u + (n + nk), mask=mask, other=0.0),
        tl.load(u + (n + nk + 1), mask=mask, other=0.0),
        tl.load(u + (n + plane), mask=mask, other=0.0),
        tl.load(u + (n + plane + 1), mask=mask, other=0.0),
        tl.load(u + (n + plane + nk), mask=mask, other=0.0),
        tl.load(u + (n + plane + nk + 1), mask=mask, other=0.0),
    )


@triton.jit
def _middle(u, voxels, n, x, y, z, nj, nk, inner):
    """The lesser of the determinants of the two tetrahedra in the middle of the forward cube."""
    x001, x010, x011, x100, x101, x110, x111 = _cube(u, n, nj, nk, inner)
    y001, y010, y011, y100, y101, y110, y111 = _cube(u + voxels, n, nj, nk, inner)
    z001, z010, z011, z100, z101, z110, z111 = _cube(u + 2 * voxels, n, nj, nk, inner)
    one_way = -determinant(
        1 + x110 - x, 1 + x101 - x, x011 - x,
        1 + y110 - y, y101 - y, 1 + y011 - y,
        z110 - z, 1 + z101 - z, 1 + z011 - z,
    )  # fmt: skip
    other_way = determinant(
        x001 - x111 - 1, x010 - x111 - 1, x100 - x111,
        y001 - y111 - 1, y010 - y111, y100 - y111 - 1,
        z001 - z111, z010 - z111 - 1, z100 - z111 - 1,
    )  # fmt: skip
    return tl.where(inner, 0.5 * tl.minimum(one_way, other_way), _MOST)


@triton.jit(do_not_specialize=["ni", "nj", "nk"])
def _least(u, out, ni, nj, nk, BLOCK: tl.constexpr):
    n, i, j, k = voxels_of(tl.program_id(0), nj, nk, BLOCK)
    mask = n < ni * nj * nk
    voxels, batch = (ni * nj * nk).to(tl.int64), tl.program_id(1).to(tl.int64)
    u += batch * 3 * voxels
    v, w = u + voxels, u + 2 * voxels
    x = tl.load(u + n, mask=mask, other=0.0)
    y = tl.load(v + n, mask=mask, other=0.0)
    z = tl.load(w + n, mask=mask, other=0.0)
    # p, q, r: columns ahead (f) and behind (b) along the three axes
    pf0, pb0 = _sides(u, n, x, i, ni, nj * nk, 1.0, mask)
    pf1, pb1 = _sides(v, n, y, i, ni, nj * nk, 0.0, mask)
    pf2, pb2 = _sides(w, n, z, i, ni, nj * nk, 0.0, mask)
    qf0, qb0 = _sides(u, n, x, j, nj, nk, 0.0, mask)
    qf1, qb1 = _sides(v, n, y, j, nj, nk, 1.0, mask)
    qf2, qb2 = _sides(w, n, z, j, nj, nk, 0.0, mask)
    rf0, rb0 = _sides(u, n, x, k, nk, 1, 0.0, mask)
    rf1, rb1 = _sides(v, n, y, k, nk, 1, 0.0, mask)
    rf2, rb2 = _sides(w, n, z, k, nk, 1, 1.0, mask)
    ff = _pair(pf0, pf1, pf2, qf0, qf1, qf2, rf0, rf1, rf2, rb0, rb1, rb2)
    fb = _pair(pf0, pf1, pf2, qb0, qb1, qb2, rf0, rf1, rf2, rb0, rb1, rb2)
    bf = _pair(pb0, pb1, pb2, qf0, qf1, qf2, rf0, rf1, rf2, rb0, rb1, rb2)
    bb = _pair(pb0, pb1, pb2, qb0, qb1, qb2, rf0, rf1, rf2, rb0, rb1, rb2)
    sides = tl.minimum(tl.minimum(ff, fb), tl.minimum(bf, bb))
    inner = mask & (i + 1 < ni) & (j + 1 < nj) & (k + 1 < nk)
    middle = _middle(u, voxels, n, x, y, z, nj, nk, inner)
    tl.store(out + batch * voxels + n, tl.minimum(sides, middle), mask=mask)
