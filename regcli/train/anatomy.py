"""Anatomy: a label map made ready to be drawn, and what its codes stand for."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regcli.image import Box, Image, Space
from regcli.ops.filter import box_sum

# FreeSurfer codes of the right side and of the left; one type serves both, so that mirrored
# anatomy needs no new labels. Inferior horns belong to their ventricles.
_LEFT = {41: 2, 42: 3, 43: 4, 44: 4, 5: 4, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17}
_LEFT |= {54: 18, 57: 25, 58: 26, 60: 28, 62: 30, 137: 136, 164: 163}
_TYPES = (2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28)
FIRST_OUTSIDE = 500  # codes from here on lie outside the brain
_FLUID = 24  # around the brain, and thus partly outside a stripped one
_NEAR_MM = 3


@dataclass(frozen=True)
class Vocabulary:
    """Which codes a network tells apart.

    Attributes:
        codes: Of every label map, sorted; their places are the indices that anatomies hold.
        types: For each of them the type it counts as; 0 is everything else.
    """

    codes: tuple[int, ...]
    types: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many types there are, with 0."""
        return 1 + max(self.types)

    @property
    def sides(self) -> tuple[int, ...]:
        """For each code the place of its left counterpart, or its own: both look alike."""
        places = {code: n for n, code in enumerate(self.codes)}
        return tuple(places.get(_LEFT.get(c, c), n) for n, c in enumerate(self.codes))


def vocabulary(codes: Iterable[int]) -> Vocabulary:
    """The types of FreeSurfer's codes, or of any others one each.

    Args:
        codes: All that occur, 0 for background.
    """
    every = tuple(sorted({0, *codes}))
    if set(_TYPES) <= set(every):
        numbers = {code: n + 1 for n, code in enumerate(_TYPES)}
    else:
        numbers = {code: n for n, code in enumerate(c for c in every if c < FIRST_OUTSIDE)}
    return Vocabulary(every, tuple(numbers.get(_LEFT.get(c, c), 0) for c in every))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A label map, cut to what it shows.

    Attributes:
        space: Its grid.
        indices: (1, 1, I, J, K) uint8, places in the vocabulary's codes.
        brain: (1, 1, I, J, K) uint8, 1 in and close to the brain: what skull-stripping leaves.
    """

    space: Space
    indices: Tensor
    brain: Tensor


def anatomy(labels: Image, words: Vocabulary) -> Anatomy:
    """A label map ready to be drawn.

    Args:
        labels: (1, I, J, K), with codes of the vocabulary alone.
        words: Of all label maps.
    """
    image = labels.canonical()
    places = np.searchsorted(words.codes, image.data[0].numpy()).astype(np.uint8)
    shown = torch.from_numpy(places > 0).nonzero()
    i, j, k = shown.amin(dim=0).tolist()
    stop_i, stop_j, stop_k = (shown.amax(dim=0) + 1).tolist()
    box = Box(image.space, (i, j, k), (stop_i, stop_j, stop_k))
    indices = box.cut(torch.from_numpy(places))[None, None]
    return Anatomy(box.part, indices, _brain(indices, words))


def _brain(indices: Tensor, words: Vocabulary) -> Tensor:
    """The structures, closed by a ball's worth of millimetres: sulci belong to the brain."""
    codes = torch.tensor(words.codes)
    solid = ((codes > 0) & (codes < FIRST_OUTSIDE) & (codes != _FLUID)).to(torch.uint8)
    inside = solid[indices.int()].to(torch.float32)
    padded = torch.nn.functional.pad(inside, (2 * _NEAR_MM,) * 6)
    grown = (box_sum(padded, _NEAR_MM) > 0).to(torch.float32)
    kept = box_sum(1 - grown, _NEAR_MM) == 0
    n = 2 * _NEAR_MM
    return kept[..., n:-n, n:-n, n:-n].to(torch.uint8)
