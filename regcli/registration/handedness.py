"""Handedness: whether a pair would be more alike if one of the images were mirrored.

A brain turned over from left to right registers onto another nearly as well as it should, and
nothing else in the numbers tells. But no person is symmetric, and all a little in the same way.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.information import MI
from regcli.ops.correlation import squared_correlation
from regcli.registration.levels import Watch
from regcli.registration.linear import centre_of_mass, refined, typical_extent
from regcli.registration.normalize import FOREGROUND
from regcli.registration.pyramid import Prepared

_DIVISION = 48  # level on which it is measured, in voxels along an average axis
_STEPS = (("rigid", 15), ("affine", 20))
_RADIUS, _FLAT = 2, 1e-4  # of windows; variance of one that says nothing


@dataclass(frozen=True)
class Handedness:
    """Mean squared local correlation, 0 to 1, after an affine.

    Attributes:
        as_is: Of the pair.
        mirrored: Of the pair with the fixed image mirrored from left to right.
    """

    as_is: float
    mirrored: float


def handedness(fixed: Prepared, moving: Prepared, affine: Tensor) -> Handedness:
    """How alike two images are, and how alike they would be if one were mirrored.

    Args:
        fixed: Image.
        moving: Image.
        affine: (4, 4) fixed world to moving world, which aligns them.
    """
    spacing = typical_extent(fixed) / _DIVISION
    coarse, other = fixed.at(spacing), moving.at(spacing)
    mirror = torch.eye(4, dtype=torch.float64)
    mirror[0, 0] = -1
    mirror[0, 3] = 2 * centre_of_mass(coarse)[0]
    # both are refined: what has been aligned longer would have the advantage
    starts = {"as is": affine, "mirrored": affine @ mirror}
    ends = refined(coarse, other, MI(weight=1.0), starts, Watch(lambda *_: None), _STEPS)
    return Handedness(*(_likeness(coarse, other, end.matrix) for end in ends))


def _likeness(fixed: Prepared, moving: Prepared, affine: Tensor) -> float:
    moved = moving.onto(fixed.space, affine)
    weight = fixed.weights * moved.weights * (fixed.data > FOREGROUND)
    if not bool(weight.any()):
        return 0.0
    volumes = (fixed.data.cpu(), moved.data.cpu(), weight.cpu())
    return squared_correlation(*volumes, _RADIUS, _FLAT)
