"""Features: squared differences of what a network says of two images."""

from dataclasses import dataclass

from torch import Tensor

from regcli.energy.base import Similarity
from regcli.ops.match import Moved, Quadratic, squares

ONE = 255  # probability 1, as bytes hold it


@dataclass(frozen=True)
class Features(Similarity):
    """Squared differences of probabilities: 1 where both are certain, and disagree.

    Attributes:
        weight: Factor in a sum of similarities.
    """

    weight: float = 1.0

    def describe(self, image: Tensor) -> Tensor:
        """See Similarity; a network has described what comes here already."""
        return image

    def model(
        self, fixed: Tensor, moved: Moved, weight: Tensor, onto: Quadratic | None = None
    ) -> Quadratic:
        """See Similarity."""
        return squares(moved, fixed, weight, self.weight / ONE**2, onto)
