"""Volume: a price on the logarithm of determinants, so that shears come before swelling."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Regularizer
from regcli.energy.regularizers import dilatation
from regcli.image import Space
from regcli.ops.penalty import Penalty
from regcli.ops.volume import has_loops, pressure, pressure_reference

_NONE = torch.zeros(3, 3)


@dataclass(frozen=True)
class Volume(Regularizer):
    """weight sum of det - 1 - log det, det the determinant of x + u(x) in the middle of 8 voxels.

    Near 1 it is weight / 2 (det - 1)^2; vanishing costs without bound, as much growth as that
    little. Over the steps that are composed with a map, its force is the gradient of log det.
    Beside another regularizer: shears are free.

    Attributes:
        weight: Without units; larger keeps volumes more.

    Source: Leow et al., TMI 2007; Yanovsky et al., MedIA 2009.
    """

    weight: float = 0.2

    def penalty(self, u: Tensor, space: Space, share: Tensor) -> Penalty:
        """See Regularizer."""
        if not share.dim() and has_loops(u):
            bulk = self.weight * float(share)
            offset, pull = pressure(u, bulk)
            return Penalty(u, _NONE, bulk=bulk, offset=offset, pull=pull)
        offset, pull = pressure_reference(u, self.weight * share)
        return Penalty(u, _NONE, dilatation(u, space, self.weight, share), offset, pull)
