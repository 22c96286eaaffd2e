"""Loops of the Gauss-Newton step: (A + R + mu) d = b by preconditioned conjugate gradients.

A is 3 x 3 per voxel (6 numbers: 00 01 02 11 12 22). R is the diffusion operator,
(R u)_c = sum_k stiffness[c, k] sum over the two neighbours y on axis k of (u_c(x) - u_c(y)),
with free edges.
"""

import numpy as np

from regcli.ops.backends.numba.slabs import inline, kernel

_F = np.float32  # a plain number or a Python int beside float32 would make all of it float64


@inline
def diffuse_row(u, c, i, j, stiffness, row):
    """row[k] = (R u)_c (i, j, k)."""
    n, line = u.shape[3], u[c, i, j]
    before, after = u[c, max(i - 1, 0), j], u[c, min(i + 1, u.shape[1] - 1), j]
    left, right = u[c, i, max(j - 1, 0)], u[c, i, min(j + 1, u.shape[2] - 1)]
    s0, s1, s2 = stiffness[c, 0], stiffness[c, 1], stiffness[c, 2]
    for k in range(n):
        twice = line[k] + line[k]
        row[k] = s0 * (twice - before[k] - after[k]) + s1 * (twice - left[k] - right[k])
    for k in range(1, n - 1):
        row[k] += s2 * (line[k] + line[k] - line[k - 1] - line[k + 1])
    if n > 1:
        row[0] += s2 * (line[0] - line[1])
        row[n - 1] += s2 * (line[n - 1] - line[n - 2])


@inline
def block_solve(m00, m01, m02, m11, m12, m22, r0, r1, r2):
    """m^-1 r of a symmetric 3 x 3 matrix."""
    c00, c01, c02 = m11 * m22 - m12 * m12, m02 * m12 - m01 * m22, m01 * m12 - m02 * m11
    c11, c12, c22 = m00 * m22 - m02 * m02, m01 * m02 - m00 * m12, m00 * m11 - m01 * m01
    scale = _F(1) / (m00 * c00 + m01 * c01 + m02 * c02)
    return (
        scale * (c00 * r0 + c01 * r1 + c02 * r2),
        scale * (c01 * r0 + c11 * r1 + c12 * r2),
        scale * (c02 * r0 + c12 * r1 + c22 * r2),
    )


@kernel
def diffuse(lo, hi, u, stiffness, out, energy):
    """out = R u, energy[i] = u . R u / 2 of each plane."""
    for i in range(lo, hi):
        total = 0.0
        for j in range(u.shape[2]):
            for c in range(3):
                diffuse_row(u, c, i, j, stiffness, out[c, i, j])
                for k in range(u.shape[3]):
                    total += u[c, i, j, k] * out[c, i, j, k]
        energy[i] = 0.5 * total


@kernel
def multiply(lo, hi, p, a, stiffness, mu, out, dot):
    """out = (A + R + mu) p, dot[i] = p . out of each plane."""
    for i in range(lo, hi):
        total = 0.0
        for j in range(p.shape[2]):
            for c in range(3):
                diffuse_row(p, c, i, j, stiffness, out[c, i, j])
            for k in range(p.shape[3]):
                p0, p1, p2 = p[0, i, j, k], p[1, i, j, k], p[2, i, j, k]
                a01, a02, a12 = a[1, i, j, k], a[2, i, j, k], a[4, i, j, k]
                q0 = out[0, i, j, k] + (a[0, i, j, k] + mu) * p0 + a01 * p1 + a02 * p2
                q1 = out[1, i, j, k] + a01 * p0 + (a[3, i, j, k] + mu) * p1 + a12 * p2
                q2 = out[2, i, j, k] + a02 * p0 + a12 * p1 + (a[5, i, j, k] + mu) * p2
                out[0, i, j, k], out[1, i, j, k], out[2, i, j, k] = q0, q1, q2
                total += p0 * q0 + p1 * q1 + p2 * q2
        dot[i] = total


@kernel
def advance(lo, hi, alpha, p, q, a, diagonal, mu, x, r, z, dot):
    """x += alpha p, r -= alpha q, z = P^-1 r, dot[i] = r . z; P the 3 x 3 blocks of the matrix.

    diagonal (3,): what R adds to the diagonal of an inner voxel.
    """
    for i in range(lo, hi):
        total = 0.0
        for j in range(p.shape[2]):
            for c in range(3):
                step, change, there, rest = p[c, i, j], q[c, i, j], x[c, i, j], r[c, i, j]
                for k in range(p.shape[3]):
                    there[k] += alpha * step[k]
                for k in range(p.shape[3]):
                    rest[k] -= alpha * change[k]
            r0, r1, r2, z0, z1, z2 = (
                r[0, i, j],
                r[1, i, j],
                r[2, i, j],
                z[0, i, j],
                z[1, i, j],
                z[2, i, j],
            )
            a00, a01, a02, a11, a12, a22 = (
                a[0, i, j],
                a[1, i, j],
                a[2, i, j],
                a[3, i, j],
                a[4, i, j],
                a[5, i, j],
            )
            for k in range(p.shape[3]):
                z0[k], z1[k], z2[k] = block_solve(
                    a00[k] + diagonal[0] + mu, a01[k], a02[k],
                    a11[k] + diagonal[1] + mu, a12[k], a22[k] + diagonal[2] + mu,
                    r0[k], r1[k], r2[k],
                )  # fmt: skip
            for k in range(p.shape[3]):
                total += r0[k] * z0[k] + r1[k] * z1[k] + r2[k] * z2[k]
        dot[i] = total


@kernel
def turn(lo, hi, z, beta, p):
    """p = z + beta p."""
    for i in range(lo, hi):
        for c in range(3):
            for j in range(p.shape[2]):
                for k in range(p.shape[3]):
                    p[c, i, j, k] = z[c, i, j, k] + beta * p[c, i, j, k]
