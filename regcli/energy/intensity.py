"""Similarities of intensities: SSD, NCC and LNCC, for images of the same contrast."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Similarity
from regcli.ops.match import Quadratic, correlation_derivatives, pointwise, squares


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

    def model(self, fixed: Tensor, moved: Tensor, weight: Tensor) -> Quadratic:
        """See Similarity."""
        _, variance = _moments(fixed, weight)
        return squares(moved, fixed, weight, self.weight / float(variance))


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

    def model(self, fixed: Tensor, moved: Tensor, weight: Tensor) -> Quadratic:
        """See Similarity."""
        n = weight.sum(dtype=torch.float64).clamp(min=1e-12)
        (mean_f, var_f), (mean_m, var_m) = _moments(fixed, weight), _moments(moved, weight)
        f = (fixed - mean_f.to(fixed)) * var_f.rsqrt().to(fixed)
        m = (moved - mean_m.to(moved)) * var_m.rsqrt().to(moved)
        rho = (weight * f * m).sum(dtype=torch.float64) / n
        slope = -self.weight * weight * (f - rho.to(f) * m) * var_m.rsqrt().to(f)
        curvature = (self.weight / var_m).to(f) * weight
        return pointwise(self.weight * n * (1 - rho), moved, slope, curvature)


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

    def model(self, fixed: Tensor, moved: Tensor, weight: Tensor) -> Quadratic:
        """See Similarity."""
        floor = self.floor * float(_moments(fixed, weight)[1])
        value, slope, curvature = correlation_derivatives(fixed, moved, weight, self.radius, floor)
        return pointwise(self.weight * value, moved, self.weight * slope, self.weight * curvature)


def _moments(image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance, () float64; the variance is at least 1e-12."""
    n = weight.sum(dtype=torch.float64).clamp(min=1e-12)
    mean = (weight * image).sum(dtype=torch.float64) / n
    variance = (weight * (image - mean.to(image)).square()).sum(dtype=torch.float64) / n
    return mean, variance.clamp(min=1e-12)
