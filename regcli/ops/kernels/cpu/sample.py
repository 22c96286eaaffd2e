"""Interpolation of volumes: channels last, positions in voxels of the sampled volume."""

import math

from regcli.ops.kernels.cpu.slabs import inline, kernel

# Voxels own half a voxel around their centre, so a volume of n voxels covers [-1/2, n - 1/2):
# ITK's rule. Rounding must not push the outermost centres out.
_EDGE = 0.5 + 1e-4


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
def is_inside(x, n):
    """Whether a position lies within n voxels along an axis."""
    return -_EDGE <= x <= n - 1 + _EDGE


@inline
def cell(x, n):
    """Lower voxel, upper voxel and weight of the upper one; positions outside are clamped."""
    x = min(max(x, 0.0), n - 1.0)
    lower = min(int(x), max(n - 2, 0))
    return lower, min(lower + 1, n - 1), x - lower


@kernel
def linear(lo, hi, image, matrix, u, border, out):
    """out[x] = image(matrix (x + u(x))), trilinear.

    image (I, J, K, C); matrix (3, 4) float64; u (3, i, j, k), or (3, 0, 0, 0) for none;
    out (i, j, k, C). Outside the image the nearest edge is used if `border`, else zero.
    """
    channels = image.shape[3]
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = _position(matrix, u, i, j, k)
                within = (
                    is_inside(x, image.shape[0])
                    and is_inside(y, image.shape[1])
                    and is_inside(z, image.shape[2])
                )
                if not (border or within):
                    out[i, j, k, :] = 0
                    continue
                a0, a1, a = cell(x, image.shape[0])
                b0, b1, b = cell(y, image.shape[1])
                c0, c1, c = cell(z, image.shape[2])
                w000, w001 = (1 - a) * (1 - b) * (1 - c), (1 - a) * (1 - b) * c
                w010, w011 = (1 - a) * b * (1 - c), (1 - a) * b * c
                w100, w101 = a * (1 - b) * (1 - c), a * (1 - b) * c
                w110, w111 = a * b * (1 - c), a * b * c
                for ch in range(channels):
                    out[i, j, k, ch] = (
                        w000 * image[a0, b0, c0, ch]
                        + w001 * image[a0, b0, c1, ch]
                        + w010 * image[a0, b1, c0, ch]
                        + w011 * image[a0, b1, c1, ch]
                        + w100 * image[a1, b0, c0, ch]
                        + w101 * image[a1, b0, c1, ch]
                        + w110 * image[a1, b1, c0, ch]
                        + w111 * image[a1, b1, c1, ch]
                    )


@kernel
def nearest(lo, hi, image, matrix, u, border, out):
    """As `linear`, but each output is the value of the nearest voxel; any dtype."""
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = _position(matrix, u, i, j, k)
                within = (
                    is_inside(x, image.shape[0])
                    and is_inside(y, image.shape[1])
                    and is_inside(z, image.shape[2])
                )
                if not (border or within):
                    out[i, j, k, :] = 0
                    continue
                a = min(max(math.floor(x + 0.5), 0), image.shape[0] - 1)
                b = min(max(math.floor(y + 0.5), 0), image.shape[1] - 1)
                c = min(max(math.floor(z + 0.5), 0), image.shape[2] - 1)
                out[i, j, k, :] = image[a, b, c, :]


@kernel
def label(lo, hi, image, matrix, u, border, out):
    """As `nearest`, but each output is the label with the largest trilinear weight.

    That is linear interpolation of every label's indicator followed by the arg max, in one pass.
    """
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = _position(matrix, u, i, j, k)
                within = (
                    is_inside(x, image.shape[0])
                    and is_inside(y, image.shape[1])
                    and is_inside(z, image.shape[2])
                )
                if not (border or within):
                    out[i, j, k, :] = 0
                    continue
                a0, a1, a = cell(x, image.shape[0])
                b0, b1, b = cell(y, image.shape[1])
                c0, c1, c = cell(z, image.shape[2])
                for ch in range(image.shape[3]):
                    best, best_weight = image[a0, b0, c0, ch], -1.0
                    for corner in range(8):
                        candidate = image[
                            a1 if corner & 4 else a0,
                            b1 if corner & 2 else b0,
                            c1 if corner & 1 else c0,
                            ch,
                        ]
                        weight = 0.0
                        for other in range(8):
                            p, wa = (a1, a) if other & 4 else (a0, 1 - a)
                            q, wb = (b1, b) if other & 2 else (b0, 1 - b)
                            r, wc = (c1, c) if other & 1 else (c0, 1 - c)
                            if image[p, q, r, ch] == candidate:
                                weight += wa * wb * wc
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
                within = (
                    is_inside(x, shape[0]) and is_inside(y, shape[1]) and is_inside(z, shape[2])
                )
                out[i, j, k] = 1.0 if within else 0.0
