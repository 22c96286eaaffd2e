"""Cubic sampling: an interpolating B-spline, by scipy."""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.backends.numba.slabs import run
from regcli.ops.sample import Shape


def sample_cubic(
    image: Tensor, displacement: Tensor | None, *, matrix: Tensor, shape: Shape
) -> Tensor:
    """image(matrix (x + u(x))) by a cubic B-spline that passes through the voxels; zero outside.

    Args:
        image: (1, C, I, J, K) float32.
        displacement: u, (1, 3, i, j, k) voxels of the output grid, or None for zero.
        matrix: (3, 4), output voxel to image voxel.
        shape: (i, j, k) of the output.

    Returns:
        (1, C, i, j, k) float32, on the CPU.
    """
    from scipy import ndimage  # late: importing it is 0.4 s of every command

    u = None if displacement is None else displacement.cpu().to(torch.float64)
    points = reference.positions(matrix.to(torch.float64), u, shape)
    covered = reference.inside(points, (image.shape[2], image.shape[3], image.shape[4]))
    positions = points[0].numpy()
    out = np.empty((image.shape[1], *shape), np.float32)
    for channel, volume in enumerate(image[0].cpu().numpy()):
        coefficients = ndimage.spline_filter(volume, order=3, mode="mirror")

        def planes(lo: int, hi: int, c: np.ndarray = coefficients, n: int = channel) -> None:
            where = positions[:, lo:hi]
            ndimage.map_coordinates(
                c, where, out[n, lo:hi], order=3, mode="mirror", prefilter=False
            )

        run(planes, shape[0])
    return torch.from_numpy(out)[None] * covered.to(torch.float32)
