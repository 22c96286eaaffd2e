"""MIND: self-similarity descriptors, comparable across contrasts."""

from dataclasses import dataclass

from torch import Tensor

from regcli.energy.base import Similarity
from regcli.ops.match import Moved, Quadratic, squares
from regcli.ops.mind import ONE, self_similarity


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
        return self_similarity(image, self.distance, self.sigma)

    def model(
        self, fixed: Tensor, moved: Moved, weight: Tensor, onto: Quadratic | None = None
    ) -> Quadratic:
        """See Similarity."""
        return squares(moved, fixed, weight, self.weight / ONE**2, onto)
