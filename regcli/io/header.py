"""The checked header of an image file; LPS is RAS with x and y negated, by `LPS`."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from regcli.errors import InputError
from regcli.image import Space, Storage

LPS = np.diag((-1.0, -1.0, 1.0, 1.0))  # its own inverse
_MEND = "Correct the header with the tool that wrote the file."


@dataclass(frozen=True, eq=False)
class Header:
    """An image file's header.

    Attributes:
        path: The file.
        space: The grid of one frame.
        storage: Type and scaling of the stored values.
        frames: How many volumes the file holds.
        warnings: What was odd but could be settled, one sentence each.
    """

    path: Path
    space: Space
    storage: Storage
    frames: int
    warnings: tuple[str, ...]


def make_header(
    path: Path,
    shape: Sequence[int],
    *,
    affine: np.ndarray,
    storage: Storage,
    warnings: Sequence[str] = (),
) -> Header:
    """A checked header.

    Args:
        path: The file, for messages.
        shape: Stored sizes, (I, J), (I, J, K) or (I, J, K, T); ones may follow.
        affine: (4, 4) voxel index to RAS+ mm; its third column may be zero if K is 1.
        storage: Type and scaling of the stored values.
        warnings: Passed on.

    Raises:
        InputError: If there are no or too many dimensions, or the grid is degenerate.
    """
    size, frames = _split(path, shape)
    if size[2] == 1:
        affine = _complete_slice(affine)
    _check_affine(path, affine)
    space = Space(size, torch.from_numpy(np.array(affine, np.float64)))
    return Header(path, space, storage, frames, tuple(warnings))


def check_spacing(path: Path, spacing: Sequence[float]) -> None:
    """Raise InputError unless every voxel size, as the header states it, is a positive number."""
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        numbers = " x ".join(f"{value:g}" for value in spacing)
        raise InputError(f"{path} has an impossible voxel size: {numbers} mm.", _MEND)


def corner_gap(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """Largest distance, mm, between where two (4, 4) affines put a corner voxel of (I, J, K)."""
    corners = itertools.product(*((0, n - 1) for n in shape))
    gaps = np.array([(*corner, 1) for corner in corners]) @ (one - other).T
    return float(np.linalg.norm(gaps[:, :3], axis=1).max())


def _split(path: Path, shape: Sequence[int]) -> tuple[tuple[int, int, int], int]:
    stated = " x ".join(str(n) for n in shape)
    if any(n < 1 for n in shape) or len(shape) < 2:
        raise InputError(f"{path} holds no image: its size is {stated or 'nothing'}.", _MEND)
    i, j, k, frames, *more = *shape, *(1, 1)[: max(0, 4 - len(shape))]
    if any(n > 1 for n in more):
        raise InputError(
            f"{path} has {len(shape)} dimensions ({stated}).", "Give a 3-D (or 2-D) image."
        )
    if (i > 1) + (j > 1) + (k > 1) < 2:
        raise InputError(
            f"{path} is not an image but a single line of voxels ({stated}).",
            "Give a 3-D or 2-D image.",
        )
    return (i, j, k), frames


def _complete_slice(affine: np.ndarray) -> np.ndarray:
    """The affine of a single slice, with a unit normal towards R, A or S where it has none."""
    first, second, third = affine[:3, :3].T
    if not np.isfinite(affine).all() or np.linalg.norm(third) > 0:
        return affine
    normal = np.cross(first, second)
    length = np.linalg.norm(normal) * np.sign(normal[np.abs(normal).argmax()])
    affine = affine.copy()
    affine[:3, 2] = normal / length if length else 0
    return affine


def _check_affine(path: Path, affine: np.ndarray) -> None:
    if not np.isfinite(affine).all():
        raise InputError(f"{path} has an orientation matrix that is not finite.", _MEND)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    volume = abs(np.linalg.det(affine[:3, :3]))
    if not lengths.all() or volume < 1e-6 * lengths.prod():
        raise InputError(
            f"{path} has a singular orientation matrix: two of its axes coincide or one is zero.",
            _MEND,
        )
