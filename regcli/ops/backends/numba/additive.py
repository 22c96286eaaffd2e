"""From a model of composed steps to one of added steps: the map's Jacobian is taken out."""

from regcli.ops.backends.numba.match import span
from regcli.ops.backends.numba.slabs import inline, kernel


@inline
def _inverse(j00, j01, j02, j10, j11, j12, j20, j21, j22):
    """Inverse of a 3 x 3 matrix, row by row; its determinant is kept at least 0.1 away from zero.

    At a fold, the inverse means nothing.
    """
    c0, c1, c2 = j11 * j22 - j12 * j21, j02 * j21 - j01 * j22, j01 * j12 - j02 * j11
    det = j00 * c0 + j10 * c1 + j20 * c2
    scale = 1.0 / max(abs(det), 0.1)
    if det < 0:
        scale = -scale
    return (
        scale * c0,
        scale * c1,
        scale * c2,
        scale * (j12 * j20 - j10 * j22),
        scale * (j00 * j22 - j02 * j20),
        scale * (j02 * j10 - j00 * j12),
        scale * (j10 * j21 - j11 * j20),
        scale * (j01 * j20 - j00 * j21),
        scale * (j00 * j11 - j01 * j10),
    )


@kernel
def additive(lo, hi, u, g, a, g_out, a_out):
    """g_out = B^T g, a_out = B^T A B with B = (I + Du)^-1: the model for u + d instead."""
    for i in range(lo, hi):
        i0, i1, wi = span(i, u.shape[1])
        for j in range(u.shape[2]):
            j0, j1, wj = span(j, u.shape[2])
            for k in range(u.shape[3]):
                k0, k1, wk = span(k, u.shape[3])
                j00 = 1 + wi * (u[0, i1, j, k] - u[0, i0, j, k])
                j10 = wi * (u[1, i1, j, k] - u[1, i0, j, k])
                j20 = wi * (u[2, i1, j, k] - u[2, i0, j, k])
                j01 = wj * (u[0, i, j1, k] - u[0, i, j0, k])
                j11 = 1 + wj * (u[1, i, j1, k] - u[1, i, j0, k])
                j21 = wj * (u[2, i, j1, k] - u[2, i, j0, k])
                j02 = wk * (u[0, i, j, k1] - u[0, i, j, k0])
                j12 = wk * (u[1, i, j, k1] - u[1, i, j, k0])
                j22 = 1 + wk * (u[2, i, j, k1] - u[2, i, j, k0])
                b00, b01, b02, b10, b11, b12, b20, b21, b22 = _inverse(
                    j00, j01, j02, j10, j11, j12, j20, j21, j22
                )
                g0, g1, g2 = g[0, i, j, k], g[1, i, j, k], g[2, i, j, k]
                g_out[0, i, j, k] = b00 * g0 + b10 * g1 + b20 * g2
                g_out[1, i, j, k] = b01 * g0 + b11 * g1 + b21 * g2
                g_out[2, i, j, k] = b02 * g0 + b12 * g1 + b22 * g2
                a00, a01, a02 = a[0, i, j, k], a[1, i, j, k], a[2, i, j, k]
                a11, a12, a22 = a[3, i, j, k], a[4, i, j, k], a[5, i, j, k]
                c00, c01, c02 = (  # A B
                    a00 * b00 + a01 * b10 + a02 * b20,
                    a00 * b01 + a01 * b11 + a02 * b21,
                    a00 * b02 + a01 * b12 + a02 * b22,
                )
                c10, c11, c12 = (
                    a01 * b00 + a11 * b10 + a12 * b20,
                    a01 * b01 + a11 * b11 + a12 * b21,
                    a01 * b02 + a11 * b12 + a12 * b22,
                )
                c20, c21, c22 = (
                    a02 * b00 + a12 * b10 + a22 * b20,
                    a02 * b01 + a12 * b11 + a22 * b21,
                    a02 * b02 + a12 * b12 + a22 * b22,
                )
                a_out[0, i, j, k] = b00 * c00 + b10 * c10 + b20 * c20
                a_out[1, i, j, k] = b00 * c01 + b10 * c11 + b20 * c21
                a_out[2, i, j, k] = b00 * c02 + b10 * c12 + b20 * c22
                a_out[3, i, j, k] = b01 * c01 + b11 * c11 + b21 * c21
                a_out[4, i, j, k] = b01 * c02 + b11 * c12 + b21 * c22
                a_out[5, i, j, k] = b02 * c02 + b12 * c12 + b22 * c22
