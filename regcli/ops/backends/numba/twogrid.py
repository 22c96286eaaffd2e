"""Loops of the two-grid step: to a grid twice as coarse, back, and relaxation on the fine one.

A coarse voxel stands for 2 fine ones along each axis of more than one voxel, the last one for a
single one where their number is odd; `steps` (3,) holds 2 or 1 per axis.
"""

import numpy as np

from regcli.ops.backends.numba.newton import block_solve, diffuse_row
from regcli.ops.backends.numba.slabs import copy_row, inline, kernel

_F = np.float32


@kernel
def restrict(lo, hi, fine, steps, out):
    """out (C, i, j, k) = sums of fine (C, I, J, K) over the fine voxels of each coarse one."""
    _, depth, rows, columns = fine.shape
    line = np.empty(columns, np.float32)
    for i in range(lo, hi):
        for c in range(fine.shape[0]):
            for j in range(out.shape[2]):
                line[:] = 0
                for p in range(steps[0] * i, min(steps[0] * (i + 1), depth)):
                    for q in range(steps[1] * j, min(steps[1] * (j + 1), rows)):
                        source = fine[c, p, q]
                        for k in range(columns):
                            line[k] += source[k]
                target = out[c, i, j]
                if steps[2] == 1:
                    copy_row(line, target)
                    continue
                for k in range(columns // 2):
                    target[k] = line[2 * k] + line[2 * k + 1]
                if columns % 2:
                    target[columns // 2] = line[columns - 1]


@inline
def _between(n, step, coarse):
    """Coarse neighbours of fine voxel n along an axis, and the weight of the second."""
    if step == 1:
        return n, n, _F(0)
    near = n // 2
    far = near - 1 if n % 2 == 0 else near + 1
    return near, min(max(far, 0), coarse - 1), _F(0.25)


@inline
def _mixed_row(coarse, c, i, j, steps, row):
    """row[k] = coarse at fine row (i, j), interpolated along the first two axes only."""
    p, p2, a = _between(i, steps[0], coarse.shape[1])
    q, q2, b = _between(j, steps[1], coarse.shape[2])
    r00, r01, r10, r11 = coarse[c, p, q], coarse[c, p, q2], coarse[c, p2, q], coarse[c, p2, q2]
    for k in range(row.shape[0]):
        row[k] = (_F(1) - a) * ((_F(1) - b) * r00[k] + b * r01[k]) + a * (
            (_F(1) - b) * r10[k] + b * r11[k]
        )


@inline
def _widen(row, step, out):
    """out: a coarse row at fine voxels, linear between the coarse ones and constant beyond."""
    n, columns = row.shape[0], out.shape[0]
    if step == 1:
        copy_row(row, out)
        return
    for k in range(1, min(n, (columns + 1) // 2)):
        out[2 * k] = _F(0.75) * row[k] + _F(0.25) * row[k - 1]
    for k in range(min(n - 1, columns // 2)):
        out[2 * k + 1] = _F(0.75) * row[k] + _F(0.25) * row[k + 1]
    out[0] = row[0]
    if columns % 2 == 0:
        out[columns - 1] = row[n - 1]


@kernel
def prolong(lo, hi, coarse, steps, out):
    """out (C, I, J, K): coarse (C, i, j, k) between its voxels' centres, constant beyond them."""
    row = np.empty(coarse.shape[3], np.float32)
    for i in range(lo, hi):
        for j in range(out.shape[2]):
            for c in range(coarse.shape[0]):
                _mixed_row(coarse, c, i, j, steps, row)
                _widen(row, steps[2], out[c, i, j])


@kernel
def blend(lo, hi, share, smooth, steps, out):
    """out += share (smooth - out), both of them coarse: share (1, i, j, k), smooth (C, i, j, k)."""
    row, other = np.empty(share.shape[3], _F), np.empty(share.shape[3], _F)
    part, value = np.empty(out.shape[3], _F), np.empty(out.shape[3], _F)
    for i in range(lo, hi):
        for j in range(out.shape[2]):
            _mixed_row(share, 0, i, j, steps, row)
            most = _F(0)
            for k in range(row.shape[0]):
                most = max(most, row[k])
            if most == 0:
                continue
            _widen(row, steps[2], part)
            for c in range(out.shape[0]):
                _mixed_row(smooth, c, i, j, steps, other)
                _widen(other, steps[2], value)
                target = out[c, i, j]
                for k in range(out.shape[3]):
                    target[k] += part[k] * (value[k] - target[k])


@kernel
def relax(lo, hi, d, u, g, a, stiffness, diagonal, mu, omega, out):
    """out = d - omega P^-1 (g + R u + (A + R + mu) d): a damped Jacobi step, P the 3 x 3 blocks.

    diagonal (3,): what R adds to the diagonal of an inner voxel.
    """
    columns = d.shape[3]
    rest, row = np.empty((3, columns), _F), np.empty(columns, _F)
    r0, r1, r2 = rest[0], rest[1], rest[2]
    for i in range(lo, hi):
        for j in range(d.shape[2]):
            for c in range(3):
                diffuse_row(d, c, i, j, stiffness, rest[c])
                diffuse_row(u, c, i, j, stiffness, row)
                total, force = rest[c], g[c, i, j]
                for k in range(columns):
                    total[k] += row[k] + force[k]
            d0, d1, d2 = d[0, i, j], d[1, i, j], d[2, i, j]
            a00, a01, a02, a11, a12, a22 = (
                a[0, i, j],
                a[1, i, j],
                a[2, i, j],
                a[3, i, j],
                a[4, i, j],
                a[5, i, j],
            )
            o0, o1, o2 = out[0, i, j], out[1, i, j], out[2, i, j]
            for k in range(columns):
                x, y, z = d0[k], d1[k], d2[k]
                p = r0[k] + (a00[k] + mu) * x + a01[k] * y + a02[k] * z
                q = r1[k] + a01[k] * x + (a11[k] + mu) * y + a12[k] * z
                r = r2[k] + a02[k] * x + a12[k] * y + (a22[k] + mu) * z
                p, q, r = block_solve(
                    a00[k] + diagonal[0] + mu, a01[k], a02[k],
                    a11[k] + diagonal[1] + mu, a12[k], a22[k] + diagonal[2] + mu,
                    p, q, r,
                )  # fmt: skip
                o0[k], o1[k], o2[k] = x - omega * p, y - omega * q, z - omega * r
