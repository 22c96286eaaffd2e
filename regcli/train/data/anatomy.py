"""Anatomy: a person's label map, image and landmarks made ready to learn from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from regcli.image import Box, Image, Space
from regcli.ops.drawing import CODES
from regcli.ops.filter import box_sum
from regcli.registration.normalize import FOREGROUND
from regcli.registration.pyramid import Prepared
from regcli.train.data.vocabulary import Vocabulary

_NEAR_MM = 3
_LEAST_CENTRES, _FITS = 8, 10  # of structures that say how two brains lie to each other


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One person's images and labels, cropped to the foreground.

    Attributes:
        space: The grid.
        indices: (1, 1, I, J, K) uint8, places in the vocabulary's codes; 0 without a label map.
        brain: (1, 1, I, J, K) uint8, 1 in and close to the brain: what skull-stripping leaves.
        image: (1, 1, I, J, K) in [0, 1]; None if images are to be drawn.
        points: (N, 3) voxels; None without landmarks.
        weight: (1, 1, I, J, K), where the image counts; None for everywhere.
    """

    space: Space
    indices: Tensor
    brain: Tensor
    image: Tensor | None = None
    points: Tensor | None = None
    weight: Tensor | None = None

    @cached_property
    def packed(self) -> np.ndarray:
        """(I, J, K) uint16: indices, with CODES added in and close to the brain."""
        both = self.indices[0, 0].int() + CODES * self.brain[0, 0].int()
        return both.numpy().astype(np.uint16)

    @cached_property
    def middle(self) -> Tensor:
        """(3,) float64 voxels: the brain's centre."""
        return self.brain[0, 0].nonzero().to(torch.float64).mean(dim=0)

    @cached_property
    def extent_mm(self) -> Tensor:
        """(3,) float64: of the brain along each axis."""
        inside = self.brain[0, 0].nonzero()
        extent = (inside.amax(dim=0) - inside.amin(dim=0) + 1).to(torch.float64)
        return extent * torch.tensor(self.space.spacing, dtype=torch.float64)

    @cached_property
    def centres(self) -> Tensor:
        """(256, 3) float64 voxels: of what has each index in the brain; NaN where nothing has."""
        index = torch.where(self.brain > 0, self.indices, 0)[0, 0].flatten().int()
        count = torch.bincount(index, minlength=256).double()
        sums = []
        for axis, n in enumerate(self.space.shape):
            line = torch.arange(n, dtype=torch.float64).view(
                [n if a == axis else 1 for a in range(3)]
            )
            places = line.expand(self.space.shape).flatten()
            sums.append(torch.bincount(index, places, minlength=256))
        count[0] = 0  # nothing, or outside
        return torch.stack(sums, dim=1) / count[:, None]

    def onto(self, other: "Anatomy") -> Tensor:
        """(3, 4) float64, voxel to another's voxel: the affine between the centres of structures.

        Without enough structures that both have, the middle goes to the middle.
        """
        both = self.centres.isfinite().all(dim=1) & other.centres.isfinite().all(dim=1)
        if both.sum() >= _LEAST_CENTRES:
            return _affine_between(self.centres[both], other.centres[both])
        steps = zip(self.space.spacing, other.space.spacing, strict=True)
        out = torch.zeros(3, 4, dtype=torch.float64)
        out[:, :3] = torch.diag(torch.tensor([a / b for a, b in steps], dtype=torch.float64))
        out[:, 3] = other.middle - out[:, :3] @ self.middle
        return out


def anatomy(labels: Image, vocabulary: Vocabulary, fill: int = 0) -> Anatomy:
    """A label map ready to be drawn.

    Args:
        labels: (1, I, J, K), with codes of the vocabulary alone.
        vocabulary: Of all label maps.
        fill: Code of what is not labelled within the brain: sulci, in maps of brain alone.
    """
    image = labels.canonical()
    places = _places(image, vocabulary)
    box = _shown(places > 0, image.space)
    indices = box.cut(places)[None, None].contiguous()
    return Anatomy(box.part, *_filled(indices, vocabulary, fill))


def photographed(
    image: Prepared,
    labels: Image | None,
    points: Tensor | None,
    vocabulary: Vocabulary,
    fill: int = 0,
) -> Anatomy:
    """A real image ready to be learned from.

    Args:
        image: In canonical axis order.
        labels: (1, I, J, K) on the grid of the image; None without.
        points: (N, 3) world; None without.
        vocabulary: Of all label maps.
        fill: Code of what is not labelled within the brain.
    """
    box = _shown(image.data[0, 0] > FOREGROUND, image.space)
    inner = image.cropped(box)
    if labels is None:
        indices = torch.zeros(inner.data.shape, dtype=torch.uint8)
        brain = torch.ones_like(indices)
    else:
        indices = box.cut(_places(labels.canonical(), vocabulary)[None, None]).contiguous()
        indices, brain = _filled(indices, vocabulary, fill)
    voxels = None if points is None else box.part.world_to_voxel(points)
    return Anatomy(box.part, indices, brain, inner.data, voxels, inner.weight)


def _affine_between(one: Tensor, other: Tensor) -> Tensor:
    """(3, 4) that takes points (N, 3) near others; those that are far off hardly count.

    Lesions, say, lie anywhere.
    """
    points = torch.cat([one, torch.ones(len(one), 1).to(one)], dim=1)
    weight = torch.ones(len(one), 1).to(one)
    affine = torch.eye(3, 4).to(one)
    for _ in range(_FITS):
        affine = torch.linalg.lstsq(weight.sqrt() * points, weight.sqrt() * other).solution.T
        gap = (points @ affine.T - other).norm(dim=1, keepdim=True)
        weight = (1 + (gap / gap.median().clamp(min=1e-6)).square()) ** -2
    return affine


def _places(labels: Image, vocabulary: Vocabulary) -> Tensor:
    """(I, J, K) uint8: where each voxel's code stands in the vocabulary."""
    return torch.from_numpy(
        np.searchsorted(vocabulary.codes, labels.data[0].numpy()).astype(np.uint8)
    )


def _shown(shown: Tensor, space: Space) -> Box:
    where = shown.nonzero()
    i, j, k = where.amin(dim=0).tolist()
    stop_i, stop_j, stop_k = (where.amax(dim=0) + 1).tolist()
    return Box(space, (i, j, k), (stop_i, stop_j, stop_k))


def _filled(indices: Tensor, vocabulary: Vocabulary, fill: int) -> tuple[Tensor, Tensor]:
    """Indices in which nothing within the brain is unlabelled, and the brain."""
    brain = _brain(indices, vocabulary)
    place = vocabulary.codes.index(fill)
    return torch.where((indices == 0) & (brain > 0), place, indices), brain


def _brain(indices: Tensor, vocabulary: Vocabulary) -> Tensor:
    """The structures, closed by a ball's worth of millimetres: sulci belong to the brain."""
    inside = torch.tensor(vocabulary.solid).to(torch.float32)[indices.int()]
    padded = torch.nn.functional.pad(inside, (2 * _NEAR_MM,) * 6)
    grown = (box_sum(padded, _NEAR_MM) > 0).to(torch.float32)
    kept = box_sum(1 - grown, _NEAR_MM) == 0
    n = 2 * _NEAR_MM
    return kept[..., n:-n, n:-n, n:-n].to(torch.uint8)
