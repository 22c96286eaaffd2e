"""AlignedPair: two images that an affine aligns, on the grid where they are to be deformed."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from regcli.image import Box, Space, rearrange
from regcli.registration.multiresolution import region
from regcli.registration.pyramid import Prepared
from regcli.registration.symmetric import Midpoint, midpoint, symmetric_displacement
from regcli.transforms.unfold import unfolded


@dataclass(frozen=True, eq=False)
class AlignedPair:
    """Two images to deform: on the fixed grid, or on one half-way between both.

    Attributes:
        fixed: Image.
        moving: Image.
        affine: (4, 4) fixed world to moving world.
        box: The part of the fixed grid that is registered.
        home: The canonical grid of the fixed image itself.
        file: Its grid as it is stored.
        middle: Half-way, if both images are there.
        fixed_to_moving: (4, 4) fixed image's world to moving image's world.
    """

    fixed: Prepared
    moving: Prepared
    affine: Tensor
    box: Box
    home: Space
    file: Space
    middle: Midpoint | None
    fixed_to_moving: Tensor

    @cached_property
    def inner(self) -> Prepared:
        """The part of the fixed image that is registered."""
        return self.fixed.cropped(self.box)

    def displacement(self, y: Tensor) -> Tensor:
        """RAS mm on the fixed image's own grid, (1, 3, I, J, K).

        Args:
            y: (1, 3, I, J, K) in voxels: a displacement of the fixed grid, or a velocity half-way.
        """
        if self.middle is not None:
            y = unfolded(self.middle.back(symmetric_displacement(y), self.home))
        return rearrange(self.home.vectors_to_world(y.cpu()), self.home, self.file)


def aligned(
    fixed: Prepared, moving: Prepared, affine: Tensor, file: Space, *, symmetric: bool
) -> AlignedPair:
    """Two images where they are to be deformed.

    Args:
        fixed: Image.
        moving: Image.
        affine: (4, 4) fixed world to moving world.
        file: Grid of the fixed image as it is stored.
        symmetric: Whether both are to move, and meet half-way.
    """
    if not symmetric:
        box = region(fixed, moving, affine)
        return AlignedPair(fixed, moving, affine, box, fixed.space, file, None, affine)
    middle = midpoint(fixed, moving, affine)
    box, still = Box(middle.space, (0, 0, 0), middle.space.shape), torch.eye(4).to(affine)
    return AlignedPair(middle.fixed, middle.moving, still, box, fixed.space, file, middle, affine)
