"""Learned features of a pair: a network sees each image alone, once, on one isotropic grid."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.features import ONE
from regcli.image import Space
from regcli.models.prepare import FOREGROUND
from regcli.models.pyramid import Prepared
from regcli.nets.base import FeatureNet, fitting
from regcli.ops.sample import sample


@dataclass(frozen=True, eq=False)
class Described:
    """What a network says of an image.

    Attributes:
        spaces: The grids of the levels, coarse to fine.
        levels: (1, C, I, J, K) uint8 each, probabilities times 255.
    """

    spaces: list[Space]
    levels: list[Tensor]

    def on(self, space: Space) -> Tensor:
        """The level with the most similar voxels, on another grid, its edge repeated outside.

        Args:
            space: Of the result.

        Returns:
            (1, C, I, J, K) uint8.
        """
        wanted = math.prod(space.spacing)
        distance = [abs(math.log(math.prod(s.spacing) / wanted)) for s in self.spaces]
        best = distance.index(min(distance))
        own, level = self.spaces[best], self.levels[best]
        if own.agrees(space):
            return level
        change = (torch.linalg.inv(own.affine) @ space.affine)[:3]
        out = torch.empty(1, level.shape[1], *space.shape, dtype=torch.uint8, device=level.device)
        for channel in range(level.shape[1]):  # one at a time: floats take four times the memory
            values = level[:, channel : channel + 1].to(torch.float32)
            out[:, channel] = sample(values, matrix=change, shape=space.shape)[:, 0].round_()
        return out


def working_grid(space: Space, spacing_mm: float, multiple: int) -> Space:
    """The isotropic grid along the axes of another, centred on it, that covers it.

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
    starts = [((n - 1) - (m - 1) * s) / 2 for n, m, s in size]
    index[:3, 3] = torch.tensor(starts, dtype=torch.float64)
    return Space((shape[0], shape[1], shape[2]), space.affine @ index)


def describe(net: FeatureNet, image: Prepared) -> Described:
    """Probabilities of a network at every level.

    Args:
        net: In evaluation mode.
        image: On a working grid.
    """
    # what the image does not cover shows nothing, as in training
    data = image.data if image.weight is None else image.data * image.weight
    shown = data > FOREGROUND
    levels = [
        (torch.softmax(scores.to(torch.float32), dim=1) * ONE).round_().to(torch.uint8)
        for scores in net(data, shown)
    ]
    spaces = []
    for level in levels:
        i, j, k = level.shape[2:]
        spaces.append(image.space.resize((i, j, k)))
    return Described(spaces, levels)
