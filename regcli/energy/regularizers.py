"""Diffusion: neighbouring voxels move alike."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Regularizer


@dataclass(frozen=True)
class Diffusion(Regularizer):
    """weight / 2 sum over neighbours of |u(x) - u(y)|^2 / h^2, u and the distance h both in mm.

    On an isotropic grid that is the squared difference in voxels, at any voxel size.

    Attributes:
        weight: Without units; larger is smoother.
    """

    weight: float = 0.15

    def stiffness(self, spacing: tuple[float, float, float]) -> Tensor:
        """See Regularizer."""
        h = torch.tensor(spacing, dtype=torch.float32)
        return self.weight * (h[:, None] / h[None, :]).square()
