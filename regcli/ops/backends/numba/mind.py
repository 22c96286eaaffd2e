"""Self-similarity descriptors, from smoothed squared differences along three axes."""

import math

import numpy as np

from regcli.ops.backends.numba.slabs import inline, kernel

_F = np.float32


@kernel
def differences(lo, hi, image, distance, out):
    """out[a] (I, J, K) = (image(x) - image(x + distance on axis a))^2; the edge is repeated."""
    ni, nj, nk = image.shape
    for i in range(lo, hi):
        i1 = min(i + distance, ni - 1)
        for j in range(nj):
            j1 = min(j + distance, nj - 1)
            here, below, beside = image[i, j], image[i1, j], image[i, j1]
            o0, o1, o2 = out[0, i, j], out[1, i, j], out[2, i, j]
            for k in range(nk):
                o0[k] = (here[k] - below[k]) ** 2
            for k in range(nk):
                o1[k] = (here[k] - beside[k]) ** 2
            for k in range(nk - distance):
                o2[k] = (here[k] - here[k + distance]) ** 2
            for k in range(max(nk - distance, 0), nk):
                o2[k] = (here[k] - here[nk - 1]) ** 2


@inline
def _six(smooth, distance, i, j, k):
    """The differences to the neighbour behind and to the one ahead, on each axis."""
    return (
        smooth[0, max(i - distance, 0), j, k], smooth[0, i, j, k],
        smooth[1, i, max(j - distance, 0), k], smooth[1, i, j, k],
        smooth[2, i, j, max(k - distance, 0)], smooth[2, i, j, k],
    )  # fmt: skip


@kernel
def variances(lo, hi, smooth, distance, share, out):
    """out (I, J, K) = share times the sum of the six differences at each voxel."""
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                a, b, c, d, e, f = _six(smooth, distance, i, j, k)
                out[i, j, k] = share * (a + b + c + d + e + f)


@kernel
def descriptors(lo, hi, smooth, distance, variance, least, greatest, axes, out):
    """out (I, J, K, 2 len(axes)) = 255 exp(-difference / variance), variance clamped; uint8."""
    for i in range(lo, hi):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                rate = np.float32(-1) / min(max(variance[i, j, k], least), greatest)
                six = _six(smooth, distance, i, j, k)
                for n in range(axes.shape[0]):
                    a, b = rate * six[2 * axes[n]], rate * six[2 * axes[n] + 1]
                    out[i, j, k, 2 * n] = np.uint8(_F(255) * math.exp(a) + _F(0.5))
                    out[i, j, k, 2 * n + 1] = np.uint8(_F(255) * math.exp(b) + _F(0.5))
