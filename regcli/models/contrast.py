"""Whether two aligned images show the same contrast, measured rather than asked for."""

import torch
from torch import Tensor

from regcli.models.linear import typical_extent
from regcli.models.pyramid import Prepared
from regcli.ops.correlation import correlation_derivatives
from regcli.ops.histogram import moments
from regcli.ops.totals import total

# After affine alignment the mean local correlation was 0.60 to 0.78 for nine T1 pairs (real and
# synthetic), 0.19 for a head against a brain, and -0.34 to -0.05 for seven T1-T2 pairs.
SAME_CONTRAST = 0.1
_DIVISION = 40  # level on which it is measured, in voxels along an average axis
_FOREGROUND = 0.1


def local_correlation(fixed: Prepared, moving: Prepared, affine: Tensor) -> float:
    """Mean correlation in windows of 5 voxels, over the foreground that both images share.

    Args:
        fixed: Image.
        moving: Image.
        affine: (4, 4) fixed world to moving world.

    Returns:
        Between -1 and 1; 0 if they share no foreground.
    """
    coarse = fixed.at(typical_extent(fixed) / _DIVISION)
    other = moving.onto(coarse.space, affine)
    shared = (coarse.data > _FOREGROUND) & (other.data > _FOREGROUND)
    weight = shared.to(torch.float32) * coarse.weights * other.weights
    count = float(total(weight))
    if count == 0:
        return 0.0
    floor = 1e-6 * float(
        moments(coarse.data, torch.ones_like(coarse.data))[1]
    )  # flat windows say nothing either way
    energy, _, _ = correlation_derivatives(coarse.data, other.data, weight, 2, floor)
    return 1 - float(energy) / count
