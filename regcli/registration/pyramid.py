"""Levels: an image and its grid at a coarser resolution."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.image import Box, Space
from regcli.ops.filter import gaussian
from regcli.ops.sample import coverage, resize, sample

# Voxel sizes of a turned grid are off in their last digits; sizes of grids must not depend on them.
ROUNDING = 1e-6
_ALIKE = 1.25  # voxel sizes that differ by less than this count as equal


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image made ready for registration, on one grid.

    Attributes:
        space: The grid.
        data: (1, 1, I, J, K) float32, the foreground's robust range in [0, 1].
        weight: (1, 1, I, J, K) in [0, 1], what counts in the loss; None for everything.
    """

    space: Space
    data: Tensor
    weight: Tensor | None = None

    def at(self, spacing_mm: float) -> "Prepared":
        """The image smoothed and resampled to about this voxel size.

        Axes that are as coarse already stay as they are, so anisotropic images shrink along their
        finer axes alone.
        """
        factors = self._factors(spacing_mm)
        i, j, k = (
            n if f == 1 else math.ceil((n - 1) / f - ROUNDING) + 1
            for n, f in zip(self.space.shape, factors, strict=True)
        )
        if (i, j, k) == self.space.shape:
            return self
        data = resize(gaussian(self.data, _blur(factors)), (i, j, k))
        weight = self.weight if self.weight is None else resize(self.weight, (i, j, k))
        return Prepared(self.space.resize((i, j, k)), data, weight)

    def onto(self, space: Space, affine: Tensor) -> "Prepared":
        """The image carried onto another grid, smoothed to suit its voxels, interpolated once.

        Args:
            space: Of the result.
            affine: (4, 4), world of `space` to world of this image.

        Returns:
            The image on `space`; its weight is zero where this one has no voxels.
        """
        change = torch.linalg.inv(self.space.affine) @ affine @ space.affine
        # how far apart, along each of this image's axes, the voxels of `space` lie
        steps = change[:3, :3].abs().amax(dim=1).clamp(min=1).tolist()
        factors = tuple(
            f if n > 1 and f >= _ALIKE else 1.0
            for f, n in zip(steps, self.space.shape, strict=True)
        )
        data = self.data if max(factors) == 1 else gaussian(self.data, _blur(factors))
        moved = sample(data, matrix=change[:3], shape=space.shape)
        weight = coverage(self.space.shape, None, change[:3], space.shape).to(moved)
        if self.weight is not None:
            weight = weight * sample(self.weight, matrix=change[:3], shape=space.shape)
        return Prepared(space, moved, None if bool((weight == 1).all()) else weight)

    def cropped(self, box: Box) -> "Prepared":
        """The part of the image inside a box of its grid."""
        # contiguous once, or every loop would make its own copy at every step
        weight = self.weight if self.weight is None else box.cut(self.weight).contiguous()
        return Prepared(box.part, box.cut(self.data).contiguous(), weight)

    def _factors(self, spacing_mm: float) -> tuple[float, ...]:
        ratios = (
            min(spacing_mm / h, (n - 1) / 3) if n > 1 else 1.0
            for n, h in zip(self.space.shape, self.space.spacing, strict=True)
        )
        return tuple(r if r >= _ALIKE else 1.0 for r in ratios)

    @property
    def weights(self) -> Tensor:
        """(1, 1, I, J, K): the weight, ones if there is none."""
        return torch.ones_like(self.data) if self.weight is None else self.weight


def _blur(factors: tuple[float, ...]) -> tuple[float, float, float]:
    """Gaussian sigmas in voxels before keeping one voxel in `factor` along each axis."""
    i, j, k = (0.5 * f if f > 1 else 0.0 for f in factors)
    return i, j, k
