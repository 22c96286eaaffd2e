"""Moments of an image, joint histograms of two, and values read back from tables over them."""

import numba
import numpy as np

from regcli.ops.backends.numba.slabs import inline, kernel

_U = numba.uint64
_F = np.float32


@inline
def _bin(value, bins):
    """Lower bin and weight of the upper one, for a value in [0, 1]; bin centres at 0 and 1."""
    x = min(max(value, 0.0), 1.0) * (bins - 1)
    lower = max(min(int(x), bins - 2), 0)  # of no number at all, the least integer
    return lower, x - lower


@kernel
def joint(lo, hi, fixed, moved, weight, out):
    """out[i, f, m]: weight of the pairs of plane i, shared among the four nearest bins."""
    bins = out.shape[1]
    for i in range(lo, hi):
        out[i] = 0.0
        for j in range(fixed.shape[1]):
            for k in range(fixed.shape[2]):
                w = weight[i, j, k]
                if w <= 0:
                    continue
                p, a = _bin(fixed[i, j, k], bins)
                q, b = _bin(moved[i, j, k], bins)
                out[i, p, q] += w * (1 - a) * (1 - b)
                out[i, p, q + 1] += w * (1 - a) * b
                out[i, p + 1, q] += w * a * (1 - b)
                out[i, p + 1, q + 1] += w * a * b


@kernel
def lookup(lo, hi, fixed, moved, weight, tables, out):
    """out[t, x] = weight * tables[t](fixed, moved), bilinear between bins.

    tables (T, bins * bins) float32; out (T, I, J, K).
    """
    columns, bins = fixed.shape[2], int(tables.shape[1] ** 0.5 + 0.5)
    first, a, b = np.empty(columns, np.int32), np.empty(columns, _F), np.empty(columns, _F)
    for i in range(lo, hi):
        for j in range(fixed.shape[1]):
            first[:] = 0
            _row_bins(fixed[i, j], bins, np.int32(bins), first, a)
            _row_bins(moved[i, j], bins, np.int32(1), first, b)
            for t in range(tables.shape[0]):
                table, row, w = tables[t], out[t, i, j], weight[i, j]
                for k in range(columns):
                    n = _U(first[k])
                    low = table[n] + b[k] * (table[n + _U(1)] - table[n])
                    n += _U(bins)
                    high = table[n] + b[k] * (table[n + _U(1)] - table[n])
                    row[k] = w[k] * (low + a[k] * (high - low))


@inline
def _row_bins(values, bins, stride, first, share):
    """Add the lower bins of a row of values in [0, 1] to `first`; set the upper bins' weights."""
    for k in range(values.shape[0]):
        x = min(max(values[k], _F(0)), _F(1)) * _F(bins - 1)
        lower = max(np.int32(min(x, _F(bins - 2))), np.int32(0))
        share[k] = x - _F(lower)
        first[k] += lower * stride


@kernel
def moments(lo, hi, image, weight, out):
    """out[i] = sums of w, w x and w x^2 over plane i, float64."""
    for i in range(lo, hi):
        n, first, second = 0.0, 0.0, 0.0
        for j in range(image.shape[1]):
            for k in range(image.shape[2]):
                w, x = np.float64(weight[i, j, k]), np.float64(image[i, j, k])
                n += w
                first += w * x
                second += w * x * x
        out[i, 0], out[i, 1], out[i, 2] = n, first, second


@kernel
def index_moments(lo, hi, stack, out):
    """out[i, c, q, r] = sum of v j^q k^r over plane i of channel c, float64."""
    for i in range(lo, hi):
        out[i] = 0.0
        for c in range(stack.shape[0]):
            for j in range(stack.shape[2]):
                row, sum0, sum1, sum2 = stack[c, i, j], 0.0, 0.0, 0.0
                for k in range(stack.shape[3]):
                    v = float(row[k])
                    sum0 += v
                    sum1 += v * k
                    sum2 += v * k * k
                factor = 1.0
                for q in range(3):
                    out[i, c, q, 0] += factor * sum0
                    out[i, c, q, 1] += factor * sum1
                    out[i, c, q, 2] += factor * sum2
                    factor *= j
