"""Loops over displacement fields u (3, I, J, K) in voxels: compose and invert."""

import numba
import numpy as np

from regcli.ops.backends.numba.jacobian import central, determinant
from regcli.ops.backends.numba.sample import cell, grid_cells, steps_of, trilinear
from regcli.ops.backends.numba.slabs import exact_kernel, function, inline, kernel

_U = numba.uint64
_F = np.float32


@inline
def _displacement_at(flat, shape, x, y, z):
    """u (3, I, J, K) at a position, trilinear; the nearest edge outside. flat: its values."""
    row = _U(shape[3])
    plane = _U(shape[2]) * row
    whole = _U(shape[1]) * plane
    p, s0, a = cell(x, shape[1], plane)
    q, s1, b = cell(y, shape[2], row)
    r, s2, c = cell(z, shape[3], _U(1))
    n = p + q + r
    return (
        trilinear(flat, n, s0, s1, s2, a, b, c),
        trilinear(flat, n + whole, s0, s1, s2, a, b, c),
        trilinear(flat, n + whole + whole, s0, s1, s2, a, b, c),
    )


@exact_kernel
def compose(lo, hi, outer, inner, rows, out):
    """out = inner + outer(x + inner(x)), the displacement of outer after inner; same grids.

    rows (I, J) uint8: rows to compute, the others are left alone; (0, 0) for all.
    """
    _, ni, nj, nk = outer.shape
    s0, s1, s2 = steps_of(ni, nj, nk, 1)
    flat, whole = outer.reshape(-1), _U(ni * nj * nk)
    index, weights = np.empty(nk, np.int32), np.empty((3, nk), _F)
    p, q, r = weights[0], weights[1], weights[2]
    for i in range(lo, hi):
        for j in range(nj):
            if rows.shape[0] > 0 and rows[i, j] == 0:
                continue
            grid_cells(inner, i, j, index, weights)
            for c in range(3):
                first, row, target = _U(c) * whole, inner[c, i, j], out[c, i, j]
                for k in range(nk):
                    n = first + _U(index[k])
                    target[k] = row[k] + trilinear(flat, n, s0, s1, s2, p[k], q[k], r[k])


@kernel
def cap(lo, hi, d, longest):
    """Shorten the vectors of d (3, I, J, K) that are longer than `longest`."""
    for i in range(lo, hi):
        for j in range(d.shape[2]):
            d0, d1, d2 = d[0, i, j], d[1, i, j], d[2, i, j]
            for k in range(d.shape[3]):
                length = (d0[k] * d0[k] + d1[k] * d1[k] + d2[k] * d2[k]) ** 0.5
                scale = longest / max(length, longest)
                d0[k], d1[k], d2[k] = scale * d0[k], scale * d1[k], scale * d2[k]


@kernel
def lengths(lo, hi, vectors, out):
    """out (I, J, K) = |v| at every voxel of vectors (3, I, J, K)."""
    for i in range(lo, hi):
        for j in range(vectors.shape[2]):
            x, y, z, row = vectors[0, i, j], vectors[1, i, j], vectors[2, i, j], out[i, j]
            for k in range(vectors.shape[3]):
                row[k] = (x[k] * x[k] + y[k] * y[k] + z[k] * z[k]) ** 0.5


@kernel
def turn(lo, hi, matrix, vectors, out):
    """out = matrix v at every voxel; matrix (3, 3), vectors and out (3, I, J, K)."""
    for i in range(lo, hi):
        for j in range(vectors.shape[2]):
            x, y, z = vectors[0, i, j], vectors[1, i, j], vectors[2, i, j]
            for c in range(3):
                m0, m1, m2, row = matrix[c, 0], matrix[c, 1], matrix[c, 2], out[c, i, j]
                for k in range(vectors.shape[3]):
                    row[k] = m0 * x[k] + m1 * y[k] + m2 * z[k]


@function
def _newton(u, flat, i, j, k, start, tolerance, most):
    """Damped Newton steps on v + u(x + v) = 0 at voxel (i, j, k): v and residual."""
    b0, b1, b2 = start
    s0, s1, s2 = _displacement_at(flat, u.shape, i + b0, j + b1, k + b2)
    r0, r1, r2 = b0 + s0, b1 + s1, b2 + s2
    best = r0 * r0 + r1 * r1 + r2 * r2
    length = 1.0
    for _ in range(most):
        if best <= tolerance * tolerance or length < 1e-3:
            break
        p = min(max(int(i + b0 + 0.5), 0), u.shape[1] - 1)
        q = min(max(int(j + b1 + 0.5), 0), u.shape[2] - 1)
        r = min(max(int(k + b2 + 0.5), 0), u.shape[3] - 1)
        a00, a01, a02 = central(u, 0, p, q, r)
        a10, a11, a12 = central(u, 1, p, q, r)
        a20, a21, a22 = central(u, 2, p, q, r)
        if i + b0 < 0 or i + b0 > u.shape[1] - 1:  # outside, u does not change
            a00, a10, a20 = 0.0, 0.0, 0.0
        if j + b1 < 0 or j + b1 > u.shape[2] - 1:
            a01, a11, a21 = 0.0, 0.0, 0.0
        if k + b2 < 0 or k + b2 > u.shape[3] - 1:
            a02, a12, a22 = 0.0, 0.0, 0.0
        a00, a11, a22 = a00 + 1, a11 + 1, a22 + 1
        det = determinant(a00, a01, a02, a10, a11, a12, a20, a21, a22)
        if abs(det) < 0.01 or length < 0.3:
            t0, t1, t2 = r0, r1, r2  # the fixed-point step
        else:
            t0 = determinant(r0, a01, a02, r1, a11, a12, r2, a21, a22) / det
            t1 = determinant(a00, r0, a02, a10, r1, a12, a20, r2, a22) / det
            t2 = determinant(a00, a01, r0, a10, a11, r1, a20, a21, r2) / det
            # no further than the slopes can be trusted
            longest = max(abs(t0), abs(t1), abs(t2))
            if longest > 2:
                t0, t1, t2 = 2 * t0 / longest, 2 * t1 / longest, 2 * t2 / longest
        c0, c1, c2 = b0 - length * t0, b1 - length * t1, b2 - length * t2
        s0, s1, s2 = _displacement_at(flat, u.shape, i + c0, j + c1, k + c2)
        n0, n1, n2 = c0 + s0, c1 + s1, c2 + s2
        size = n0 * n0 + n1 * n1 + n2 * n2
        if size < best:
            best, b0, b1, b2, r0, r1, r2 = size, c0, c1, c2, n0, n1, n2
            length = min(1.0, 2 * length)
        else:
            length *= 0.5
    return b0, b1, b2, r0, r1, r2


@kernel
def invert(lo, hi, u, tolerance, most, v, residual):
    """v with v(x) + u(x + v(x)) = 0, by damped Newton steps at every voxel on its own.

    Plain fixed-point iteration diverges where the map stretches more than twofold; the slopes of
    u at the voxel nearest to x + v make these steps converge there too.
    residual: v(x) + u(x + v(x)), (3, I, J, K) voxels.
    """
    flat = u.reshape(-1)
    for i in range(lo, hi):
        for j in range(u.shape[2]):
            for k in range(u.shape[3]):
                b0, b1, b2 = -u[0, i, j, k], -u[1, i, j, k], -u[2, i, j, k]
                b0, b1, b2, r0, r1, r2 = _newton(u, flat, i, j, k, (b0, b1, b2), tolerance, most)
                v[0, i, j, k], v[1, i, j, k], v[2, i, j, k] = b0, b1, b2
                residual[0, i, j, k], residual[1, i, j, k], residual[2, i, j, k] = r0, r1, r2


@kernel
def invert_again(lo, hi, where, u, tolerance, most, v, residual, found):
    """Where `invert` did not converge, restart from the solutions of the 26 neighbours.

    where (N, 3): those voxels. found (N, 6): the best v and its residual of each; v, residual: of
    the pass before, read only.
    """
    flat = u.reshape(-1)
    limit = tolerance * tolerance
    for n in range(lo, hi):
        i, j, k = where[n, 0], where[n, 1], where[n, 2]
        best = np.inf
        found[n, 0], found[n, 1], found[n, 2] = v[0, i, j, k], v[1, i, j, k], v[2, i, j, k]
        for c in range(3):
            found[n, 3 + c] = residual[c, i, j, k]
        for neighbour in range(27):
            # the voxel itself first, then those around it
            turn = (neighbour + 13) % 27
            p = min(max(i + turn // 9 - 1, 0), u.shape[1] - 1)
            q = min(max(j + turn // 3 % 3 - 1, 0), u.shape[2] - 1)
            r = min(max(k + turn % 3 - 1, 0), u.shape[3] - 1)
            start = (v[0, p, q, r], v[1, p, q, r], v[2, p, q, r])
            b0, b1, b2, r0, r1, r2 = _newton(u, flat, i, j, k, start, tolerance, most)
            size = r0 * r0 + r1 * r1 + r2 * r2
            if size < best:
                best = size
                found[n, 0], found[n, 1], found[n, 2] = b0, b1, b2
                found[n, 3], found[n, 4], found[n, 5] = r0, r1, r2
            if best <= limit:
                break
