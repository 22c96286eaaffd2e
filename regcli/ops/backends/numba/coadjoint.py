"""How a map carries momentum: its Jacobian's transpose and determinant, at every voxel."""

from regcli.ops.backends.numba.match import span
from regcli.ops.backends.numba.slabs import kernel


@kernel
def coadjoint(lo, hi, u, m, size, out):
    """out = det(D) size^-1 D^T (size m) with D = I + Du; size (3,) are squared spacings."""
    s0, s1, s2 = size[0], size[1], size[2]
    for i in range(lo, hi):
        i0, i1, wi = span(i, u.shape[1])
        for j in range(u.shape[2]):
            j0, j1, wj = span(j, u.shape[2])
            for k in range(u.shape[3]):
                k0, k1, wk = span(k, u.shape[3])
                d00 = 1 + wi * (u[0, i1, j, k] - u[0, i0, j, k])
                d10 = wi * (u[1, i1, j, k] - u[1, i0, j, k])
                d20 = wi * (u[2, i1, j, k] - u[2, i0, j, k])
                d01 = wj * (u[0, i, j1, k] - u[0, i, j0, k])
                d11 = 1 + wj * (u[1, i, j1, k] - u[1, i, j0, k])
                d21 = wj * (u[2, i, j1, k] - u[2, i, j0, k])
                d02 = wk * (u[0, i, j, k1] - u[0, i, j, k0])
                d12 = wk * (u[1, i, j, k1] - u[1, i, j, k0])
                d22 = 1 + wk * (u[2, i, j, k1] - u[2, i, j, k0])
                det = (
                    d00 * (d11 * d22 - d12 * d21)
                    - d01 * (d10 * d22 - d12 * d20)
                    + d02 * (d10 * d21 - d11 * d20)
                )
                p0, p1, p2 = s0 * m[0, i, j, k], s1 * m[1, i, j, k], s2 * m[2, i, j, k]
                out[0, i, j, k] = det * (d00 * p0 + d10 * p1 + d20 * p2) / s0
                out[1, i, j, k] = det * (d01 * p0 + d11 * p1 + d21 * p2) / s1
                out[2, i, j, k] = det * (d02 * p0 + d12 * p1 + d22 * p2) / s2
