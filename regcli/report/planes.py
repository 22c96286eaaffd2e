"""The planes a report shows: slices of the fixed grid in anatomical order, pixels square.

Pictures are neurological: right, front and top lie to the right or upwards.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from regcli.image import Image, Space
from regcli.warp import Warp

LIMIT = 288  # most pixels along a side: more would make the file heavy
_FINE = 3  # most pixels along a voxel, so that marks on coarse grids are no coarser than need be
_NAMES = ("sagittal", "coronal", "axial")  # by the axis that is sliced
_LETTERS = ("LR", "PA", "IS")


@dataclass(frozen=True, eq=False)
class Plane:
    """A slice.

    Attributes:
        name: "axial", "coronal" or "sagittal", whichever is closest.
        normal: The axis that is sliced, of the grid in RAS order.
        space: One voxel thick along `normal`, its other voxels square.
    """

    name: str
    normal: int
    space: Space

    @property
    def axes(self) -> tuple[int, int]:
        """Those that run to the right and upwards."""
        across, up = (axis for axis in range(3) if axis != self.normal)
        return across, up

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """The anatomical directions to the left, to the right, at the bottom and at the top."""
        across, up = (_LETTERS[axis] for axis in self.axes)
        return across[0], across[1], up[0], up[1]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        across, up = self.axes
        return self.space.shape[across], self.space.shape[up]

    def slice(self, image: Image, warp: Warp | None = None, *, nearest: bool = False) -> np.ndarray:
        """The slice of an image, (H, W) float32, the top row first.

        Args:
            image: One channel, on any grid.
            warp: What carries it here; default it is here already.
            nearest: Not to interpolate; label maps never are.
        """
        warp = warp or Warp(self.space, torch.eye(4, dtype=torch.float64))
        how = "nearest" if nearest or image.labels else "linear"
        data = warp.apply(image, self.space, how).data[0].to("cpu", torch.float32)
        return self.upright(data)

    def upright(self, data: Tensor) -> np.ndarray:
        """Values (I, J, K) of this plane's grid as rows, the top one first: (H, W)."""
        return data.squeeze(self.normal).T.flip(0).numpy()


def choose_planes(fixed: Space, mask: Tensor) -> list[Plane]:
    """The planes through the middle of what counts: three, or one of a 2-D image.

    Args:
        fixed: The grid.
        mask: (I, J, K) bool on it, what counts.
    """
    space = fixed.canonical()
    order, flipped = fixed.axes_of(space)
    middle = []
    for axis, old in enumerate(order):
        profile = mask.sum(dim=[n for n in range(3) if n != old]).to(torch.float64)
        place = float((profile * torch.arange(len(profile))).sum() / profile.sum())
        middle.append(round(len(profile) - 1 - place if axis in flipped else place))
    planes = [_plane(space, axis, middle[axis]) for axis in (2, 1, 0)]
    return [plane for plane in planes if all(space.solid[axis] for axis in plane.axes)]


def obliqueness(space: Space) -> float:
    """Largest angle between an axis of the grid and the closest one of the world, degrees."""
    affine = space.canonical().affine[:3, :3]
    cosines = (affine / affine.norm(dim=0)).diagonal().clamp(-1, 1)
    return math.degrees(math.acos(float(cosines.min())))


def _plane(space: Space, normal: int, place: int) -> Plane:
    axes = [axis for axis in range(3) if axis != normal]
    sides = [space.shape[axis] * space.spacing[axis] for axis in axes]
    finest = min(space.spacing[axis] for axis in axes)
    # several pixels per voxel, or several voxels per pixel
    parts = min(_FINE, max(1, int(LIMIT * finest / max(sides))))
    pixel = max(finest / parts, max(sides) / LIMIT)
    index = torch.eye(4, dtype=torch.float64)
    index[normal, 3] = place
    shape = [1, 1, 1]
    for axis, side in zip(axes, sides, strict=True):
        shape[axis] = max(1, round(side / pixel))
        step = space.shape[axis] / shape[axis]  # voxels; the edges of the picture are the grid's
        index[axis, axis], index[axis, 3] = step, (step - 1) / 2
    i, j, k = shape
    return Plane(
        _NAMES[normal], normal, replace(space, shape=(i, j, k), affine=space.affine @ index)
    )
