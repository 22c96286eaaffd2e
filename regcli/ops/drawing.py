"""Drawing images from label maps: a lookup of codes, and an average of their intensities."""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends.numba import drawing as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run

CODES = 256  # places that a byte tells apart


def looked_up(
    packed: np.ndarray, kept: Tensor, matrix: Tensor, knots: Tensor, shape: tuple[int, int, int]
) -> Tensor:
    """kept[packed] at the voxels nearest to matrix (x + u(x)); 0 outside.

    Args:
        packed: (I, J, K) uint16, below 2 * CODES.
        kept: (2 * CODES,) uint8.
        matrix: (3, 4) float64, voxel of the result to voxel of `packed`.
        knots: (1, 3, a, b, c) of u, in voxels of the result; stretched over it, linear between.
        shape: (i, j, k) of the result.

    Returns:
        (1, 1, i, j, k) uint8.
    """
    out = torch.empty(shape, dtype=torch.uint8)
    run(loops.lookup, shape[0], packed, kept.numpy(), matrix.numpy(), knots[0].numpy(), out.numpy())
    return out[None, None]


def shrunk(indices: Tensor, means: Tensor, taps: list[Tensor]) -> Tensor:
    """means[indices], smoothed, at every second voxel; the edge is repeated outside.

    Args:
        indices: (1, 1, 2I-1, 2J-1, 2K-1) uint8.
        means: (N,) float32, N at most CODES.
        taps: Weights along each axis, an odd number of them.

    Returns:
        (1, 1, I, J, K) float32.
    """
    table = np.zeros(CODES, np.float32)
    table[: len(means)] = means.numpy()
    ti, tj, tk = (t.numpy() for t in taps)
    planes, rows, columns = indices.shape[2:]
    within = empty(planes, (rows + 1) // 2, (columns + 1) // 2)
    out = empty((planes + 1) // 2, *within.shape[1:])
    run(loops.shrink_planes, planes, indices[0, 0].numpy(), table, tj, tk, within.numpy())
    run(loops.shrink_across, len(out), within.numpy(), ti, out.numpy())
    return out[None, None]
