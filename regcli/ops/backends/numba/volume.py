"""Loops of the price on changes of volume: slopes in the middle of eight voxels, and back.

A cell lies between the voxels i..i+1, j..j+1 and k..k+1; a slope there is the mean of the four
differences along its edges. Two planes of cells are kept at a time, cell (j, k) at [j + 1, k + 1],
with zeros around them, so that edges are free.
"""

import numpy as np

from regcli.ops.backends.numba.slabs import copy_row, inline, kernel

_F = np.float32


def scratch_size(fields, rows, columns):
    """Values that `divergence` (1 field) and `pressure` (9 fields) keep."""
    return 2 * fields * (rows + 1) * (columns + 1)


@inline
def _spread(a, b, c, d, axis, out):
    """out += the transpose of the slope along an axis; a, b, c, d: rows of cells around a voxel."""
    if axis == 0:
        for k in range(out.shape[0]):
            n = k + 1
            out[k] += _F(0.25) * (a[k] + b[k] + a[n] + b[n] - c[k] - d[k] - c[n] - d[n])
    elif axis == 1:
        for k in range(out.shape[0]):
            n = k + 1
            out[k] += _F(0.25) * (a[k] + c[k] + a[n] + c[n] - b[k] - d[k] - b[n] - d[n])
    else:
        for k in range(out.shape[0]):
            n = k + 1
            out[k] += _F(0.25) * (a[k] + b[k] + c[k] + d[k] - a[n] - b[n] - c[n] - d[n])


@kernel
def divergence(lo, hi, scratch, u, weight, start, out, energy):
    """out = start + R u, energy[i] = sum weight (div u)^2 of a plane of cells; R its matrix."""
    depth, rows, columns = u.shape[1:]
    planes = scratch[: 2 * (rows + 1) * (columns + 1)].reshape(2, rows + 1, columns + 1)
    planes[:] = 0
    for i in range(lo - 1, hi):
        cells, total = planes[i % 2], 0.0
        if i == depth - 1:
            cells[:] = 0
        elif i >= 0:
            for j in range(rows - 1):
                x0, x1, x2, x3 = u[0, i, j], u[0, i, j + 1], u[0, i + 1, j], u[0, i + 1, j + 1]
                y0, y1, y2, y3 = u[1, i, j], u[1, i, j + 1], u[1, i + 1, j], u[1, i + 1, j + 1]
                z0, z1, z2, z3 = u[2, i, j], u[2, i, j + 1], u[2, i + 1, j], u[2, i + 1, j + 1]
                row = cells[j + 1]
                for k in range(columns - 1):
                    n = k + 1
                    e = _F(0.25) * (
                        x2[k] + x3[k] + x2[n] + x3[n] - x0[k] - x1[k] - x0[n] - x1[n]
                        + y1[k] + y3[k] + y1[n] + y3[n] - y0[k] - y2[k] - y0[n] - y2[n]
                        + z0[n] + z1[n] + z2[n] + z3[n] - z0[k] - z1[k] - z2[k] - z3[k]
                    )  # fmt: skip
                    row[n] = weight * e
                    total += e * e
        if i < lo:
            continue
        energy[i] = weight * total
        before = planes[(i + 1) % 2]
        for j in range(rows):
            a, b, c, d = before[j], before[j + 1], cells[j], cells[j + 1]
            for axis in range(3):
                copy_row(start[axis, i, j], out[axis, i, j])
            _spread(a, b, c, d, 0, out[0, i, j])
            _spread(a, b, c, d, 1, out[1, i, j])
            _spread(a, b, c, d, 2, out[2, i, j])


@kernel
def pressure(lo, hi, scratch, u, weight, knee, least, out, energy):
    """out = the force of sum weight knee log(1 + e / knee) but for R u, energy[i] likewise.

    e is det - 1 - log det, det that of the slopes of x + u(x). Below `least`, log det goes on as
    its parabola.
    """
    depth, rows, columns = u.shape[1:]
    size = 18 * (rows + 1) * (columns + 1)
    planes = scratch[:size].reshape(2, 9, rows + 1, columns + 1)
    planes[:] = 0
    rest = np.empty((3, columns), _F)
    det, change, slope = rest[0], rest[1], rest[2]
    one, q = _F(1), _F(0.25)
    for i in range(lo - 1, hi):
        cells, total = planes[i % 2], 0.0
        if i == depth - 1:
            cells[:] = 0
        elif i >= 0:
            for j in range(rows - 1):
                x0, x1, x2, x3 = u[0, i, j], u[0, i, j + 1], u[0, i + 1, j], u[0, i + 1, j + 1]
                y0, y1, y2, y3 = u[1, i, j], u[1, i, j + 1], u[1, i + 1, j], u[1, i + 1, j + 1]
                z0, z1, z2, z3 = u[2, i, j], u[2, i, j + 1], u[2, i + 1, j], u[2, i + 1, j + 1]
                for k in range(columns - 1):
                    n = k + 1
                    xi = q * (x2[k] + x3[k] + x2[n] + x3[n] - x0[k] - x1[k] - x0[n] - x1[n])
                    xj = q * (x1[k] + x3[k] + x1[n] + x3[n] - x0[k] - x2[k] - x0[n] - x2[n])
                    xk = q * (x0[n] + x1[n] + x2[n] + x3[n] - x0[k] - x1[k] - x2[k] - x3[k])
                    yi = q * (y2[k] + y3[k] + y2[n] + y3[n] - y0[k] - y1[k] - y0[n] - y1[n])
                    yj = q * (y1[k] + y3[k] + y1[n] + y3[n] - y0[k] - y2[k] - y0[n] - y2[n])
                    yk = q * (y0[n] + y1[n] + y2[n] + y3[n] - y0[k] - y1[k] - y2[k] - y3[k])
                    zi = q * (z2[k] + z3[k] + z2[n] + z3[n] - z0[k] - z1[k] - z0[n] - z1[n])
                    zj = q * (z1[k] + z3[k] + z1[n] + z3[n] - z0[k] - z2[k] - z0[n] - z2[n])
                    zk = q * (z0[n] + z1[n] + z2[n] + z3[n] - z0[k] - z1[k] - z2[k] - z3[k])
                    change[n] = xi + yj + zk
                    xi, yj, zk = one + xi, one + yj, one + zk
                    c0, c1, c2 = yj * zk - yk * zj, yk * zi - yi * zk, yi * zj - yj * zi
                    det[n] = xi * c0 + xj * c1 + xk * c2
                    cells[0, j + 1, n] = c0
                    cells[1, j + 1, n] = c1
                    cells[2, j + 1, n] = c2
                    cells[3, j + 1, n] = xk * zj - xj * zk
                    cells[4, j + 1, n] = xi * zk - xk * zi
                    cells[5, j + 1, n] = xj * zi - xi * zj
                    cells[6, j + 1, n] = xj * yk - xk * yj
                    cells[7, j + 1, n] = xk * yi - xi * yk
                    cells[8, j + 1, n] = xi * yj - xj * yi
                for n in range(1, columns):  # logarithms would keep the others from being vectors
                    safe = max(det[n], least)
                    short = (det[n] - safe) / least
                    e = det[n] - one - np.log(safe) - short + _F(0.5) * short * short
                    e = max(e, _F(0))  # but for rounding it is
                    slope[n] = weight * (one - one / safe + short / least) / (one + e / knee)
                    total += knee * np.log(one + e / knee) - _F(0.5) * change[n] * change[n]
                for c in range(9):
                    row, flat = cells[c, j + 1], weight if c % 4 == 0 else _F(0)
                    for n in range(1, columns):
                        row[n] = slope[n] * row[n] - flat * change[n]
        if i < lo:
            continue
        energy[i] = weight * total
        before = planes[(i + 1) % 2]
        for j in range(rows):
            for c in range(3):
                row = out[c, i, j]
                row[:] = 0
                for k in range(3):
                    f, g = before[3 * c + k], cells[3 * c + k]
                    _spread(f[j], f[j + 1], g[j], g[j + 1], k, row)
