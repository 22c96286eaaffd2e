"""Sums over intensities: moments, joint histograms and tables looked up by pairs."""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.backends.choose import backend
from regcli.ops.backends.numba import histogram as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run


def moments(image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance, () float64; the variance is at least 1e-12.

    Args:
        image: (1, 1, I, J, K), about in [0, 1].
        weight: (1, 1, I, J, K).
    """
    if backend(image) != "numba":
        n = weight.sum(dtype=torch.float64).clamp(min=1e-12)
        mean = (weight * image).sum(dtype=torch.float64) / n
        variance = (weight * (image - mean.to(image)).square()).sum(dtype=torch.float64) / n
        return mean, variance.clamp(min=1e-12)
    sums = np.empty((image.shape[2], 3))
    arrays = (t[0, 0].contiguous().numpy() for t in (image, weight))
    run(loops.moments, image.shape[2], *arrays, sums)
    n, first, second = torch.from_numpy(sums.sum(0))
    mean = first / n.clamp(min=1e-12)
    return mean, (second / n.clamp(min=1e-12) - mean * mean).clamp(min=1e-12)


def index_moments(stack: Tensor) -> Tensor:
    """Sums over voxels of v i^p j^q k^r for p, q, r = 0, 1, 2: (C, I, J, K) to (C, 3, 3, 3).

    Float64, on the CPU.
    """
    index = [torch.arange(n, dtype=torch.float64) for n in stack.shape[1:]]
    powers = [torch.stack([torch.ones_like(x), x, x * x]) for x in index]  # (3, n) each
    if backend(stack) == "numba":
        planes = np.empty((stack.shape[1], stack.shape[0], 3, 3))
        run(loops.index_moments, stack.shape[1], stack.numpy(), planes)
        sums = torch.from_numpy(planes)
    else:
        wide = stack.to("cpu", torch.float64)
        sums = torch.einsum("cijk,qj,rk->icqr", wide, powers[1], powers[2])
    return torch.einsum("icqr,pi->cpqr", sums, powers[0])


def joint_histogram(fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
    """Weights of the pairs (fixed, moved), each in [0, 1]: (bins, bins) float64, fixed first.

    Args:
        fixed: (1, 1, I, J, K).
        moved: (1, 1, I, J, K).
        weight: (1, 1, I, J, K).
        bins: The first is centred on 0, the last on 1; a pair is shared among the nearest four.
    """
    if backend(moved) != "numba":
        return _histogram_reference(fixed, moved, weight, bins)
    f, m, w = (t[0, 0].contiguous().numpy() for t in (fixed, moved, weight))
    out = np.empty((f.shape[0], bins, bins))
    run(loops.joint, f.shape[0], f, m, w, out)
    return torch.from_numpy(out.sum(0))


def _histogram_reference(fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
    lower, upper = [], []
    for image in (fixed, moved):
        x = image.flatten().clamp(0, 1) * (bins - 1)
        low = x.long().clamp(max=bins - 2)
        lower.append(low)
        upper.append((x - low).to(torch.float64))
    w = weight.flatten().to(torch.float64)
    out = torch.zeros(bins * bins, dtype=torch.float64, device=moved.device)
    for p in (0, 1):
        for q in (0, 1):
            share = (upper[0] if p else 1 - upper[0]) * (upper[1] if q else 1 - upper[1])
            out.index_add_(0, (lower[0] + p) * bins + lower[1] + q, w * share)
    return out.view(bins, bins)


def lookup(fixed: Tensor, moved: Tensor, weight: Tensor, tables: Tensor) -> Tensor:
    """weight * tables(fixed, moved), bilinear between the bins of `joint_histogram`.

    Args:
        fixed: (1, 1, I, J, K).
        moved: (1, 1, I, J, K).
        weight: (1, 1, I, J, K).
        tables: (T, bins, bins).

    Returns:
        (1, T, I, J, K).
    """
    if backend(moved) != "numba":
        return _lookup_reference(fixed, moved, weight, tables)
    out = empty(1, len(tables), *moved.shape[2:])
    arrays = (t[0, 0].contiguous().numpy() for t in (fixed, moved, weight))
    flat = tables.to(torch.float32).flatten(1).contiguous().numpy()
    run(loops.lookup, moved.shape[2], *arrays, flat, out[0].numpy())
    return out


def _lookup_reference(fixed: Tensor, moved: Tensor, weight: Tensor, tables: Tensor) -> Tensor:
    where = torch.stack([fixed.flatten(), moved.flatten(), torch.zeros_like(moved.flatten())])
    grid = (where.clamp(0, 1) * (tables.shape[1] - 1)).view(1, 3, -1, 1, 1)
    values = reference.linear(tables.to(moved)[None, ..., None], grid)  # (1, T, N, 1, 1)
    return weight * values.view(1, len(tables), *moved.shape[2:])
