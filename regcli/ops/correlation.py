"""Local correlation of two images: its energy with derivatives, and its mean square."""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends.choose import backend, triton
from regcli.ops.backends.numba import correlation as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run_with_scratch
from regcli.ops.filter import box_sum
from regcli.ops.totals import total


def correlation_derivatives(
    fixed: Tensor, moved: Tensor, weight: Tensor, radius: int, floor: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Energy sum_x w (1 - rho) of local correlations, dE/dmoved and its Gauss-Newton curvature.

    rho is the correlation in the window around x. With both windows scaled to zero mean and unit
    length, 1 - rho is half their squared difference: a least-squares energy, whence the curvature.

    Args:
        fixed: (1, 1, I, J, K).
        moved: (1, 1, I, J, K).
        weight: (1, 1, I, J, K): of a voxel inside windows, and of the window centred on it.
        radius: Of the windows, voxels.
        floor: Added to the variances and the covariance of every window, so that flat ones count
            as matching and pull at nothing; a number or (), which on a GPU is not waited for.

    Returns:
        () float64, and two (1, 1, I, J, K).
    """
    where = backend(fixed, moved, weight)
    if where == "triton":
        return triton("correlation").derivatives(fixed, moved, weight, radius, floor)
    if where == "reference":
        return _correlation_reference(fixed, moved, weight, radius, floor)
    f, m, w = (t[0, 0].contiguous().numpy() for t in (fixed, moved, weight))
    planes, rows, columns = f.shape
    # one volume more than needed: the blocks are then those of a Hessian and of a step
    windows, loss = empty(6, *f.shape).numpy(), np.empty(planes)
    size = loops.scratch_size(6, radius, rows, columns)
    arrays = (f, m, w, radius, float(floor), windows, loss)
    run_with_scratch(loops.coefficients, planes, size, *arrays)
    slope, curvature, _ = empty(3, *fixed.shape)
    size = loops.scratch_size(5, radius, rows, columns)
    arrays = (windows, w, f, m, radius, slope[0, 0].numpy(), curvature[0, 0].numpy())
    run_with_scratch(loops.derivatives, planes, size, *arrays)
    return torch.tensor(loss.sum(), dtype=torch.float64), slope, curvature


def _correlation_reference(
    fixed: Tensor, moved: Tensor, weight: Tensor, radius: int, floor: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    f, m, w = fixed, moved, weight
    stack = torch.cat([w, w * f, w * m, w * f * f, w * m * m, w * f * m], dim=1)
    n, sf, sm, sff, smm, sfm = box_sum(stack, radius).split(1, dim=1)
    valid = ((w > 0) & (n > loops.LEAST)).to(f.dtype)
    n = n.clamp(min=loops.LEAST)
    mean_f, mean_m = sf / n, sm / n
    ff = (sff - n * mean_f * mean_f).clamp(min=0) + n * floor
    mm = (smm - n * mean_m * mean_m).clamp(min=0) + n * floor
    a = (ff * mm).rsqrt()
    rho = (sfm - n * mean_f * mean_m + n * floor) * a
    value = (valid * w * (1 - rho)).sum(dtype=torch.float64)
    b = rho / mm
    stack = torch.cat([a, a * mean_f, b, b * mean_m, 1 / mm], dim=1) * (valid * w)
    a, af, b, bm, c = box_sum(stack, radius).split(1, dim=1)
    return value, -w * (f * a - af - m * b + bm), w * c


def squared_correlation(a: Tensor, b: Tensor, weight: Tensor, radius: int, flat: float) -> float:
    """Mean over voxels, by weight, of the squared correlation in the window around each.

    Args:
        a: (1, 1, I, J, K), about standardised; on the CPU, as the others.
        b: (1, 1, I, J, K).
        weight: (1, 1, I, J, K): of a voxel inside windows, and of the window centred on it.
        radius: Of the windows, voxels.
        flat: Windows in which either variance is at most this count 0.
    """
    arrays = [t[0, 0].contiguous().numpy() for t in (a, b, weight)]
    planes, rows, columns = arrays[0].shape
    size, out = loops.scratch_size(6, radius, rows, columns), np.empty(planes)
    run_with_scratch(loops.squared, planes, size, *arrays, radius, flat, out)
    return float(out.sum()) / float(total(weight))
