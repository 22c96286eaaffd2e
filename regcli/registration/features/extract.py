"""Feature extraction: a network sees each image of a pair alone, once, on one isotropic grid."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d, pad

from regcli.energy.features import ONE
from regcli.errors import WeightsError
from regcli.image import Space
from regcli.nets.base import FeatureNet, fitting
from regcli.ops.sample import resize, sample
from regcli.registration.features.model import FeatureModel
from regcli.registration.features.trust import Volumes
from regcli.registration.normalize import FOREGROUND
from regcli.registration.pyramid import ROUNDING, Prepared

_MIDDLE = 1
_COUNTS = 0.5
_PLANES = 8  # of a resampled level at a time: its floats take four times the memory of bytes


@dataclass(frozen=True, eq=False)
class FeaturePyramid:
    """The features of an image on all levels.

    Attributes:
        spaces: The grids of the levels, coarse to fine.
        levels: (1, C, I, J, K) uint8 each, probabilities times 255; next to each other in memory.
        gains: Weight of each level in the energy.
        rim: (I, J, K) bool on the middle level, where what the image covers ends.
    """

    spaces: list[Space]
    levels: list[Tensor]
    gains: tuple[float, ...]
    rim: Tensor

    def on(self, space: Space) -> Tensor:
        """The level with the most similar voxels, on another grid, its edge repeated outside.

        Args:
            space: Of the result.

        Returns:
            (1, C, I, J, K) uint8.
        """
        number = self._nearest(space)
        own, level = self.spaces[number], self.levels[number]
        if own.agrees(space):
            return level
        change = (torch.linalg.inv(own.affine) @ space.affine)[:3]
        out = torch.empty(
            (1, level.shape[1], *space.shape),
            dtype=torch.uint8,
            device=level.device,
            memory_format=torch.channels_last_3d,
        )
        values = level.to(torch.float32)
        i, j, k = space.shape
        for start in range(0, i, _PLANES):
            part = change.clone()
            part[:, 3] += start * change[:, 0]
            stop = min(start + _PLANES, i)
            moved = sample(values, matrix=part, shape=(stop - start, j, k))
            out[:, :, start:stop] = moved.round_()
        return out

    def gain(self, space: Space) -> float:
        """Weight in the energy of what `on` gives for the same grid."""
        return self.gains[self._nearest(space)]

    def without(self, channels: tuple[int, ...]) -> "FeaturePyramid":
        """The same, some channels left out.

        Args:
            channels: Their numbers.
        """
        if not channels:
            return self
        kept = [c for c in range(self.levels[0].shape[1]) if c not in channels]
        last = torch.channels_last_3d
        levels = [level[:, kept].contiguous(memory_format=last) for level in self.levels]
        return replace(self, levels=levels)

    def volumes(self) -> list[float]:
        """mL of every type but the background, as the probabilities of the middle level add up."""
        level, space = self.levels[_MIDDLE], self.spaces[_MIDDLE]
        sums = level[0, 1:].flatten(1).sum(dim=1)  # of bytes, as int64
        return (sums.double() * (math.prod(space.spacing) / ONE / 1000)).tolist()

    def at_edge(self) -> list[float]:
        """Share of every type but the background that lies where what the image covers ends."""
        level = self.levels[_MIDDLE][0, 1:].flatten(1)
        cut = (level * self.rim.flatten()).sum(dim=1).double()
        return (cut / level.sum(dim=1).clamp(min=1)).tolist()

    def suits(self, usual: Volumes) -> float:
        """Share of the types whose volume is usual, 1 if the image is of its kind."""
        return usual.share(self.volumes(), self.at_edge())

    def _nearest(self, space: Space) -> int:
        wanted = math.prod(space.spacing)
        distance = [abs(math.log(math.prod(s.spacing) / wanted)) for s in self.spaces]
        return distance.index(min(distance))


def working_grid(space: Space, spacing_mm: float, multiple: int) -> Space:
    """The isotropic grid along the axes of another, about centred on it, that covers it.

    Its first voxel lies on one of the other's, or half of the voxels of both would lie between
    each other where their sizes agree: labels that drive steps then missed .05 to .1 of Dice.

    Args:
        space: What to cover.
        spacing_mm: Voxel size.
        multiple: Axes get a multiple of this many voxels and one more; one voxel stays one.
    """
    shape, steps = [], []
    for n, h in zip(space.shape, space.spacing, strict=True):
        shape.append(1 if n == 1 else fitting(math.ceil((n - 1) * h / spacing_mm) + 1, multiple))
        steps.append(1.0 if n == 1 else spacing_mm / h)
    index = torch.eye(4, dtype=torch.float64)
    index[:3, :3] = torch.diag(torch.tensor(steps, dtype=torch.float64))
    size = zip(space.shape, shape, steps, strict=True)
    starts = [math.ceil(((n - 1) - (m - 1) * s) / 2 - ROUNDING) for n, m, s in size]
    index[:3, 3] = torch.tensor(starts, dtype=torch.float64)
    return Space((shape[0], shape[1], shape[2]), space.affine @ index)


def extract_pair(
    learned: FeatureModel, fixed: Prepared, moving: Prepared, affine: Tensor
) -> tuple[FeaturePyramid, FeaturePyramid]:
    """Extract the features of two images, each alone, on the same isotropic grid.

    Args:
        learned: The network.
        fixed: Image; the grid covers it.
        moving: Image.
        affine: (4, 4) fixed world to moving world: the moving image is carried by it.

    Raises:
        WeightsError: If the network says something that is no number.
    """
    grid = working_grid(fixed.space, learned.spacing_mm, learned.net.multiple)
    still = torch.eye(4, dtype=torch.float64)
    one, other = (
        extract(learned.net, image.onto(grid, matrix), learned.gains)
        for image, matrix in ((fixed, still), (moving, affine))
    )
    return one, other


def extract(net: FeatureNet, image: Prepared, gains: tuple[float, ...]) -> FeaturePyramid:
    """Probabilities of a network at every level.

    Args:
        net: In evaluation mode.
        image: On a working grid.
        gains: Weight of each level in the energy.

    Raises:
        WeightsError: If the network says something that is no number.
    """
    # what the image does not cover shows nothing, as in training
    data = image.data if image.weight is None else image.data * image.weight
    shown = data > FOREGROUND
    shares = [torch.softmax(scores.to(torch.float32), dim=1) for scores in net(data, shown)]
    if not all(bool(share.sum().isfinite()) for share in shares):  # bytes would pass for 0
        raise WeightsError(
            "The network says something that is no number of an image.",
            "Use other weights, or train with a smaller rate.",
        )
    last = torch.channels_last_3d  # as registration reads them, without a copy at every step
    levels = [s.mul_(ONE).round_().to(torch.uint8, memory_format=last) for s in shares]
    spaces = []
    for level in levels:
        i, j, k = level.shape[2:]
        spaces.append(image.space.resize((i, j, k)))
    i, j, k = levels[_MIDDLE].shape[2:]
    return FeaturePyramid(spaces, levels, gains, _rim(resize(image.weights, (i, j, k))))


def _rim(weight: Tensor) -> Tensor:
    """(I, J, K) bool: voxels that count, beside one that does not or is not there.

    Args:
        weight: (1, 1, I, J, K).
    """
    inside = (weight > _COUNTS).to(torch.float32)
    deep = -max_pool3d(-pad(inside, (1,) * 6), 3, stride=1)
    return (inside > deep)[0, 0]
