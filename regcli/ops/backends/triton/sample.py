"""Interpolation of volumes: positions in voxels of the sampled volume, its nearest edge outside."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.backends.triton.launch import (
    BLOCK,
    blocks,
    channels_last,
    launch,
    new_channels_last,
    plain,
    tile,
    voxels_of,
)

Shape = tuple[int, int, int]
_EDGE = tl.constexpr(reference.EDGE)


def pull(image: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """image(x + u(x)) of one channel, the nearest edge outside, and where that lies inside.

    Args:
        image: (1, 1, I, J, K).
        u: (1, 3, I, J, K), voxels.

    Returns:
        The values, and 1 where x + u(x) lies in the volume, else 0; both (1, 1, I, J, K) float32.
    """
    image, u = image.detach().contiguous(), plain(u)
    shape = image.shape[2:]
    moved = torch.empty(image.shape, dtype=torch.float32, device=image.device)
    covered = torch.empty_like(moved)
    launch(_pull, (blocks(shape.numel()),), image, u, moved, covered, *shape, BLOCK)
    return moved, covered


def warp(
    image: Tensor,
    matrix: Tensor | None,
    u: Tensor | None,
    shape: Shape,
    *,
    border: bool = True,
    nearest: bool = False,
) -> Tensor:
    """image(matrix (x + u(x))) for every voxel x of the output grid.

    Args:
        image: (B, C, I, J, K), or (1, C, I, J, K) for all displacements; best channels last.
        matrix: (3, 4), output voxel to image voxel; None for the identity.
        u: (B, 3, i, j, k), voxels of the output grid; None for zero.
        shape: (i, j, k) of the output grid.
        border: Outside the image, repeat its edge; else zero.
        nearest: Take the nearest voxel's value, of any dtype; else interpolate.

    Returns:
        (B, C, i, j, k), channels last; float32, or the image's dtype if `nearest`.
    """
    dtype = image.dtype if nearest else torch.float32
    if not (nearest or image.dtype in (torch.float16, torch.bfloat16)):
        image = image.to(torch.float32)
    source, channels = channels_last(image), image.shape[1]
    batch = image.shape[0] if u is None else u.shape[0]
    out = new_channels_last(image, batch, channels, *shape, dtype=dtype)
    # Triton loads a bool as one bit
    views = [t.view(torch.uint8) if dtype == torch.bool else t for t in (source, out)]
    block, wide = tile(channels)
    launch(
        _warp, (blocks(out[0, 0].numel(), block), batch),
        *views, *_map(matrix, u, source), *image.shape[2:], *shape, image.shape[0],
        channels, wide, matrix is not None, u is not None, border, nearest, block,
    )  # fmt: skip
    return out


def scatter(values: Tensor, matrix: Tensor | None, u: Tensor | None, source_shape: Shape) -> Tensor:
    """The transpose of the linear `warp` that repeats the edge: its gradient by the image.

    Sums are atomic, so their last bits differ from run to run.

    Args:
        values: (B, C, i, j, k), the gradient by what `warp` returned; best channels last.
        matrix: (3, 4), output voxel to image voxel; None for the identity.
        u: (B, 3, i, j, k) or (1, 3, i, j, k), voxels of the output grid; None for zero.
        source_shape: (I, J, K) of the image.

    Returns:
        (B, C, I, J, K) float32, channels last.
    """
    batch, channels, *shape = values.shape
    values = channels_last(values.to(torch.float32))
    out = new_channels_last(values, batch, channels, *source_shape).zero_()
    block, wide = tile(channels)
    if u is not None:
        u = u.expand(batch, -1, -1, -1, -1)
    launch(
        _scatter, (blocks(values[0, 0].numel(), block), batch),
        values, out, *_map(matrix, u, values), *source_shape, *shape,
        channels, wide, matrix is not None, u is not None, block,
    )  # fmt: skip
    return out


def _map(matrix: Tensor | None, u: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """The map's tensors as kernels take them; `like` stands for those that there are not."""
    if matrix is not None:
        # non_blocking: a plain copy from the host waits for all that the device still has to do
        matrix = matrix.detach().to(like.device, torch.float64, non_blocking=True).contiguous()
    return like if matrix is None else matrix, like if u is None else plain(u)


@triton.jit
def cell(x, n):
    """The cell of an axis of n voxels that holds x: lower voxel, step to the upper, its weight.

    x is clamped to the axis; from its last voxel the step is zero.
    """
    x = tl.minimum(tl.maximum(x, 0.0), n - 1.0)
    lower = x.to(tl.int32)
    step = tl.where(lower + 1 < n, 1, 0)
    return lower, step, (x - lower).to(tl.float32)


@triton.jit
def corners(volume, n, s0, s1, s2, mask):
    """The eight values of the cell whose lower corner is volume[n], the last axis fastest."""
    v000 = tl.load(volume + n, mask=mask, other=0.0).to(tl.float32)
    v001 = tl.load(volume + (n + s2), mask=mask, other=0.0).to(tl.float32)
    v010 = tl.load(volume + (n + s1), mask=mask, other=0.0).to(tl.float32)
    v011 = tl.load(volume + (n + s1 + s2), mask=mask, other=0.0).to(tl.float32)
    n = n + s0
    v100 = tl.load(volume + n, mask=mask, other=0.0).to(tl.float32)
    v101 = tl.load(volume + (n + s2), mask=mask, other=0.0).to(tl.float32)
    v110 = tl.load(volume + (n + s1), mask=mask, other=0.0).to(tl.float32)
    v111 = tl.load(volume + (n + s1 + s2), mask=mask, other=0.0).to(tl.float32)
    return v000, v001, v010, v011, v100, v101, v110, v111


@triton.jit
def trilinear(volume, n, s0, s1, s2, a, b, c, mask):
    """Value in the cell whose lower corner is volume[n], at weights a, b, c of the upper ones."""
    v000, v001, v010, v011, v100, v101, v110, v111 = corners(volume, n, s0, s1, s2, mask)
    v00, v01 = v000 + (v001 - v000) * c, v010 + (v011 - v010) * c
    v10, v11 = v100 + (v101 - v100) * c, v110 + (v111 - v110) * c
    v0, v1 = v00 + (v01 - v00) * b, v10 + (v11 - v10) * b
    return v0 + (v1 - v0) * a


@triton.jit
def within(x, y, z, ni, nj, nk):
    """Whether positions lie inside a volume (I, J, K)."""
    least = tl.minimum(x, tl.minimum(y, z))
    beyond = tl.maximum(x - (ni - 1.0), tl.maximum(y - (nj - 1.0), z - (nk - 1.0)))
    return (least >= -_EDGE) & (beyond <= _EDGE)


@triton.jit
def vectors(u, n, voxels, mask):
    """u at voxels of flat index n; voxels: in a component, in 64 bits, which three may need."""
    u0 = tl.load(u + n, mask=mask, other=0.0)
    u1 = tl.load(u + voxels + n, mask=mask, other=0.0)
    u2 = tl.load(u + 2 * voxels + n, mask=mask, other=0.0)
    return u0, u1, u2


@triton.jit
def _positions(
    matrix, u, n, i, j, k, voxels, mask, HAS_MATRIX: tl.constexpr, HAS_FIELD: tl.constexpr
):
    """matrix (x + u(x)): in float64 where there is a matrix, else in float32."""
    if HAS_MATRIX:
        x, y, z = i.to(tl.float64), j.to(tl.float64), k.to(tl.float64)
    else:
        x, y, z = i.to(tl.float32), j.to(tl.float32), k.to(tl.float32)
    if HAS_FIELD:
        u0, u1, u2 = vectors(u, n, voxels, mask)
        x, y, z = x + u0, y + u1, z + u2
    if HAS_MATRIX:
        m, p, q, r = matrix, x, y, z
        x = tl.load(m) * p + tl.load(m + 1) * q + tl.load(m + 2) * r + tl.load(m + 3)
        y = tl.load(m + 4) * p + tl.load(m + 5) * q + tl.load(m + 6) * r + tl.load(m + 7)
        z = tl.load(m + 8) * p + tl.load(m + 9) * q + tl.load(m + 10) * r + tl.load(m + 11)
    return x, y, z


@triton.jit(do_not_specialize=["ni", "nj", "nk"])
def _pull(image, u, moved, covered, ni, nj, nk, BLOCK: tl.constexpr):
    n, i, j, k = voxels_of(tl.program_id(0), nj, nk, BLOCK)
    mask = n < ni * nj * nk
    u0, u1, u2 = vectors(u, n, (ni * nj * nk).to(tl.int64), mask)
    x, y, z = i + u0, j + u1, k + u2
    p, s0, a = cell(x, ni)
    q, s1, b = cell(y, nj)
    r, s2, c = cell(z, nk)
    value = trilinear(image, (p * nj + q) * nk + r, s0 * nj * nk, s1 * nk, s2, a, b, c, mask)
    tl.store(moved + n, value, mask=mask)
    tl.store(covered + n, within(x, y, z, ni, nj, nk).to(tl.float32), mask=mask)


@triton.jit
def _cells(x, y, z, ni, nj, nk, C: tl.constexpr):
    """Where the cells of positions begin, the steps to their upper corners, and the weights.

    All (BLOCK, 1): the channels of a voxel lie side by side in tiles (BLOCK, WIDE).
    """
    p, s0, a = cell(x, ni)
    q, s1, b = cell(y, nj)
    r, s2, c = cell(z, nk)
    lower = ((p * nj + q) * nk + r)[:, None].to(tl.int64) * C
    s0, s1, s2 = (s0 * nj * nk)[:, None].to(tl.int64) * C, (s1 * nk)[:, None] * C, s2[:, None] * C
    return lower, s0, s1, s2, a[:, None], b[:, None], c[:, None]


@triton.jit(do_not_specialize=["ni", "nj", "nk", "i_out", "j_out", "k_out", "images"])
def _warp(
    image, out, matrix, u, ni, nj, nk, i_out, j_out, k_out, images,
    C: tl.constexpr, WIDE: tl.constexpr, HAS_MATRIX: tl.constexpr, HAS_FIELD: tl.constexpr,
    BORDER: tl.constexpr, NEAREST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(1).to(tl.int64)
    n, i, j, k = voxels_of(tl.program_id(0), j_out, k_out, BLOCK)
    voxels = (i_out * j_out * k_out).to(tl.int64)
    mask = n < i_out * j_out * k_out
    u += batch * 3 * voxels
    x, y, z = _positions(matrix, u, n, i, j, k, voxels, mask, HAS_MATRIX, HAS_FIELD)
    take = mask if BORDER else mask & within(x, y, z, ni, nj, nk)
    if NEAREST:
        x, y, z = tl.floor(x + 0.5), tl.floor(y + 0.5), tl.floor(z + 0.5)
    source, s0, s1, s2, a, b, c = _cells(x, y, z, ni, nj, nk, C)
    image += tl.minimum(batch, images - 1) * (ni * nj * nk).to(tl.int64) * C
    out += batch * voxels * C
    target = n[:, None].to(tl.int64) * C
    for first in range(0, C, WIDE):
        channel = first + tl.arange(0, WIDE)[None, :]
        lanes = take[:, None] & (channel < C)
        if NEAREST:
            value = tl.load(image + source + channel, mask=lanes, other=0)
        else:
            value = trilinear(image, source + channel, s0, s1, s2, a, b, c, lanes)
        tl.store(out + target + channel, value, mask=mask[:, None] & (channel < C))


@triton.jit
def _add(out, at, value, weight, mask):
    # a corner without weight may be one that the edge repeats
    tl.atomic_add(out + at, value * weight, mask=mask & (weight != 0.0), sem="relaxed")


@triton.jit(do_not_specialize=["ni", "nj", "nk", "i_out", "j_out", "k_out"])
def _scatter(
    values, out, matrix, u, ni, nj, nk, i_out, j_out, k_out,
    C: tl.constexpr, WIDE: tl.constexpr, HAS_MATRIX: tl.constexpr, HAS_FIELD: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(1).to(tl.int64)
    n, i, j, k = voxels_of(tl.program_id(0), j_out, k_out, BLOCK)
    voxels = (i_out * j_out * k_out).to(tl.int64)
    mask = n < i_out * j_out * k_out
    u += batch * 3 * voxels
    x, y, z = _positions(matrix, u, n, i, j, k, voxels, mask, HAS_MATRIX, HAS_FIELD)
    lower, s0, s1, s2, a, b, c = _cells(x, y, z, ni, nj, nk, C)
    out += batch * (ni * nj * nk).to(tl.int64) * C
    values += batch * voxels * C
    source = n[:, None].to(tl.int64) * C
    for first in range(0, C, WIDE):
        channel = first + tl.arange(0, WIDE)[None, :]
        lanes = mask[:, None] & (channel < C)
        value = tl.load(values + source + channel, mask=lanes, other=0.0)
        at = lower + channel
        _add(out, at, value, (1 - a) * (1 - b) * (1 - c), lanes)
        _add(out, at + s2, value, (1 - a) * (1 - b) * c, lanes)
        _add(out, at + s1, value, (1 - a) * b * (1 - c), lanes)
        _add(out, at + s1 + s2, value, (1 - a) * b * c, lanes)
        at = at + s0
        _add(out, at, value, a * (1 - b) * (1 - c), lanes)
        _add(out, at + s2, value, a * (1 - b) * c, lanes)
        _add(out, at + s1, value, a * b * (1 - c), lanes)
        _add(out, at + s1 + s2, value, a * b * c, lanes)
