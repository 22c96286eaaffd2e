"""Forces: what an energy of the moved image says about a small displacement d of every voxel.

With m = moved(x + d) and an energy of gradient s = dE/dm and curvature h >= 0 (Gauss-Newton), the
force is g = s Dm (3 numbers) and the Hessian A = h Dm Dm^T (6 numbers: 00 01 02 11 12 22), summed
over channels. Dm is the central difference of the *moved* image, so it holds the map's own
Jacobian: g and A belong to phi o (Id + d). Only `slopes` takes those of the interpolation itself,
and belongs to u + d.
"""

import numba
import numpy as np

from regcli.ops.backends.numba.prefetch import prefetch_cell
from regcli.ops.backends.numba.sample import grid_cells, steps_of
from regcli.ops.backends.numba.slabs import function, inline, kernel

_U = numba.uint64
_F = np.float32
_BLOCK = 16  # rows; three planes of so many rows of 16 channels stay in the caches


@inline
def span(i, n):
    """Neighbours of voxel i on an axis of n, and the weight of their difference."""
    lower, upper = max(i - 1, 0), min(i + 1, n - 1)
    return lower, upper, _F(1) / _F(max(upper - lower, 1))


@inline
def _clear(g, a, i, j):
    for c in range(3):
        g[c, i, j] = 0
    for c in range(6):
        a[c, i, j] = 0


@kernel
def force(lo, hi, moved, s, h, fresh, g, a):
    """Force and Hessian of one channel, added to g (3, ...) and a (6, ...) unless they are fresh.

    moved, s, h: (I, J, K), the image, dE/dmoved and the curvature. Many short loops with few
    arrays each: the compiler makes vector instructions of those alone.
    """
    ni, nj, nk = moved.shape
    slopes, bent = np.empty((3, nk), _F), np.empty(nk, _F)
    for i in range(lo, hi):
        i0, i1, wi = span(i, ni)
        for j in range(nj):
            j0, j1, wj = span(j, nj)
            if fresh:
                _clear(g, a, i, j)
            _difference(moved[i0, j], moved[i1, j], wi, slopes[0])
            _difference(moved[i, j0], moved[i, j1], wj, slopes[1])
            here, along = moved[i, j], slopes[2]
            for k in range(1, nk - 1):
                along[k] = _F(0.5) * (here[k + 1] - here[k - 1])
            along[0] = here[min(1, nk - 1)] - here[0]
            along[nk - 1] = here[nk - 1] - here[max(nk - 2, 0)]
            n = 0
            for p in range(3):
                _accumulate(s[i, j], slopes[p], g[p, i, j])
                _product(h[i, j], slopes[p], bent)
                for q in range(p, 3):
                    _accumulate(bent, slopes[q], a[n, i, j])
                    n += 1


@inline
def _difference(before, after, weight, out):
    for k in range(out.shape[0]):
        out[k] = weight * (after[k] - before[k])


@inline
def _product(x, y, out):
    for k in range(out.shape[0]):
        out[k] = x[k] * y[k]


@inline
def _accumulate(x, y, out):
    for k in range(out.shape[0]):
        out[k] += x[k] * y[k]


@inline
def _keep(sums, k, squared, g0, g1, g2, a00, a01, a02, a11, a12, a22):
    """Sums over the channels of voxel k; what is left to do is done for a whole row at once."""
    sums[0, k], sums[1, k], sums[2, k], sums[3, k] = squared, g0, g1, g2
    sums[4, k], sums[5, k], sums[6, k] = a00, a01, a02
    sums[7, k], sums[8, k], sums[9, k] = a11, a12, a22


@function
def _put(sums, factors, weight, scale, fresh, g, a, i, j):
    """Row i, j of g and a from its sums, whose slopes lack these factors; returns its energy."""
    total, w, single, double = 0.0, sums[0], sums[10], sums[11]
    for k in range(w.shape[0]):
        total += weight[k] * w[k]
        w[k] = scale * weight[k]
    if fresh:
        _clear(g, a, i, j)
    n = 0
    for p in range(3):
        _product(w, factors[p], single)
        _accumulate(single, sums[1 + p], g[p, i, j])
        for q in range(p, 3):
            _product(single, factors[q], double)
            _accumulate(double, sums[4 + n], a[n, i, j])
            n += 1
    return 0.5 * scale * total


@inline
def _moved_rows(lanes, flat, shape, u, i, first, last, out, index, weights):
    """Features flat[...] moved to rows first..last-1 of plane i; out: flat, channels last."""
    ni, nj, nk = shape
    s0, s1, s2 = steps_of(ni, nj, nk, len(lanes))
    o = _U(0)
    for j in range(first, last):
        grid_cells(u, i, j, index, weights)
        for k in range(nk):
            prefetch_cell(flat, index, k, len(lanes), s0, s1)
            a, b, c = weights[0, k], weights[1, k], weights[2, k]
            w3 = b * c
            w2, w1 = b - w3, c - w3
            w0 = _F(1) - b - w1
            w4, w5, w6, w7 = a * w0, a * w1, a * w2, a * w3
            w0, w1, w2, w3 = w0 - w4, w1 - w5, w2 - w6, w3 - w7
            n = _U(index[k]) * _U(len(lanes))
            for c in range(len(lanes)):
                m = n + _U(c)
                p = m + s0
                out[o + _U(c)] = (
                    w0 * _F(flat[m])
                    + w1 * _F(flat[m + s2])
                    + w2 * _F(flat[m + s1])
                    + w3 * _F(flat[m + s1 + s2])
                    + w4 * _F(flat[p])
                    + w5 * _F(flat[p + s2])
                    + w6 * _F(flat[p + s1])
                    + w7 * _F(flat[p + s1 + s2])
                )
            o += _U(len(lanes))


def scratch_size(rows, columns, channels):
    """Values of scratch that a slab of `squares` needs: three planes of a block and its rim."""
    return 3 * (min(rows, _BLOCK) + 2) * columns * channels


@kernel
def squares(lo, hi, scratch, lanes, moving, fixed, u, weight, scale, fresh, g, a, loss):
    """Force and Hessian of scale/2 sum_c w (m - fixed)^2, m(x) = moving(x + u(x)).

    Differences are those of the moved features, which are held three planes of a block of rows at
    a time. lanes: a tuple of as many zeros as there are channels, which the compiler then knows.
    moving, fixed (I, J, K, C); u (3, I, J, K); weight (I, J, K); g, a as in `force`; loss (I,).
    """
    ni, nj, nk = fixed.shape[:3]
    channels, size = len(lanes), scratch.shape[0] // 3
    flat, target = moving.reshape(-1), fixed.reshape(-1)
    index, weights = np.empty(nk, np.int32), np.empty((3, nk), _F)
    sums, across = np.empty((12, nk), _F), np.empty((3, nk), _F)
    loss[lo:hi] = 0
    for top in range(0, nj, _BLOCK):
        first, last = max(top - 1, 0), min(top + _BLOCK + 1, nj)
        ready = max(lo - 1, 0)
        for i in range(lo, hi):
            i0, i1, wi = span(i, ni)
            while ready <= i1:
                plane = scratch[ready % 3 * size : (ready % 3 + 1) * size]
                shape = (ni, nj, nk)
                _moved_rows(lanes, flat, shape, u, ready, first, last, plane, index, weights)
                ready += 1
            total = 0.0
            for j in range(top, min(top + _BLOCK, nj)):
                j0, j1, wj = span(j, nj)
                row = nk * channels
                here = _U(i % 3 * size + (j - first) * row)
                above, below = i0 % 3 * size + (j - first) * row, i1 % 3 * size + (j - first) * row
                x0, x1 = _U(above), _U(below)
                y0, y1 = (
                    _U(i % 3 * size + (j0 - first) * row),
                    _U(i % 3 * size + (j1 - first) * row),
                )
                f = _U((i * nj + j) * row)
                for k in range(nk):
                    k0, k1, across[2, k] = span(k, nk)
                    z0, z1 = here + _U(k0 * channels), here + _U(k1 * channels)
                    n = _U(k * channels)
                    squared = g0 = g1 = g2 = a00 = a01 = a02 = a11 = a12 = a22 = _F(0)
                    for c in range(len(lanes)):
                        m = n + _U(c)
                        r = scratch[here + m] - _F(target[f + m])
                        d0 = scratch[x1 + m] - scratch[x0 + m]
                        d1 = scratch[y1 + m] - scratch[y0 + m]
                        d2 = scratch[z1 + _U(c)] - scratch[z0 + _U(c)]
                        squared += r * r
                        g0, g1, g2 = g0 + r * d0, g1 + r * d1, g2 + r * d2
                        a00, a01, a02 = a00 + d0 * d0, a01 + d0 * d1, a02 + d0 * d2
                        a11, a12, a22 = a11 + d1 * d1, a12 + d1 * d2, a22 + d2 * d2
                    _keep(sums, k, squared, g0, g1, g2, a00, a01, a02, a11, a12, a22)
                    across[0, k], across[1, k] = wi, wj
                total += _put(sums, across, weight[i, j], _F(scale), fresh, g, a, i, j)
            loss[i] += total


@kernel
def slopes(lo, hi, lanes, moving, fixed, u, weight, scale, fresh, g, a, loss):
    """As `squares`, but with the slopes of the moving features at x + u(x), in one pass.

    They are those of the trilinear interpolation, so g is the energy's very gradient by u. From the
    outermost voxels on, along an axis, they are zero: there the edge is repeated.
    """
    ni, nj, nk = fixed.shape[:3]
    channels = _U(len(lanes))
    s0, s1, s2 = steps_of(ni, nj, nk, len(lanes))
    flat, target = moving.reshape(-1), fixed.reshape(-1)
    index, weights = np.empty(nk, np.int32), np.empty((3, nk), _F)
    sums, inside = np.empty((12, nk), _F), np.empty((3, nk), _F)
    loss[lo:hi] = 0
    for top in range(0, nj, _BLOCK):
        for i in range(lo, hi):
            total = 0.0
            for j in range(top, min(top + _BLOCK, nj)):
                grid_cells(u, i, j, index, weights)
                f = _U((i * nj + j) * nk) * channels
                for k in range(nk):
                    prefetch_cell(flat, index, k, len(lanes), s0, s1)
                    x, y, z = weights[0, k], weights[1, k], weights[2, k]
                    first = _U(index[k]) * channels
                    squared = g0 = g1 = g2 = a00 = a01 = a02 = a11 = a12 = a22 = _F(0)
                    for c in range(len(lanes)):
                        n = first + _U(c)
                        p = n + s0
                        v0, v1, v2, v3 = flat[n], flat[n + s1], flat[p], flat[p + s1]
                        e0, e1 = flat[n + s2] - v0, flat[n + s1 + s2] - v1
                        e2, e3 = flat[p + s2] - v2, flat[p + s1 + s2] - v3
                        v0, v1, v2, v3 = v0 + z * e0, v1 + z * e1, v2 + z * e2, v3 + z * e3
                        e0, e2 = e0 + y * (e1 - e0), e2 + y * (e3 - e2)
                        h0, h2 = v1 - v0, v3 - v2
                        v0, v2 = v0 + y * h0, v2 + y * h2
                        d0, d1, d2 = v2 - v0, h0 + x * (h2 - h0), e0 + x * (e2 - e0)
                        r = v0 + x * d0 - target[f + _U(c)]
                        squared += r * r
                        g0, g1, g2 = g0 + r * d0, g1 + r * d1, g2 + r * d2
                        a00, a01, a02 = a00 + d0 * d0, a01 + d0 * d1, a02 + d0 * d2
                        a11, a12, a22 = a11 + d1 * d1, a12 + d1 * d2, a22 + d2 * d2
                    f += channels
                    _keep(sums, k, squared, g0, g1, g2, a00, a01, a02, a11, a12, a22)
                for k in range(nk):
                    inside[0, k] = _F(1) if 0 < _F(i) + u[0, i, j, k] < ni - 1 else _F(0)
                    inside[1, k] = _F(1) if 0 < _F(j) + u[1, i, j, k] < nj - 1 else _F(0)
                    inside[2, k] = _F(1) if 0 < _F(k) + u[2, i, j, k] < nk - 1 else _F(0)
                total += _put(sums, inside, weight[i, j], _F(scale), fresh, g, a, i, j)
            loss[i] += total
