"""Changes of volume: the price of a displacement's determinants, for its step.

Of a determinant det it is knee log(1 + e / knee), e being det - 1 - log det.

Slopes are those in the middle of eight voxels; along an axis of one voxel nothing changes.
"""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends.choose import backend
from regcli.ops.backends.numba import volume as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run_with_scratch
from regcli.ops.stencils import Axes, along, applied, transposed

# Below this determinant the logarithm goes on as its parabola, so that steps over a fold have a
# price, too.
_LEAST = 0.1


def divergence_onto(out: Tensor, u: Tensor, weight: float, start: Tensor | None = None) -> Tensor:
    """Add R u to `out`, R being the Hessian of the price at u = 0: u . R u = weight (div u)^2.

    Args:
        out: (1, 3, I, J, K).
        u: (1, 3, I, J, K), voxels; see `has_loops`.
        weight: Factor.
        start: To what R u is added instead, for `out` to hold the sum.

    Returns:
        () float64, u . R u.
    """
    start = out if start is None else start
    _, _, planes, rows, columns = u.shape
    energy = torch.zeros(planes, dtype=torch.float64)
    size = loops.scratch_size(1, rows, columns)
    arrays = (u[0].numpy(), np.float32(weight), start[0].numpy(), out[0].numpy(), energy.numpy())
    run_with_scratch(loops.divergence, planes, size, *arrays)
    return energy.sum()


def has_loops(u: Tensor) -> bool:
    """Whether `pressure` and `divergence_onto` know fields like this one, (1, 3, I, J, K)."""
    return backend(u) == "numba" and min(u.shape[2:]) > 1


def pressure(u: Tensor, weight: float, knee: float) -> tuple[Tensor, Tensor]:
    """The penalty and its force in addition to u . R u / 2 and R u.

    Args:
        u: (1, 3, I, J, K), voxels; see `has_loops`.
        weight: Factor.
        knee: The e from which on the price grows as its logarithm.

    Returns:
        () float64 and (1, 3, I, J, K).
    """
    _, _, planes, rows, columns = u.shape
    energy, out = torch.zeros(planes, dtype=torch.float64), empty(*u.shape)
    size = loops.scratch_size(9, rows, columns)
    numbers = (np.float32(weight), np.float32(knee), np.float32(_LEAST))
    arrays = (u[0].numpy(), *numbers, out[0].numpy(), energy.numpy())
    run_with_scratch(loops.pressure, planes, size, *arrays)
    return energy.sum(), out


def pressure_reference(u: Tensor, weight: Tensor, knee: float) -> tuple[Tensor, Tensor]:
    """`pressure` on any device, and with any number of voxels along an axis.

    Args:
        u: (1, 3, I, J, K), voxels.
        weight: () or, of voxels, (1, 1, I, J, K).
        knee: See `pressure`.
    """
    solid = [axis for axis in range(3) if u.shape[2 + axis] > 1]
    means = along(dict.fromkeys(solid, "m"))
    weight = applied(weight, means) if weight.dim() else weight.to(u)
    columns = list(torch.eye(3).to(u).view(3, 1, 3, 1, 1, 1).unbind(0))
    div: Tensor | float = 0.0
    slopes: dict[int, Axes] = {a: along(dict.fromkeys(solid, "m") | {a: "d"}) for a in solid}
    for axis, what in slopes.items():
        slope = applied(u, what)
        columns[axis] = columns[axis] + slope
        div = div + slope[:, axis : axis + 1]
    whole = torch.broadcast_tensors(*columns)
    cofactors = [torch.linalg.cross(whole[a - 2], whole[a - 1], dim=1) for a in range(3)]
    det = (whole[0] * cofactors[0]).sum(1, keepdim=True)
    safe = det.clamp(min=_LEAST)
    short = (det - safe) / _LEAST
    e = (det - 1 - safe.log() - short + 0.5 * short.square()).clamp(min=0)
    price = knee * (1 + e / knee).log() - 0.5 * div * div
    force = weight * (1 - 1 / safe + short / _LEAST) / (1 + e / knee)
    out = torch.zeros_like(u)
    for axis, what in slopes.items():
        stress = force * cofactors[axis]
        stress[:, axis : axis + 1] -= weight * div
        out += transposed(stress, what)
    return (weight * price).sum(dtype=torch.float64), out
