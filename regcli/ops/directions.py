"""In how many directions features change: the singular values of their gradients."""

import torch
from torch import Tensor

from regcli.ops.filter import gradient

_PLANES = 8  # at a time: gradients of all channels in float64 take 24 bytes a voxel and channel


def singular_values(features: Tensor, matrix: Tensor) -> Tensor:
    """Singular values of the C x 3 matrix J of the features' spatial gradients, at every voxel.

    Their squares are the eigenvalues of the 3 x 3 matrix that the paper calls J J^T. Gradients are
    central differences, one-sided at the edges; those of bytes are added without rounding.

    Args:
        features: (C, I, J, K), of any type.
        matrix: (3, 3), whose columns are the steps along the array axes, mm.

    Returns:
        (3, I, J, K) float32, falling, in units of the features per mm.

    Source: Jena et al., DIO, 2025, A.1.
    """
    out = torch.empty(3, *features.shape[1:])
    planes = features.shape[1]
    inverse = torch.linalg.inv(matrix.to("cpu", torch.float64))
    for start in range(0, planes, _PLANES):
        stop = min(start + _PLANES, planes)
        first = max(start - 1, 0)  # a plane more on both sides, for differences across
        slab = features[:, first : stop + 1].to("cpu", torch.float64)
        g = gradient(slab[:, None])[:, :, start - first : stop - first]  # (C, 3, i, J, K)
        S = torch.empty(*g.shape[2:], 3, 3, dtype=torch.float64)
        for d in range(3):
            for e in range(d + 1):
                S[..., d, e] = S[..., e, d] = (g[:, d] * g[:, e]).sum(dim=0)
        squared = torch.linalg.eigvalsh(inverse.T @ S @ inverse)  # rising
        out[:, start:stop] = squared.clamp(min=0).sqrt().flip(-1).movedim(-1, 0)
    return out


def rounding_bound(channels: int, matrix: Tensor, unit: float) -> float:
    """The singular values that rounding alone can produce where features are constant.

    Args:
        channels: How many features.
        matrix: (3, 3), whose columns are the steps along the array axes, mm.
        unit: What features are rounded to a multiple of.

    Returns:
        A bound for central differences, in units of the features per mm.
    """
    steepest = float(torch.linalg.matrix_norm(torch.linalg.inv(matrix.double()), 2))
    return 0.5 * unit * (3 * channels) ** 0.5 * steepest
