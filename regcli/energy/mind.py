"""MIND: self-similarity descriptors, comparable across contrasts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Similarity
from regcli.ops.filter import gaussian
from regcli.ops.match import Quadratic, squares


@dataclass(frozen=True)
class MIND(Similarity):
    """Squared differences of modality-independent neighbourhood descriptors.

    Each voxel is described by how alike the patch around it and the patches at six neighbours
    are: exp(-D / V), D the Gaussian-weighted squared difference and V its mean over the six.

    Attributes:
        distance: Of the neighbours, voxels.
        sigma: Of the patches, voxels.
        weight: Factor in a sum of similarities.

    Source: Heinrich et al., MedIA 2012.
    """

    distance: int = 2
    sigma: float = 0.5
    weight: float = 1.0

    def describe(self, image: Tensor) -> Tensor:
        """See Similarity."""
        parts = []
        for axis in (2, 3, 4):
            n = image.shape[axis]
            if n == 1:
                continue
            for step in (-self.distance, self.distance):
                index = (torch.arange(n, device=image.device) + step).clamp(0, n - 1)
                parts.append((image - image.index_select(axis, index)).square())
        D = gaussian(torch.cat(parts, dim=1), self.sigma)
        V = D.mean(dim=1, keepdim=True)
        typical = float(V.mean()) or 1.0
        V = V.clamp(min=1e-3 * typical, max=1e3 * typical)
        out = torch.exp(-D / V)
        return out.contiguous(memory_format=torch.channels_last_3d)

    def model(self, fixed: Tensor, moved: Tensor, weight: Tensor) -> Quadratic:
        """See Similarity."""
        return squares(moved, fixed, weight, self.weight)
