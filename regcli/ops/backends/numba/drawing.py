"""Loops that draw an image from a label map: a lookup of codes, and what larger voxels see of it.

The map is seen on a grid of half the drawn voxel size, whose codes alone are kept, a byte each:
intensities arise where they are averaged, so that no volume of them is eight times too large.
"""

import numpy as np

from regcli.ops.backends.numba.slabs import inline, kernel

_F = np.float32


@inline
def _blend(knots, i, j, size_i, size_j, row):
    """row (3, k): knots (3, i, j, k), stretched over size_i x size_j rows, at one of them."""
    _, ni, nj, nk = knots.shape
    x, y = i * (ni - 1) / max(size_i - 1, 1), j * (nj - 1) / max(size_j - 1, 1)
    p, q = max(min(int(x), ni - 2), 0), max(min(int(y), nj - 2), 0)
    a, b = _F(x - p), _F(y - q)
    p1, q1 = min(p + 1, ni - 1), min(q + 1, nj - 1)
    for c in range(3):
        for k in range(nk):
            low = (_F(1) - b) * knots[c, p, q, k] + b * knots[c, p, q1, k]
            high = (_F(1) - b) * knots[c, p1, q, k] + b * knots[c, p1, q1, k]
            row[c, k] = (_F(1) - a) * low + a * high


@kernel
def lookup(lo, hi, packed, kept, matrix, knots, out):
    """out[x] = kept[packed[matrix (x + u(x))]], at the nearest voxel; 0 outside.

    packed (I, J, K) uint16; kept (512,) uint8; matrix (3, 4) float64; u is linear between knots
    (3, a, b, c) float32, stretched over out (i, j, k) uint8, and in its voxels.
    """
    ni, nj, nk = packed.shape
    si, sj, sk = out.shape
    count = knots.shape[3]
    row = np.empty((3, count), _F)
    scale = (count - 1) / max(sk - 1, 1)
    m = matrix
    for i in range(lo, hi):
        for j in range(sj):
            _blend(knots, i, j, si, sj, row)
            for k in range(sk):
                t = k * scale
                low = max(min(int(t), count - 2), 0)
                high, w = min(low + 1, count - 1), _F(t - low)
                p = i + (row[0, low] + w * (row[0, high] - row[0, low]))
                q = j + (row[1, low] + w * (row[1, high] - row[1, low]))
                r = k + (row[2, low] + w * (row[2, high] - row[2, low]))
                x = m[0, 0] * p + m[0, 1] * q + m[0, 2] * r + m[0, 3] + 0.5
                y = m[1, 0] * p + m[1, 1] * q + m[1, 2] * r + m[1, 3] + 0.5
                z = m[2, 0] * p + m[2, 1] * q + m[2, 2] * r + m[2, 3] + 0.5
                if 0 <= x < ni and 0 <= y < nj and 0 <= z < nk:
                    out[i, j, k] = kept[packed[int(x), int(y), int(z)]]
                else:
                    out[i, j, k] = 0


@kernel
def shrink_planes(lo, hi, indices, means, tj, tk, out):
    """Rows and columns of means[indices] smoothed by taps, at every second voxel of a plane.

    indices (I, 2J-1, 2K-1) uint8; means (256,) float32; tj, tk taps of odd length; out (I, J, K).
    The edge is repeated outside.
    """
    _, nj, nk = indices.shape
    rj, rk = len(tj) // 2, len(tk) // 2
    first = -2 * ((rk + 1) // 2)
    even, odd = np.empty(out.shape[2] + rk + 2, _F), np.empty(out.shape[2] + rk + 2, _F)
    rows = np.empty((nj, out.shape[2]), _F)
    for i in range(lo, hi):
        for j in range(nj):
            # voxels of even and of odd places apart: taps then run over neighbours in memory
            for n in range(len(even)):
                k = 2 * n + first
                even[n] = means[indices[i, j, min(max(k, 0), nk - 1)]]
                odd[n] = means[indices[i, j, min(max(k + 1, 0), nk - 1)]]
            row = rows[j]
            row[:] = 0
            for t in range(len(tk)):
                start, apart, w = (t - rk - first) // 2, (t - rk - first) % 2, tk[t]
                if apart == 0:
                    for k in range(len(row)):
                        row[k] += w * even[start + k]
                else:
                    for k in range(len(row)):
                        row[k] += w * odd[start + k]
        for j in range(out.shape[1]):
            line = out[i, j]
            line[:] = 0
            for t in range(len(tj)):
                row, w = rows[min(max(2 * j + t - rj, 0), nj - 1)], tj[t]
                for k in range(len(line)):
                    line[k] += w * row[k]


@kernel
def shrink_across(lo, hi, planes, ti, out):
    """Planes smoothed by taps, every second one: planes (2I-1, J, K), out (I, J, K)."""
    radius, count = len(ti) // 2, len(planes)
    for i in range(lo, hi):
        out[i] = 0
        for t in range(len(ti)):
            plane, w = planes[min(max(2 * i + t - radius, 0), count - 1)], ti[t]
            for j in range(out.shape[1]):
                line, row = out[i, j], plane[j]
                for k in range(len(line)):
                    line[k] += w * row[k]
