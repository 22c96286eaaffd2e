"""Moments of an image, joint histograms of two, and values read back from tables over them."""

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


@kernel
def moments(lo, hi, image, weight, out):
    """out[i] = sums of w, w x and w x^2 over plane i, float64."""
    for i in range(lo, hi):
        n, first, second = 0.0, 0.0, 0.0
        for j in range(image.shape[1]):
            for k in range(image.shape[2]):
                w, x = float(weight[i, j, k]), float(image[i, j, k])
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
