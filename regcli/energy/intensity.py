"""Similarities of intensities: SSD, NCC and LNCC, for images of the same contrast."""

from dataclasses import dataclass

from torch import Tensor

from regcli.energy.base import Similarity
from regcli.ops.correlation import correlation_derivatives
from regcli.ops.histogram import moments
from regcli.ops.match import Moved, Quadratic, pointwise, squares
from regcli.ops.totals import total


@dataclass(frozen=True)
class SSD(Similarity):
    """Squared differences, in units of the fixed image's variance.

    Attributes:
        weight: Factor in a sum of similarities.
    """

    weight: float = 1.0

    def describe(self, image: Tensor) -> Tensor:
        """See Similarity."""
        return image

    def model(
        self, fixed: Tensor, moved: Moved, weight: Tensor, onto: Quadratic | None = None
    ) -> Quadratic:
        """See Similarity."""
        _, variance = moments(fixed, weight)
        return squares(moved, fixed, weight / variance.to(weight), self.weight, onto)


@dataclass(frozen=True)
class NCC(Similarity):
    """1 minus the correlation of the whole images, times the number of voxels.

    With both images scaled to zero mean and unit variance, that is half their squared difference.

    Attributes:
        weight: Factor in a sum of similarities.
    """

    weight: float = 1.0

    def describe(self, image: Tensor) -> Tensor:
        """See Similarity."""
        return image

    def model(
        self, fixed: Tensor, moved: Moved, weight: Tensor, onto: Quadratic | None = None
    ) -> Quadratic:
        """See Similarity."""
        n, image = total(weight).clamp(min=1e-12), moved.values
        (mean_f, var_f), (mean_m, var_m) = moments(fixed, weight), moments(image, weight)
        f = (fixed - mean_f.to(fixed)) * var_f.rsqrt().to(fixed)
        m = (image - mean_m.to(image)) * var_m.rsqrt().to(image)
        rho = total(weight * f * m) / n
        slope = -self.weight * weight * (f - rho.to(f) * m) * var_m.rsqrt().to(f)
        curvature = (self.weight / var_m).to(f) * weight
        return pointwise(self.weight * n * (1 - rho), image, slope, curvature, onto)


@dataclass(frozen=True)
class LNCC(Similarity):
    """1 minus the correlation in the window around each voxel, summed over voxels.

    Attributes:
        radius: Windows have 2 * radius + 1 voxels along each axis.
        weight: Factor in a sum of similarities.
        floor: Share of the image's variance added to every window's: flat windows are noise.
    """

    radius: int = 3
    weight: float = 1.0
    floor: float = 1e-2

    def describe(self, image: Tensor) -> Tensor:
        """See Similarity."""
        return image

    def model(
        self, fixed: Tensor, moved: Moved, weight: Tensor, onto: Quadratic | None = None
    ) -> Quadratic:
        """See Similarity."""
        floor = self.floor * moments(fixed, weight)[1]  # a tensor: a GPU is not waited for
        derivatives = correlation_derivatives(fixed, moved.values, weight, self.radius, floor)
        value, slope, curvature = derivatives
        if self.weight != 1:
            slope, curvature = slope.mul_(self.weight), curvature.mul_(self.weight)
        return pointwise(self.weight * value, moved.values, slope, curvature, onto)
