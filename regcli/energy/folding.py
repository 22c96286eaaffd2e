"""Folding: a price on volumes that nearly vanish or turn inside out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Regularizer
from regcli.image import Space
from regcli.ops.folds import small_volumes
from regcli.ops.penalty import Penalty


@dataclass(frozen=True)
class Folding(Regularizer):
    """weight / 2 sum of max(0, least - det)^2 over the eight one-sided determinants at a voxel.

    Beside another regularizer: it says nothing where nothing nearly folds.

    Attributes:
        weight: Without units.
        least: The determinant below which there is a price.
    """

    weight: float = 1.0
    least: float = 0.2

    def penalty(self, u: Tensor, space: Space, share: Tensor) -> Penalty:
        """See Regularizer."""
        model = small_volumes(u, self.least, self.weight * share)
        return Penalty(u, torch.zeros(3, 3), voxels=model)
