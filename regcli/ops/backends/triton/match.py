"""Forces of squared differences of features sampled through a displacement, in float32.

Tiles are voxels by channels, with the channels of a voxel side by side in memory.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from regcli.ops.backends.triton.jacobian import span
from regcli.ops.backends.triton.launch import blocks, channels_last, launch, plain, tile, voxels_of
from regcli.ops.backends.triton.sample import corners, vectors, warp

_Model = tuple[Tensor, Tensor, Tensor]


def central(moving: Tensor, fixed: Tensor, u: Tensor, weight: Tensor, scale: float) -> _Model:
    """Model of scale / 2 sum_x w sum_c (m - f)^2, m(x) = moving(x + u(x)), for phi o (Id + d).

    Features are sampled to a buffer, of which a second pass takes differences: sampling the six
    neighbours anew would read 56 corners per value, where this writes one and reads seven that
    mostly lie in the cache. The buffer is in float32: rounding the moved features would make the
    energy a staircase along a line search.

    Args:
        moving: (1, C, I, J, K) float32, float16 or bfloat16, best channels last.
        fixed: (1, C, I, J, K), likewise.
        u: (1, 3, I, J, K), voxels.
        weight: w, (1, 1, I, J, K).
        scale: Factor of the energy.

    Returns:
        The energy () float64, the force scale w sum_c r D and the Hessian scale w sum_c D D^T,
        (1, 3, I, J, K) and (1, 6, I, J, K) float32; D: central differences of m, one-sided at
        edges.
    """
    i, j, k = fixed.shape[2:]
    moved = warp(moving, None, u, (i, j, k))
    return _model(_central, moved, fixed, moved, weight, scale)


def exact(moving: Tensor, fixed: Tensor, u: Tensor, weight: Tensor, scale: float) -> _Model:
    """Model of the energy of `central` for u + d: its force is the exact derivative by u.

    D is the derivative of the trilinear interpolant by the position, zero along an axis on which
    x + u lies on or beyond the outermost voxels. One pass, and no buffer.

    Args:
        moving: (1, C, I, J, K) float32, float16 or bfloat16, best channels last.
        fixed: (1, C, I, J, K), likewise.
        u: (1, 3, I, J, K), voxels.
        weight: w, (1, 1, I, J, K).
        scale: Factor of the energy.

    Returns:
        As `central`.
    """
    return _model(_exact, moving, fixed, u, weight, scale)


def _model(
    kernel: Any,
    moving: Tensor,
    fixed: Tensor,
    u: Tensor,
    weight: Tensor,
    scale: float,
) -> _Model:
    """Run a kernel; `_central` takes what has been moved already, and no u."""
    channels, shape = fixed.shape[1], fixed.shape[2:]
    moving, fixed, weight = channels_last(moving), channels_last(fixed), plain(weight)
    g = torch.empty(1, 3, *shape, device=fixed.device)
    A = torch.empty(1, 6, *shape, device=fixed.device)
    block, wide = tile(channels)
    programs = blocks(shape.numel(), block)
    loss = torch.empty(programs, device=fixed.device)
    field = u if kernel is _central else plain(u)
    tensors = (moving, fixed, field, weight, g, A, loss)
    launch(kernel, (programs,), *tensors, *shape, scale, channels, wide, block)
    return loss.sum(dtype=torch.float64), g, A


@triton.jit
def _sums(m, f, d0, d1, d2, squared, g0, g1, g2, a00, a01, a02, a11, a12, a22):
    """Add the channels of a tile (voxels, channels) to what its voxels have so far."""
    r = m - f
    return (
        squared + tl.sum(r * r, axis=1),
        g0 + tl.sum(r * d0, axis=1),
        g1 + tl.sum(r * d1, axis=1),
        g2 + tl.sum(r * d2, axis=1),
        a00 + tl.sum(d0 * d0, axis=1),
        a01 + tl.sum(d0 * d1, axis=1),
        a02 + tl.sum(d0 * d2, axis=1),
        a11 + tl.sum(d1 * d1, axis=1),
        a12 + tl.sum(d1 * d2, axis=1),
        a22 + tl.sum(d2 * d2, axis=1),
    )


@triton.jit
def _store(
    weight, g, A, loss, n, voxels, mask, scale,
    squared, g0, g1, g2, a00, a01, a02, a11, a12, a22,
):  # fmt: skip
    w = scale * tl.load(weight + n, mask=mask, other=0.0)
    tl.store(loss + tl.program_id(0), tl.sum(0.5 * w * squared, axis=0))
    g += n
    A += n
    tl.store(g, w * g0, mask=mask)
    tl.store(g + voxels, w * g1, mask=mask)
    tl.store(g + 2 * voxels, w * g2, mask=mask)
    tl.store(A, w * a00, mask=mask)
    tl.store(A + voxels, w * a01, mask=mask)
    tl.store(A + 2 * voxels, w * a02, mask=mask)
    tl.store(A + 3 * voxels, w * a11, mask=mask)
    tl.store(A + 4 * voxels, w * a12, mask=mask)
    tl.store(A + 5 * voxels, w * a22, mask=mask)


@triton.jit
def _difference(m, behind, ahead, share, lanes):
    upper = tl.load(m + ahead, mask=lanes, other=0.0)
    return share * (upper - tl.load(m + behind, mask=lanes, other=0.0))


@triton.jit
def _offset(step, C: tl.constexpr):
    """Voxels to values of an image with its channels last, for tiles."""
    return step[:, None].to(tl.int64) * C


@triton.jit(do_not_specialize=["ni", "nj", "nk", "scale"])
def _central(
    moved, fixed, _, weight, g, A, loss, ni, nj, nk, scale,
    C: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, i, j, k = voxels_of(tl.program_id(0), nj, nk, BLOCK)
    mask = n < ni * nj * nk
    i0, i1, wi = span(i, ni)
    j0, j1, wj = span(j, nj)
    k0, k1, wk = span(k, nk)
    at = _offset(n, C)
    i0, i1, wi = _offset(i0 * nj * nk, C), _offset(i1 * nj * nk, C), wi[:, None]
    j0, j1, wj = _offset(j0 * nk, C), _offset(j1 * nk, C), wj[:, None]
    k0, k1, wk = _offset(k0, C), _offset(k1, C), wk[:, None]
    zero = tl.zeros([BLOCK], tl.float32)
    squared, g0, g1, g2 = zero, zero, zero, zero
    a00, a01, a02, a11, a12, a22 = zero, zero, zero, zero, zero, zero
    for first in range(0, C, WIDE):
        channel = first + tl.arange(0, WIDE)[None, :]
        lanes = mask[:, None] & (channel < C)
        here = moved + (at + channel)
        m = tl.load(here, mask=lanes, other=0.0)
        f = tl.load(fixed + (at + channel), mask=lanes, other=0.0).to(tl.float32)
        d0 = _difference(here, i0, i1, wi, lanes)
        d1 = _difference(here, j0, j1, wj, lanes)
        d2 = _difference(here, k0, k1, wk, lanes)
        squared, g0, g1, g2, a00, a01, a02, a11, a12, a22 = _sums(
            m, f, d0, d1, d2, squared, g0, g1, g2, a00, a01, a02, a11, a12, a22
        )
    voxels = (ni * nj * nk).to(tl.int64)
    _store(
        weight, g, A, loss, n, voxels, mask, scale,
        squared, g0, g1, g2, a00, a01, a02, a11, a12, a22,
    )  # fmt: skip


@triton.jit
def _slanted_cell(x, n):
    """As `sample.cell`, but the axis's last voxel ends the last cell, so that it has a slope.

    Also 1 where x lies between the outermost voxels, else 0: from there on the edge is repeated.
    """
    at = tl.minimum(tl.maximum(x, 0.0), n - 1.0)
    lower = tl.maximum(tl.minimum(at.to(tl.int32), n - 2), 0)
    along = tl.where((x > 0.0) & (x < n - 1.0), 1.0, 0.0)
    return lower, tl.where(lower + 1 < n, 1, 0), at - lower.to(tl.float32), along


@triton.jit(do_not_specialize=["ni", "nj", "nk", "scale"])
def _exact(
    moving, fixed, u, weight, g, A, loss, ni, nj, nk, scale,
    C: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, i, j, k = voxels_of(tl.program_id(0), nj, nk, BLOCK)
    mask = n < ni * nj * nk
    voxels = (ni * nj * nk).to(tl.int64)
    u0, u1, u2 = vectors(u, n, voxels, mask)
    p, s0, a, along0 = _slanted_cell(i + u0, ni)
    q, s1, b, along1 = _slanted_cell(j + u1, nj)
    r, s2, c, along2 = _slanted_cell(k + u2, nk)
    at, lower = _offset(n, C), _offset((p * nj + q) * nk + r, C)
    s0, s1, s2 = _offset(s0 * nj * nk, C), _offset(s1 * nk, C), _offset(s2, C)
    a, b, c = a[:, None], b[:, None], c[:, None]
    along0, along1, along2 = along0[:, None], along1[:, None], along2[:, None]
    zero = tl.zeros([BLOCK], tl.float32)
    squared, g0, g1, g2 = zero, zero, zero, zero
    a00, a01, a02, a11, a12, a22 = zero, zero, zero, zero, zero, zero
    for first in range(0, C, WIDE):
        channel = first + tl.arange(0, WIDE)[None, :]
        lanes = mask[:, None] & (channel < C)
        f = tl.load(fixed + (at + channel), mask=lanes, other=0.0).to(tl.float32)
        v000, v001, v010, v011, v100, v101, v110, v111 = corners(
            moving, lower + channel, s0, s1, s2, lanes
        )
        # slopes along the last axis at the four edges, then between them, then across
        e00, e01, e10, e11 = v001 - v000, v011 - v010, v101 - v100, v111 - v110
        v00, v01, v10, v11 = v000 + e00 * c, v010 + e01 * c, v100 + e10 * c, v110 + e11 * c
        e0, e1 = e00 + (e01 - e00) * b, e10 + (e11 - e10) * b
        h0, h1 = v01 - v00, v11 - v10
        v0, v1 = v00 + h0 * b, v10 + h1 * b
        d0 = along0 * (v1 - v0)
        d1 = along1 * (h0 + (h1 - h0) * a)
        d2 = along2 * (e0 + (e1 - e0) * a)
        m = v0 + (v1 - v0) * a
        squared, g0, g1, g2, a00, a01, a02, a11, a12, a22 = _sums(
            m, f, d0, d1, d2, squared, g0, g1, g2, a00, a01, a02, a11, a12, a22
        )
    _store(
        weight, g, A, loss, n, voxels, mask, scale,
        squared, g0, g1, g2, a00, a01, a02, a11, a12, a22,
    )  # fmt: skip
