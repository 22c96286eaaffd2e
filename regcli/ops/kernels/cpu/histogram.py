"""Joint histograms of two images, and values read back from tables over them."""

from regcli.ops.kernels.cpu.slabs import inline, kernel


@inline
def _bin(value, bins):
    """Lower bin and weight of the upper one, for a value in [0, 1]; bin centres at 0 and 1."""
    x = min(max(value, 0.0), 1.0) * (bins - 1)
    lower = min(int(x), bins - 2)
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
def lookup(lo, hi, fixed, moved, weight, table, out):
    """out[x] = weight * table(fixed, moved), bilinear between bins."""
    bins = table.shape[0]
    for i in range(lo, hi):
        for j in range(fixed.shape[1]):
            for k in range(fixed.shape[2]):
                p, a = _bin(fixed[i, j, k], bins)
                q, b = _bin(moved[i, j, k], bins)
                out[i, j, k] = weight[i, j, k] * (
                    (1 - a) * ((1 - b) * table[p, q] + b * table[p, q + 1])
                    + a * ((1 - b) * table[p + 1, q] + b * table[p + 1, q + 1])
                )
