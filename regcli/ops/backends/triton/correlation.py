"""Local correlation: sums over windows to the energy and its derivatives, per voxel.

Sums run along the first two axes: a program owns lanes along the last axis and walks, adds what
enters its windows and takes off what leaves them. Along the last axis itself lanes read their
2 radius + 1 neighbours, which lie in the cache; to walk there would scatter every access.
Totals are in float64 and start anew every few voxels: in float32, what bright windows leave
behind would drown flat ones.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from regcli.ops.backends.triton.launch import blocks, launch, plain

_LEAST = tl.constexpr(2 - 1e-3)  # voxels in a window: one says nothing, and sums are rounded
_LANES = 128
_WALK = 32  # voxels a program walks; it takes in 2 radius more before the first


def derivatives(
    fixed: Tensor, moved: Tensor, weight: Tensor, radius: int, floor: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Energy sum_x w (1 - rho) of local correlations, dE/dmoved and its Gauss-Newton curvature.

    Args:
        fixed: (1, 1, I, J, K).
        moved: (1, 1, I, J, K).
        weight: (1, 1, I, J, K): of a voxel inside windows, and of the window centred on it.
        radius: Of the windows, voxels.
        floor: Added to the variances and the covariance of every window; a number, or () on the
            device.

    Returns:
        () float64, and two (1, 1, I, J, K) float32.
    """
    f, m, w = plain(fixed), plain(moved), plain(weight)
    if not isinstance(floor, Tensor):
        floor = torch.full((), floor, device=f.device)  # a fill does not wait, a copy does
    floor = floor.detach().to(f.device, torch.float32)
    # windows do not ask which axis is which: in a slice, lanes lie along one that has voxels
    long = [n for n in f.shape[2:] if n > 1]
    ni, nj, nk = shape = [1] * (3 - len(long)) + long
    sums, windows = f.new_empty(6, *shape), f.new_empty(5, *shape)
    slope, curvature = torch.empty_like(f), torch.empty_like(f)
    along_i = (blocks(nj * nk, _LANES), triton.cdiv(ni, _WALK))
    along_j = (blocks(ni * nk, _LANES), triton.cdiv(nj, _WALK))
    lost = f.new_empty(along_i)
    arguments = (ni, nj, nk, radius, _LANES, _WALK)
    # no fusion: what leaves a window must be rounded as it was when it entered
    launch(_products, along_j, w, f, m, sums, *arguments, fuse=False)
    launch(_coefficients, along_i, sums, w, floor, windows, lost, *arguments)
    launch(_spread, (*along_j, 5), windows, sums, *arguments, fuse=False)
    launch(_slopes, along_i, sums, w, f, m, slope, curvature, *arguments)
    return lost.sum(dtype=torch.float64), slope, curvature


@triton.jit
def _lanes_along_j(ni, nj, nk, LANES: tl.constexpr, WALK: tl.constexpr):
    """A program's lanes (i, k): their k, their voxels at j = 0, which exist, and the first j.

    The latter is a tile, as masks are.
    """
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    i = lane // nk
    start = tl.zeros([LANES], tl.int32) + tl.program_id(1) * WALK
    return lane - i * nk, i * nj * nk + lane - i * nk, lane < ni * nk, start


@triton.jit
def _lanes_along_i(nj, nk, LANES: tl.constexpr, WALK: tl.constexpr):
    """A program's lanes (j, k), which of them exist, and the first i, a tile as before."""
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    return lane, lane < nj * nk, tl.zeros([LANES], tl.int32) + tl.program_id(1) * WALK


@triton.jit
def _passing(start, step, inside, n, RADIUS: tl.constexpr):
    """Indices that enter and leave the windows at a step along an axis of n, if they do."""
    p = start + (step - RADIUS)
    q = p - (2 * RADIUS + 1)
    enters = inside & (p >= 0) & (p < n)
    return p, q, enters, inside & (q >= 0) & (q >= start - RADIUS)


@triton.jit
def _six(w, f, m, row, k, nk, passes, zero, RADIUS: tl.constexpr):
    """w, w f, w m, w f f, w m m, w f m of a row, summed over windows along k."""
    a0, a1, a2, a3, a4, a5 = zero, zero, zero, zero, zero, zero
    for t in tl.static_range(-RADIUS, RADIUS + 1):  # pyright: ignore[reportGeneralTypeIssues]
        at, take = row + t, passes & (k + t >= 0) & (k + t < nk)
        x = tl.load(w + at, mask=take, other=0.0)
        y = tl.load(f + at, mask=take, other=0.0)
        z = tl.load(m + at, mask=take, other=0.0)
        xy, xz = x * y, x * z
        a0, a1, a2, a3, a4, a5 = a0 + x, a1 + xy, a2 + xz, a3 + xy * y, a4 + xz * z, a5 + xy * z
    return a0, a1, a2, a3, a4, a5


@triton.jit(do_not_specialize=["ni", "nj", "nk"])
def _products(
    w, f, m, sums, ni, nj, nk, RADIUS: tl.constexpr, LANES: tl.constexpr, WALK: tl.constexpr
):
    """sums (6, I, J, K) <- w, w f, w m, w f f, w m m, w f m, summed over windows along j and k."""
    k, column, inside, start = _lanes_along_j(ni, nj, nk, LANES, WALK)
    voxels = (ni * nj * nk).to(tl.int64)
    zero, zeros = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float64)
    t0, t1, t2, t3, t4, t5 = zeros, zeros, zeros, zeros, zeros, zeros
    for step in range(0, tl.minimum(WALK, nj - tl.program_id(1) * WALK) + 2 * RADIUS):
        p, q, enters, leaves = _passing(start, step, inside, nj, RADIUS)
        a0, a1, a2, a3, a4, a5 = _six(w, f, m, column + p * nk, k, nk, enters, zero, RADIUS)
        b0, b1, b2, b3, b4, b5 = _six(w, f, m, column + q * nk, k, nk, leaves, zero, RADIUS)
        t0 += a0.to(tl.float64) - b0.to(tl.float64)
        t1 += a1.to(tl.float64) - b1.to(tl.float64)
        t2 += a2.to(tl.float64) - b2.to(tl.float64)
        t3 += a3.to(tl.float64) - b3.to(tl.float64)
        t4 += a4.to(tl.float64) - b4.to(tl.float64)
        t5 += a5.to(tl.float64) - b5.to(tl.float64)
        j = p - RADIUS
        put = inside & (j >= start)
        target = sums + (column + j * nk)
        tl.store(target, t0.to(tl.float32), mask=put)
        tl.store(target + voxels, t1.to(tl.float32), mask=put)
        tl.store(target + 2 * voxels, t2.to(tl.float32), mask=put)
        tl.store(target + 3 * voxels, t3.to(tl.float32), mask=put)
        tl.store(target + 4 * voxels, t4.to(tl.float32), mask=put)
        tl.store(target + 5 * voxels, t5.to(tl.float32), mask=put)


@triton.jit(do_not_specialize=["ni", "nj", "nk"])
def _spread(
    windows, sums, ni, nj, nk, RADIUS: tl.constexpr, LANES: tl.constexpr, WALK: tl.constexpr
):
    """sums (5, I, J, K) <- windows (5, I, J, K), summed over windows along j and k."""
    k, column, inside, start = _lanes_along_j(ni, nj, nk, LANES, WALK)
    channel = tl.program_id(2).to(tl.int64) * (ni * nj * nk).to(tl.int64)
    windows += channel
    sums += channel
    total = tl.zeros([LANES], tl.float64)
    for step in range(0, tl.minimum(WALK, nj - tl.program_id(1) * WALK) + 2 * RADIUS):
        p, q, enters, leaves = _passing(start, step, inside, nj, RADIUS)
        a, b = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32)
        for t in tl.static_range(-RADIUS, RADIUS + 1):  # pyright: ignore[reportGeneralTypeIssues]
            across = (k + t >= 0) & (k + t < nk)
            a += tl.load(windows + (column + p * nk + t), mask=enters & across, other=0.0)
            b += tl.load(windows + (column + q * nk + t), mask=leaves & across, other=0.0)
        total += a.to(tl.float64) - b.to(tl.float64)
        j = p - RADIUS
        tl.store(sums + (column + j * nk), total.to(tl.float32), mask=inside & (j >= start))


@triton.jit
def _change(sums, n, gone, enters, leaves):
    """The change of a running sum when plane sums[n] enters and sums[gone] leaves."""
    a = tl.load(sums + n, mask=enters, other=0.0).to(tl.float64)
    return a - tl.load(sums + gone, mask=leaves, other=0.0).to(tl.float64)


@triton.jit(do_not_specialize=["ni", "nj", "nk"])
def _coefficients(
    sums, weight, floor, out, lost, ni, nj, nk,
    RADIUS: tl.constexpr, LANES: tl.constexpr, WALK: tl.constexpr,
):  # fmt: skip
    """Per window: a = 1/(|f||m|), a mean(f), b = rho/|m|^2, b mean(m), 1/|m|^2, times the weight.

    lost: each program's share of the energy.
    """
    lane, inside, start = _lanes_along_i(nj, nk, LANES, WALK)
    plane, voxels = nj * nk, (ni * nj * nk).to(tl.int64)
    loss, zeros, least = (
        tl.zeros([LANES], tl.float32),
        tl.zeros([LANES], tl.float64),
        tl.load(floor),
    )
    t0, t1, t2, t3, t4, t5 = zeros, zeros, zeros, zeros, zeros, zeros
    for step in range(0, tl.minimum(WALK, ni - tl.program_id(1) * WALK) + 2 * RADIUS):
        p, q, enters, leaves = _passing(start, step, inside, ni, RADIUS)
        n, gone = lane + p * plane, lane + q * plane
        t0 += _change(sums, n, gone, enters, leaves)
        t1 += _change(sums + voxels, n, gone, enters, leaves)
        t2 += _change(sums + 2 * voxels, n, gone, enters, leaves)
        t3 += _change(sums + 3 * voxels, n, gone, enters, leaves)
        t4 += _change(sums + 4 * voxels, n, gone, enters, leaves)
        t5 += _change(sums + 5 * voxels, n, gone, enters, leaves)
        i = p - RADIUS
        put = inside & (i >= start)
        n = lane + i * plane
        w = tl.load(weight + n, mask=put, other=0.0)
        # differences of large numbers in float64, all the rest in float32
        count = tl.maximum(t0, _LEAST)
        mean_f, mean_m = t1 / count, t2 / count
        bottom = count.to(tl.float32) * least
        ff = tl.maximum(t3 - t1 * mean_f, 0.0).to(tl.float32) + bottom
        mm = tl.maximum(t4 - t2 * mean_m, 0.0).to(tl.float32) + bottom
        fm = (t5 - t1 * mean_m).to(tl.float32) + bottom
        # without a floor, a flat window has no correlation: it counts as if it were not there
        take = put & (w > 0.0) & (t0 > _LEAST) & (tl.minimum(ff, mm) > 0.0)
        w, ff, mm = tl.where(take, w, 0.0), tl.where(take, ff, 1.0), tl.where(take, mm, 1.0)
        a = 1.0 / (tl.sqrt(ff) * tl.sqrt(mm))
        rho = fm * a
        loss += w * (1.0 - rho)
        a, b = w * a, w * rho / mm
        target = out + n
        tl.store(target, a, mask=put)
        tl.store(target + voxels, a * mean_f.to(tl.float32), mask=put)
        tl.store(target + 2 * voxels, b, mask=put)
        tl.store(target + 3 * voxels, b * mean_m.to(tl.float32), mask=put)
        tl.store(target + 4 * voxels, w / mm, mask=put)
    at = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    tl.store(lost + at, tl.sum(loss, axis=0))


@triton.jit(do_not_specialize=["ni", "nj", "nk"])
def _slopes(
    sums, weight, fixed, moved, slope, curvature, ni, nj, nk,
    RADIUS: tl.constexpr, LANES: tl.constexpr, WALK: tl.constexpr,
):  # fmt: skip
    """dE/dm = -(f sum a - sum a mean(f) - m sum b + sum b mean(m)); curvature sum 1/|m|^2."""
    lane, inside, start = _lanes_along_i(nj, nk, LANES, WALK)
    plane, voxels = nj * nk, (ni * nj * nk).to(tl.int64)
    zeros = tl.zeros([LANES], tl.float64)
    t0, t1, t2, t3, t4 = zeros, zeros, zeros, zeros, zeros
    for step in range(0, tl.minimum(WALK, ni - tl.program_id(1) * WALK) + 2 * RADIUS):
        p, q, enters, leaves = _passing(start, step, inside, ni, RADIUS)
        n, gone = lane + p * plane, lane + q * plane
        t0 += _change(sums, n, gone, enters, leaves)
        t1 += _change(sums + voxels, n, gone, enters, leaves)
        t2 += _change(sums + 2 * voxels, n, gone, enters, leaves)
        t3 += _change(sums + 3 * voxels, n, gone, enters, leaves)
        t4 += _change(sums + 4 * voxels, n, gone, enters, leaves)
        i = p - RADIUS
        put = inside & (i >= start)
        n = lane + i * plane
        w = tl.load(weight + n, mask=put, other=0.0)
        f = tl.load(fixed + n, mask=put, other=0.0).to(tl.float64)
        m = tl.load(moved + n, mask=put, other=0.0).to(tl.float64)
        pull = (f * t0 - t1 - m * t2 + t3).to(tl.float32)
        tl.store(slope + n, -w * pull, mask=put)
        tl.store(curvature + n, w * t4.to(tl.float32), mask=put)
