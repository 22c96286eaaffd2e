"""Images and their grids, and THE coordinate convention of regcli.

Arrays are (C, I, J, K) and batches (B, C, I, J, K), in nibabel's axis order. Voxel centres are
integers. The world is RAS+ in mm: x to the right, y to the front, z to the top. A 4x4 affine takes
voxel indices to world points; it may hold any rotation, flip, anisotropy or shear. Displacement
fields are (B, 3, I, J, K): in voxels, channel c runs along array axis c; in mm, along world axis c.
A 2-D image is a volume with one slice, (I, J, 1). Foreign conventions (LPS) end in `regcli.io`.
"""

import itertools
import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from regcli.ops.field import rotate


@dataclass(frozen=True, eq=False)
class Space:
    """A grid in the world.

    Attributes:
        shape: (I, J, K) voxels.
        affine: (4, 4) float64 on the CPU: voxel index to RAS+ mm.
    """

    shape: tuple[int, int, int]
    affine: Tensor

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each array axis, mm."""
        i, j, k = self.affine[:3, :3].norm(dim=0).tolist()
        return i, j, k

    @property
    def solid(self) -> tuple[bool, bool, bool]:
        """Which axes have more than one voxel: (True, True, False) for a 2-D image."""
        i, j, k = (n > 1 for n in self.shape)
        return i, j, k

    @property
    def centre(self) -> Tensor:
        """(3,) world point in the middle of the grid."""
        return self.voxel_to_world(torch.tensor([(n - 1) / 2 for n in self.shape]))

    @property
    def codes(self) -> str:
        """Direction of the array axes in anatomical letters, such as "RAS" or "LIA"."""
        axes, flips = _closest_axes(self.affine)
        letters = [""] * 3
        for world, axis in enumerate(axes):
            letters[axis] = ("LPI" if flips[axis] else "RAS")[world]
        return "".join(letters)

    def voxel_to_world(self, points: Tensor) -> Tensor:
        """World points (..., 3), mm, of voxel positions (..., 3)."""
        return transform_points(self.affine, points)

    def world_to_voxel(self, points: Tensor) -> Tensor:
        """Voxel positions (..., 3) of world points (..., 3), mm."""
        return transform_points(torch.linalg.inv(self.affine), points)

    def vectors_to_world(self, vectors: Tensor) -> Tensor:
        """Field (B, 3, I, J, K) in voxels to mm along the world axes."""
        return rotate(self.affine[:3, :3], vectors)

    def vectors_to_voxel(self, vectors: Tensor) -> Tensor:
        """Field (B, 3, I, J, K) in mm along the world axes to voxels."""
        return rotate(torch.linalg.inv(self.affine[:3, :3]), vectors)

    def resize(self, shape: tuple[int, int, int]) -> "Space":
        """The grid of another shape whose corner voxels stay where they are."""
        steps = [
            (old - 1) / (new - 1) if new > 1 else 1.0
            for old, new in zip(self.shape, shape, strict=True)
        ]
        starts = [
            0.0 if new > 1 else (old - 1) / 2 for old, new in zip(self.shape, shape, strict=True)
        ]
        index = torch.diag(torch.tensor([*steps, 1.0], dtype=torch.float64))
        index[:3, 3] = torch.tensor(starts, dtype=torch.float64)
        return Space(shape, self.affine @ index)

    def moved(self, matrix: Tensor) -> "Space":
        """The same grid carried through the world by a (4, 4) matrix."""
        return Space(self.shape, matrix @ self.affine)

    def canonical(self) -> "Space":
        """The same voxels with the array axes permuted and flipped to be closest to RAS+."""
        return self._rearranged(*_closest_axes(self.affine))

    def _rearranged(self, axes: tuple[int, ...], flips: tuple[bool, ...]) -> "Space":
        index = torch.zeros(4, 4, dtype=torch.float64)
        index[3, 3] = 1
        for new, old in enumerate(axes):
            index[old, new] = -1 if flips[old] else 1
            index[old, 3] = self.shape[old] - 1 if flips[old] else 0
        i, j, k = (self.shape[old] for old in axes)
        return Space((i, j, k), self.affine @ index)

    def axes_of(self, new: "Space") -> tuple[list[int], list[int]]:
        """For each axis of the same grid rearranged, which of this one's it is; those flipped."""
        change = torch.linalg.inv(self.affine) @ new.affine
        axes = change[:3, :3].abs().argmax(dim=0).tolist()
        return axes, [n for n, axis in enumerate(axes) if change[axis, n] < 0]

    def agrees(self, other: "Space", tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and their corners lie at the same points."""
        if self.shape != other.shape:
            return False
        corners = torch.tensor(
            list(itertools.product(*((0, n - 1) for n in self.shape))), dtype=torch.float64
        )
        gap = self.voxel_to_world(corners) - other.voxel_to_world(corners)
        return float(gap.norm(dim=1).max()) <= tolerance_mm


@dataclass(frozen=True, eq=False)
class Box:
    """A part of a grid: voxels `start` to `stop` - 1 along each axis.

    Attributes:
        space: The whole grid.
        start: First voxel, (i, j, k).
        stop: One past the last voxel, (i, j, k).
    """

    space: Space
    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    def cut(self, data: Tensor) -> Tensor:
        """The part of (..., I, J, K) inside, contiguous."""
        i, j, k = (slice(*ends) for ends in zip(self.start, self.stop, strict=True))
        return data[..., i, j, k].contiguous()

    @property
    def part(self) -> Space:
        """The grid of the voxels inside."""
        shift = torch.eye(4, dtype=torch.float64)
        shift[:3, 3] = torch.tensor(self.start, dtype=torch.float64)
        i, j, k = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return Space((i, j, k), self.space.affine @ shift)


@dataclass(frozen=True)
class Storage:
    """How an image's voxels are stored in files; what is made from it is written the same way.

    Attributes:
        dtype: numpy name of the stored type.
        slope: Stored value times `slope` plus `intercept` is the intensity.
        intercept: See `slope`.
    """

    dtype: str = "float32"
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels on a grid.

    Attributes:
        data: (C, I, J, K), intensities; integers if they are stored so without a slope.
        space: Where they are.
        labels: Whether the values are codes, not amounts: they are then never averaged.
        storage: How the file stores them.
    """

    data: Tensor
    space: Space
    labels: bool = False
    storage: Storage = field(default_factory=Storage)

    def canonical(self) -> "Image":
        """The same voxels with the array axes permuted and flipped to be closest to RAS+."""
        space = self.space.canonical()
        return replace(self, data=rearrange(self.data, self.space, space), space=space)


def rearrange(data: Tensor, old: Space, new: Space) -> Tensor:
    """Permute and flip the last three axes of `data` from one grid's order to another's.

    Args:
        data: (..., I, J, K) on `old`.
        old: A grid.
        new: The same grid with its array axes permuted or flipped.

    Returns:
        (..., I', J', K'), contiguous.
    """
    axes, flipped = old.axes_of(new)
    first = data.ndim - 3
    data = data.permute(*range(first), *(first + axis for axis in axes))
    return data.flip([first + axis for axis in flipped]).contiguous()


def transform_points(matrix: Tensor, points: Tensor) -> Tensor:
    """Points (..., 3) carried by a (4, 4) matrix, in float64."""
    points = points.to(torch.float64)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _closest_axes(affine: Tensor) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """For each world axis the array axis closest to it, and for each array axis whether to flip.

    The assignment with the largest product of cosines, so that no two world axes compete.
    """
    cosines = affine[:3, :3] / affine[:3, :3].norm(dim=0)
    axes = max(
        itertools.permutations(range(3)),
        key=lambda order: math.prod(abs(float(cosines[w, a])) for w, a in enumerate(order)),
    )
    flips = [False] * 3
    for world, axis in enumerate(axes):
        flips[axis] = bool(cosines[world, axis] < 0)
    return axes, tuple(flips)
