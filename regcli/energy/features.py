"""Features: squared differences of what a network says of two images."""

from dataclasses import dataclass

from torch import Tensor

from regcli.energy.base import Similarity
from regcli.ops.match import Moved, Quadratic, squares


@dataclass(frozen=True)
class Features(Similarity):
    """Squared differences of probabilities: 1 where both are certain, and disagree.

    Attributes:
        weight: Factor in a sum of similarities.
        one: What stands for probability 1.
    """

    weight: float = 1.0
    one: float = 255.0

    def describe(self, image: Tensor) -> Tensor:
        """See Similarity; a network has described what comes here already."""
        return image

    def model(
        self, fixed: Tensor, moved: Moved, weight: Tensor, onto: Quadratic | None = None
    ) -> Quadratic:
        """See Similarity."""
        return squares(moved, fixed, weight, self.weight / self.one**2, onto)
