"""Between a grid and one with half as many voxels along each axis; axes of one voxel stay.

A coarse voxel covers two fine ones along an axis, the last one a single one if their number is odd.
"""

import math

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.backends.choose import backend
from regcli.ops.backends.numba import twogrid as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run


def factors(fine: Tensor) -> list[int]:
    """2 along each of the last three axes, 1 where there is one voxel."""
    return [2 if n > 1 else 1 for n in fine.shape[2:]]


def restrict(fine: Tensor) -> Tensor:
    """Sums over the fine voxels of each coarse one.

    Args:
        fine: (B, C, I, J, K), floats or bool.

    Returns:
        (B, C, i, j, k) with i = ceil(I / 2) and so on.
    """
    steps = factors(fine)
    if backend(fine) != "numba":
        return reference.restrict(fine.float() if fine.dtype == torch.bool else fine, steps)
    shape = [math.ceil(n / f) for n, f in zip(fine.shape[2:], steps, strict=True)]
    out = empty(*fine.shape[:2], *shape)
    plain = fine.view(torch.uint8) if fine.dtype == torch.bool else fine.to(torch.float32)
    for part, sums in zip(plain, out, strict=True):
        run(loops.restrict, shape[0], part.contiguous().numpy(), np.array(steps), sums.numpy())
    return out


def average(fine: Tensor) -> Tensor:
    """Means over the fine voxels of each coarse one: (B, C, I, J, K) to (B, C, i, j, k)."""
    counts = [
        torch.full((math.ceil(n / f),), float(f))
        for n, f in zip(fine.shape[2:], factors(fine), strict=True)
    ]
    for axis, count in enumerate(counts):
        if fine.shape[2 + axis] % 2 and len(count) > 1:
            count[-1] = 1
    i, j, k = (1 / count for count in counts)
    share = i.view(-1, 1, 1) * j.view(-1, 1) * k
    return restrict(fine).mul_(share.to(fine.device))


def prolong(coarse: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Values at fine voxels, linear between the centres of coarse ones and constant beyond them.

    Args:
        coarse: (1, C, i, j, k), as `restrict` gives it.
        shape: (I, J, K) of the fine grid.

    Returns:
        (1, C, I, J, K).
    """
    steps = [2 if n > 1 else 1 for n in shape]
    if backend(coarse) != "numba":
        return reference.prolong(coarse, steps, shape)
    out = empty(*coarse.shape[:2], *shape)
    run(loops.prolong, shape[0], coarse[0].numpy(), np.array(steps), out[0].numpy())
    return out


def blend(fine: Tensor, share: Tensor, smooth: Tensor) -> Tensor:
    """`fine` with a share of it replaced by something smooth, in the same memory.

    Args:
        fine: (1, C, I, J, K), overwritten.
        share: (1, 1, i, j, k) in [0, 1].
        smooth: (1, C, i, j, k).

    Returns:
        fine + share (smooth - fine), share and smooth doubled.
    """
    steps, (i, j, k) = factors(fine), fine.shape[2:]
    if backend(fine) != "numba":
        part, other = (reference.prolong(t, steps, (i, j, k)) for t in (share, smooth))
        return fine.add_(part * (other - fine))
    arrays = (share[0].numpy(), smooth[0].numpy(), np.array(steps), fine[0].numpy())
    run(loops.blend, i, *arrays)
    return fine


def touched_rows(share: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The rows along the last axis that `blend` with this share changes, and their neighbours.

    Args:
        share: (1, 1, i, j, k).
        shape: (I, J, K) of the fine grid.

    Returns:
        (I, J) bool.
    """
    rows = (share[0].amax(dim=3) > 0).to(torch.float32)[:, None]  # (1, 1, i, j)
    rows = torch.nn.functional.max_pool2d(rows, 3, stride=1, padding=1)[0, 0]
    for axis in (0, 1):
        if shape[axis] > 1:
            rows = rows.repeat_interleave(2, dim=axis)
    return rows[: shape[0], : shape[1]] > 0
