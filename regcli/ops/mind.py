"""Modality-independent neighbourhood descriptors."""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends.choose import backend
from regcli.ops.backends.numba import mind as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run
from regcli.ops.filter import gaussian
from regcli.ops.totals import mean

ONE = 255  # the descriptor 1; bytes, for two sets of six floats are a quarter of all memory
_CLAMP = 1e3  # the variance counts as at least 1 / _CLAMP, at most _CLAMP times its mean


def self_similarity(image: Tensor, distance: int, sigma: float) -> Tensor:
    """255 exp(-D / V) for the neighbours behind and ahead on each axis of more than one voxel.

    D is the squared difference of the patches around a voxel and around its neighbour, weighted by
    a Gaussian; V is the mean of D over the neighbours.

    Args:
        image: (1, 1, I, J, K).
        distance: Of the neighbours, voxels.
        sigma: Of the patches, voxels.

    Returns:
        (1, C, I, J, K) uint8, C twice the number of axes, next to each other in memory.

    Source: Heinrich et al., MedIA 2012.
    """
    axes = [axis for axis in range(3) if image.shape[2 + axis] > 1]
    if backend(image) != "numba":
        return _reference(image, distance, sigma, axes)
    shape = image.shape[2:]
    squares = empty(1, 3, *shape)
    run(loops.differences, shape[0], image[0, 0].contiguous().numpy(), distance, squares[0].numpy())
    smooth = gaussian(squares, sigma)[0].numpy()
    variance = empty(*shape)
    share = np.float32(1 / (2 * len(axes)))
    run(loops.variances, shape[0], smooth, distance, share, variance.numpy())
    typical = float(mean(variance)) or 1.0
    out = torch.empty(1, *shape, 2 * len(axes), dtype=torch.uint8)
    limits = (np.float32(typical / _CLAMP), np.float32(typical * _CLAMP))
    arrays = (smooth, distance, variance.numpy(), *limits, np.array(axes), out[0].numpy())
    run(loops.descriptors, shape[0], *arrays)
    return out.permute(0, 4, 1, 2, 3)


def _reference(image: Tensor, distance: int, sigma: float, axes: list[int]) -> Tensor:
    parts = []
    for axis in (2 + a for a in axes):
        n = image.shape[axis]
        index = torch.arange(n, device=image.device)
        ahead = image.index_select(axis, (index + distance).clamp(max=n - 1))
        smooth = gaussian((image - ahead).square(), sigma)
        parts += [smooth.index_select(axis, (index - distance).clamp(min=0)), smooth]
    D = torch.cat(parts, dim=1)
    V = D.mean(dim=1, keepdim=True)
    typical = float(mean(V)) or 1.0
    out = ONE * torch.exp(-D / V.clamp(min=typical / _CLAMP, max=typical * _CLAMP))
    return out.round().to(torch.uint8).contiguous(memory_format=torch.channels_last_3d)
