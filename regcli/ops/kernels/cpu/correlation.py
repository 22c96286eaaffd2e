"""Local correlation: window sums to energy and derivatives, per voxel."""

from regcli.ops.kernels.cpu.slabs import kernel


@kernel
def products(lo, hi, weight, fixed, moved, out):
    """out[0..5] = w, w f, w m, w f f, w m m, w f m."""
    for i in range(lo, hi):
        for j in range(fixed.shape[1]):
            for k in range(fixed.shape[2]):
                w, f, m = weight[i, j, k], fixed[i, j, k], moved[i, j, k]
                out[0, i, j, k] = w
                out[1, i, j, k] = w * f
                out[2, i, j, k] = w * m
                out[3, i, j, k] = w * f * f
                out[4, i, j, k] = w * m * m
                out[5, i, j, k] = w * f * m


@kernel
def windows(lo, hi, sums, weight, floor, out, loss):
    """Per window: its share of the energy, and the coefficients of its derivatives.

    sums (6, I, J, K): window sums of `products`. The window at x counts weight[x] (1 - rho).
    out[0..4]: a = 1/(|f||m|), a mean(f), b = rho/|m|^2, b mean(m), 1/|m|^2; all times the weight.
    floor: added to both variances and the covariance, per voxel: flat windows count as matching.
    """
    for i in range(lo, hi):
        total = 0.0
        for j in range(weight.shape[1]):
            for k in range(weight.shape[2]):
                n, w = sums[0, i, j, k], weight[i, j, k]
                if w <= 0 or n < 2:
                    for q in range(5):
                        out[q, i, j, k] = 0.0
                    continue
                mean_f, mean_m = sums[1, i, j, k] / n, sums[2, i, j, k] / n
                ff = max(sums[3, i, j, k] - n * mean_f * mean_f, 0.0) + n * floor
                mm = max(sums[4, i, j, k] - n * mean_m * mean_m, 0.0) + n * floor
                fm = sums[5, i, j, k] - n * mean_f * mean_m + n * floor
                a = 1.0 / (ff * mm) ** 0.5
                rho = fm * a
                total += w * (1.0 - rho)
                a, b, c = w * a, w * rho / mm, w / mm
                out[0, i, j, k] = a
                out[1, i, j, k] = a * mean_f
                out[2, i, j, k] = b
                out[3, i, j, k] = b * mean_m
                out[4, i, j, k] = c
        loss[i] = total


@kernel
def derivatives(lo, hi, sums, weight, fixed, moved, slope, curvature):
    """dE/dm = -(f sum a - sum a mean(f) - m sum b + sum b mean(m)); curvature sum 1/|m|^2."""
    for i in range(lo, hi):
        for j in range(fixed.shape[1]):
            for k in range(fixed.shape[2]):
                w = weight[i, j, k]
                slope[i, j, k] = -w * (
                    fixed[i, j, k] * sums[0, i, j, k]
                    - sums[1, i, j, k]
                    - moved[i, j, k] * sums[2, i, j, k]
                    + sums[3, i, j, k]
                )
                curvature[i, j, k] = w * sums[4, i, j, k]
