"""Interpolation of volumes: channels last, positions in voxels of the sampled volume.

Voxels are found by one flat, unsigned index. A signed one makes numba ask at every access whether
it counts from the end, which costs more than the interpolation itself.
"""

import math

import numba
import numpy as np

from regcli.ops.kernels.cpu.slabs import inline, kernel

# Voxels own half a voxel around their centre, so a volume of n voxels covers [-1/2, n - 1/2):
# ITK's rule. Rounding must not push the outermost centres out.
_EDGE = 0.5 + 1e-4
_U = numba.uint64
_F = np.float32


@inline
def cell(x, n, stride):
    """The cell of an axis that holds x: its lower voxel, the step to the upper one, its weight.

    x is clamped to the n voxels, which lie `stride` apart; from the last one the step is zero.
    """
    x = min(max(x, 0.0), n - 1.0)
    lower = int(x)
    step = stride if lower + 1 < n else _U(0)
    return _U(lower) * stride, step, _F(x - lower)


@inline
def trilinear(flat, n, s0, s1, s2, a, b, c):
    """Value in the cell whose lower corner is flat[n], at weights a, b, c of the upper corners."""
    v0, v1, v2, v3 = flat[n], flat[n + s1], flat[n + s0], flat[n + s0 + s1]
    v0 += (flat[n + s2] - v0) * c
    v1 += (flat[n + s1 + s2] - v1) * c
    v2 += (flat[n + s0 + s2] - v2) * c
    v3 += (flat[n + s0 + s1 + s2] - v3) * c
    v0 += (v1 - v0) * b
    v2 += (v3 - v2) * b
    return v0 + (v2 - v0) * a


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


@kernel
def linear(lo, hi, image, matrix, u, border, out):
    """out[x] = image(matrix (x + u(x))), trilinear.

    image (I, J, K, C); matrix (3, 4) float64; u (3, i, j, k), or (3, 0, 0, 0) for none;
    out (i, j, k, C). Outside the image the nearest edge is used if `border`, else zero.
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
                    out[i, j, k, ch] = trilinear(flat, p + q + r + _U(ch), s0, s1, s2, a, b, c)


@kernel
def pull(lo, hi, image, u, out, covered):
    """out[x] = image(x + u(x)) of one channel, the nearest edge outside: the solvers' own case.

    image, out (I, J, K); u (3, I, J, K). covered[x] = 1 where x + u(x) lies in the volume, else 0.
    """
    ni, nj, nk = image.shape
    plane, row, edge = _U(nj * nk), _U(nk), _F(_EDGE)
    flat = image.reshape(-1)
    for i in range(lo, hi):
        for j in range(nj):
            u0, u1, u2, target, cover = u[0, i, j], u[1, i, j], u[2, i, j], out[i, j], covered[i, j]
            for k in range(nk):
                x, y, z = _F(i) + u0[k], _F(j) + u1[k], _F(k) + u2[k]
                beyond = max(-min(x, min(y, z)), max(x - ni, max(y - nj, z - nk)) + _F(1))
                cover[k] = _F(1) if beyond <= edge else _F(0)
                p, s0, a = cell(x, ni, plane)
                q, s1, b = cell(y, nj, row)
                r, s2, c = cell(z, nk, _U(1))
                target[k] = trilinear(flat, p + q + r, s0, s1, s2, a, b, c)


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
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = _position(matrix, u, i, j, k)
                within = _within(x, y, z, shape[0], shape[1], shape[2])
                out[i, j, k] = 1.0 if within else 0.0
