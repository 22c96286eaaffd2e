"""Interpolation of volumes: channels last, positions in voxels of the sampled volume.

Voxels are found by one flat, unsigned index. A signed one makes numba ask at every access whether
it counts from the end, which costs more than the interpolation itself.
"""

import math

import numba
import numpy as np

from regcli.ops.backends.numba.slabs import exact_kernel, inline, kernel

# Voxels own half a voxel around their centre, so a volume of n voxels covers [-1/2, n - 1/2):
# ITK's rule. Rounding must not push the outermost centres out.
_EDGE = 0.5 + 1e-4
_U = numba.uint64
_F = np.float32
_I = np.int32


@inline
def cell(x, n, stride):
    """The cell of an axis that holds x: its lower voxel, the step to the upper one, its weight.

    x is clamped to the n voxels, which lie `stride` apart; from the last one the step is zero.
    """
    x = min(max(x, 0.0), n - 1.0)
    lower = max(int(x), 0)  # of no number at all, the least integer
    step = stride if lower + 1 < n else _U(0)
    return _U(lower) * stride, step, _F(x - lower)


@inline
def row_cells(origin, step, u, n, stride, index, weight):
    """Add a row's lower voxels along one axis to their index; set the weights of the upper ones.

    Positions are origin + k step + u[k], clamped to the n voxels, which lie `stride` apart. The
    lower voxel is never the last one, so that every cell has its upper voxel as far away: that
    leaves a loop over k of vector instructions, and constant steps to whoever interpolates.
    """
    last, least = _F(n - 1), _F(max(n - 2, 0))
    for k in range(u.shape[0]):
        x = min(max(origin + step * _F(_I(k)) + _F(u[k]), _F(0)), last)
        lower = max(_I(min(x, least)), _I(0))  # of no number at all, the least integer
        weight[k] = x - _F(lower)
        index[k] += lower * stride


@inline
def grid_cells(u, i, j, index, weights):
    """Index and weights (3, K) of the cells that hold x + u(x), x in row (i, j) of u's own grid."""
    _, ni, nj, nk = u.shape
    index[:] = 0
    row_cells(_F(i), _F(0), u[0, i, j], ni, _I(nj * nk), index, weights[0])
    row_cells(_F(j), _F(0), u[1, i, j], nj, _I(nk), index, weights[1])
    row_cells(_F(0), _F(1), u[2, i, j], nk, _I(1), index, weights[2])


@inline
def steps_of(ni, nj, nk, channels):
    """How far the upper voxels of a cell lie from its lower ones in memory: 0 on axes of one."""
    c = _U(channels)
    return (
        _U(nj * nk) * c if ni > 1 else _U(0),
        _U(nk) * c if nj > 1 else _U(0),
        c if nk > 1 else _U(0),
    )


@inline
def trilinear(flat, n, s0, s1, s2, a, b, c):
    """Value in the cell whose lower corner is flat[n], at weights a, b, c of the upper corners."""
    a0, b0, c0 = _F(1) - a, _F(1) - b, _F(1) - c
    v0 = c0 * flat[n] + c * flat[n + s2]
    v1 = c0 * flat[n + s1] + c * flat[n + s1 + s2]
    v2 = c0 * flat[n + s0] + c * flat[n + s0 + s2]
    v3 = c0 * flat[n + s0 + s1] + c * flat[n + s0 + s1 + s2]
    return a0 * (b0 * v0 + b * v1) + a * (b0 * v2 + b * v3)


@inline
def _position(matrix, u, i, j, k):
    p, q, r = float(i), float(j), float(k)
    if u.shape[1] > 0:
        p, q, r = p + u[0, i, j, k], q + u[1, i, j, k], r + u[2, i, j, k]
    x = matrix[0, 0] * p + matrix[0, 1] * q + matrix[0, 2] * r + matrix[0, 3]
    y = matrix[1, 0] * p + matrix[1, 1] * q + matrix[1, 2] * r + matrix[1, 3]
    z = matrix[2, 0] * p + matrix[2, 1] * q + matrix[2, 2] * r + matrix[2, 3]
    return x, y, z


@inline
def _within(x, y, z, ni, nj, nk):
    """Whether a position lies inside a volume of ni x nj x nk voxels."""
    return (
        -_EDGE <= x <= ni - 1 + _EDGE
        and -_EDGE <= y <= nj - 1 + _EDGE
        and -_EDGE <= z <= nk - 1 + _EDGE
    )


@inline
def _row_positions(matrix, u, i, j, x, y, z):
    """Rows x, y, z of the positions matrix (p + u(p)), p in row (i, j)."""
    r0 = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 3]
    r1 = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 3]
    r2 = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 3]
    s0, s1, s2 = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    for k in range(x.shape[0]):
        x[k], y[k], z[k] = r0 + s0 * _I(k), r1 + s1 * _I(k), r2 + s2 * _I(k)
    if u.shape[1] > 0:
        for c in range(3):
            row, m0, m1, m2 = u[c, i, j], matrix[0, c], matrix[1, c], matrix[2, c]
            for k in range(x.shape[0]):
                x[k] += m0 * row[k]
                y[k] += m1 * row[k]
                z[k] += m2 * row[k]


@exact_kernel
def linear(lo, hi, image, matrix, u, border, out):
    """out[x] = image(matrix (x + u(x))), trilinear.

    image (I, J, K, C); matrix (3, 4) float64; u (3, i, j, k), or (3, 0, 0, 0) for none;
    out (i, j, k, C). Outside the image the nearest edge is used if `border`, else zero.
    """
    ni, nj, nk, channels = image.shape
    s0, s1, s2 = steps_of(ni, nj, nk, channels)
    flat = image.reshape(-1)
    columns = out.shape[2]
    x, y, z = np.empty(columns), np.empty(columns), np.empty(columns)
    index, weights = np.empty(columns, _I), np.empty((3, columns), _F)
    a, b, c = weights[0], weights[1], weights[2]
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            _row_positions(matrix, u, i, j, x, y, z)
            index[:] = 0
            row_cells(_F(0), _F(0), x, ni, _I(nj * nk), index, a)
            row_cells(_F(0), _F(0), y, nj, _I(nk), index, b)
            row_cells(_F(0), _F(0), z, nk, _I(1), index, c)
            for k in range(columns):
                n = _U(index[k]) * _U(channels)
                for ch in range(channels):
                    out[i, j, k, ch] = trilinear(flat, n + _U(ch), s0, s1, s2, a[k], b[k], c[k])
            if not border:
                for k in range(columns):
                    if not _within(x[k], y[k], z[k], ni, nj, nk):
                        out[i, j, k, :] = 0


@exact_kernel
def pull(lo, hi, image, u, out, covered):
    """out[x] = image(x + u(x)) of one channel, the nearest edge outside: the solvers' own case.

    image, out (I, J, K); u (3, I, J, K). covered[x] = 1 where x + u(x) lies in the volume, else 0.
    """
    ni, nj, nk = image.shape
    s0, s1, s2 = steps_of(ni, nj, nk, 1)
    flat, edge = image.reshape(-1), _F(_EDGE)
    index, weights = np.empty(nk, _I), np.empty((3, nk), _F)
    a, b, c = weights[0], weights[1], weights[2]
    for i in range(lo, hi):
        for j in range(nj):
            grid_cells(u, i, j, index, weights)
            target = out[i, j]
            for k in range(nk):
                target[k] = trilinear(flat, _U(index[k]), s0, s1, s2, a[k], b[k], c[k])
            u0, u1, u2, cover = u[0, i, j], u[1, i, j], u[2, i, j], covered[i, j]
            for k in range(nk):
                x, y, z = _F(i) + u0[k], _F(j) + u1[k], _F(_I(k)) + u2[k]
                beyond = max(-min(x, min(y, z)), max(x - ni, max(y - nj, z - nk)) + _F(1))
                cover[k] = _F(1) if beyond <= edge else _F(0)


@kernel
def scatter(lo, hi, values, matrix, u, out):
    """out += the transpose of `linear` with repeated edges, for the channels lo..hi-1.

    values (C, i, j, k), out (C, I, J, K). Values of different planes meet in one voxel, so
    threads share out channels, and sums do not depend on their number.
    """
    _, ni, nj, nk = out.shape
    s0, s1, s2 = steps_of(ni, nj, nk, 1)
    columns = values.shape[3]
    x, y, z = np.empty(columns), np.empty(columns), np.empty(columns)
    index, weights = np.empty(columns, _I), np.empty((3, columns), _F)
    for channel in range(lo, hi):
        flat = out[channel].reshape(-1)
        for i in range(values.shape[1]):
            for j in range(values.shape[2]):
                _row_positions(matrix, u, i, j, x, y, z)
                index[:] = 0
                row_cells(_F(0), _F(0), x, ni, _I(nj * nk), index, weights[0])
                row_cells(_F(0), _F(0), y, nj, _I(nk), index, weights[1])
                row_cells(_F(0), _F(0), z, nk, _I(1), index, weights[2])
                row = values[channel, i, j]
                for k in range(columns):
                    a, b, c = weights[0, k], weights[1, k], weights[2, k]
                    n = _U(index[k])
                    for corner in range(8):
                        share = row[k] * (a if corner & 4 else _F(1) - a)
                        share *= (b if corner & 2 else _F(1) - b) * (c if corner & 1 else _F(1) - c)
                        step = _U(corner >> 2) * s0 + _U(corner >> 1 & 1) * s1 + _U(corner & 1) * s2
                        flat[n + step] += share


@kernel
def nearest(lo, hi, image, matrix, u, border, out):
    """As `linear`, but each output is the value of the nearest voxel; any dtype."""
    ni, nj, nk, channels = image.shape
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = _position(matrix, u, i, j, k)
                if not (border or _within(x, y, z, ni, nj, nk)):
                    for ch in range(channels):
                        out[i, j, k, ch] = 0
                    continue
                a = min(max(math.floor(x + 0.5), 0), ni - 1)
                b = min(max(math.floor(y + 0.5), 0), nj - 1)
                c = min(max(math.floor(z + 0.5), 0), nk - 1)
                for ch in range(channels):
                    out[i, j, k, ch] = image[a, b, c, ch]


@kernel
def label(lo, hi, image, matrix, u, border, out):
    """As `nearest`, but each output is the label with the largest trilinear weight.

    That is linear interpolation of every label's indicator followed by the arg max, in one pass.
    """
    ni, nj, nk, channels = image.shape
    plane, row, voxel = _U(nj * nk * channels), _U(nk * channels), _U(channels)
    flat = image.reshape(-1)
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = _position(matrix, u, i, j, k)
                if not (border or _within(x, y, z, ni, nj, nk)):
                    for ch in range(channels):
                        out[i, j, k, ch] = 0
                    continue
                p, s0, a = cell(x, ni, plane)
                q, s1, b = cell(y, nj, row)
                r, s2, c = cell(z, nk, voxel)
                for ch in range(channels):
                    n = p + q + r + _U(ch)
                    best, best_weight = flat[n], _F(-1)
                    for corner in range(8):
                        step = _U(corner >> 2) * s0 + _U(corner >> 1 & 1) * s1 + _U(corner & 1) * s2
                        candidate = flat[n + step]
                        weight = _F(0)
                        for other in range(8):
                            wa, wb = a if other & 4 else 1 - a, b if other & 2 else 1 - b
                            step = (
                                _U(other >> 2) * s0 + _U(other >> 1 & 1) * s1 + _U(other & 1) * s2
                            )
                            if flat[n + step] == candidate:
                                weight += wa * wb * (c if other & 1 else 1 - c)
                        if weight > best_weight:
                            best, best_weight = candidate, weight
                    out[i, j, k, ch] = best


@kernel
def coverage(lo, hi, shape, matrix, u, out):
    """out[x] = 1 where matrix (x + u(x)) lies in a volume of the given shape, else 0."""
    columns = out.shape[2]
    x, y, z = np.empty(columns), np.empty(columns), np.empty(columns)
    last0, last1, last2 = float(shape[0] - 1), float(shape[1] - 1), float(shape[2] - 1)
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            _row_positions(matrix, u, i, j, x, y, z)
            row = out[i, j]
            for k in range(columns):
                beyond = max(-min(x[k], min(y[k], z[k])), max(x[k] - last0, y[k] - last1))
                row[k] = _F(1) if max(beyond, z[k] - last2) <= _EDGE else _F(0)
