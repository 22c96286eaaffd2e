"""MI: mutual information, for images of any two contrasts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Similarity
from regcli.errors import RecipeError
from regcli.ops.filter import gaussian
from regcli.ops.histogram import joint_histogram, lookup
from regcli.ops.match import Moved, Quadratic, pointwise
from regcli.ops.totals import total

_MOST_BINS = 1024


@dataclass(frozen=True)
class MI(Similarity):
    """1 minus the share of the fixed entropy that the moved image tells, times the voxels.

    That is the mutual information over the entropy of the fixed image where both overlap. The
    information alone grows where the overlap loses background: it preferred heads turned by 180
    degrees, or moved by a voxel, to the right place.

    The derivative by a moved intensity is minus the score d/dm log p(f, m) / p(m). The curvature
    is the Fisher information of m given f, the mean square of that score: Gauss-Newton for a
    likelihood.

    Attributes:
        bins: Of each axis of the joint histogram.
        weight: Factor in a sum of similarities. Histograms explain single voxels, not windows:
            with more weight than this, a dense map follows noise.

    Source: Wells et al., MedIA 1996; Hermosillo et al., IJCV 2002.
    """

    bins: int = 32
    weight: float = 0.25

    def __post_init__(self) -> None:
        """Refuse what is no histogram.

        Raises:
            RecipeError: If there is a single bin, or more than images can fill.
        """
        if not 2 <= self.bins <= _MOST_BINS:
            raise RecipeError(
                f"mi:bins={self.bins} is no histogram.", f"Use 2 to {_MOST_BINS}; 32 is normal."
            )

    def describe(self, image: Tensor) -> Tensor:
        """See Similarity."""
        return image

    def model(
        self, fixed: Tensor, moved: Moved, weight: Tensor, onto: Quadratic | None = None
    ) -> Quadratic:
        """See Similarity."""
        n, image = total(weight).clamp(min=1e-12), moved.values
        joint = joint_histogram(fixed, image, weight, self.bins) / n
        smooth = gaussian(joint[None, None, None].to(torch.float32), (0.0, 1.0, 1.0))
        joint = smooth[0, 0, 0].to(torch.float64) + 1e-3 / self.bins**2
        joint = joint / joint.sum()
        p_f, p_m = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
        information = (joint * (joint / (p_f * p_m)).log()).sum()
        score = torch.gradient((joint / p_m).log(), dim=1)[0] * (self.bins - 1)
        fisher = (joint * score.square()).sum(1, keepdim=True) / p_f
        scale = -self.weight / (p_f * p_f.log()).sum()
        tables = scale * torch.stack([-score, fisher.expand_as(score)])
        slope, curvature = lookup(fixed, image, weight, tables).split(1, dim=1)
        value = n * (self.weight - scale * information)
        return pointwise(value, image, slope, curvature, onto)
