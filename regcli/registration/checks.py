"""Checks of a pair before any computing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.errors import InputError
from regcli.image import Image
from regcli.warp import Warp


@dataclass(frozen=True, eq=False)
class Masks:
    """Weights of the similarity, (1, I, J, K) in [0, 1] on each image's grid; None for one."""

    fixed: Tensor | None = None
    moving: Tensor | None = None


def check_pair(fixed: Image, moving: Image, masks: Masks, init: str) -> None:
    """Refuse a pair that no registration can serve.

    Args:
        fixed: Image.
        moving: Image.
        masks: Of both.
        init: Of the recipe.

    Raises:
        InputError: If masks do not fit or are empty, dimensions differ, or images share no space
            where the registration is to start.
    """
    for name, image, mask in (("fixed", fixed, masks.fixed), ("moving", moving, masks.moving)):
        if mask is not None and tuple(mask.shape[1:]) != image.space.shape:
            raise InputError(
                f"The {name} mask has {mask.shape[1:]} voxels, the image {image.space.shape}.",
                f"Give a mask on the grid of the {name} image.",
            )
        if mask is not None and not bool((mask > 0).any()):
            raise InputError(f"The {name} mask is empty.", "Give a mask with voxels above 0.")
    if fixed.space.solid != moving.space.solid:
        raise InputError(
            f"The fixed image is {_dimension(fixed)}, the moving one {_dimension(moving)}.",
            "Register images of the same dimension, sliced along the same axis.",
        )
    if init in ("none", "header"):
        corners = Warp(fixed.space, torch.eye(4, dtype=torch.float64))
        seen = corners.apply(_ones_like(moving), fixed.space, "nearest").data
        if not bool(seen.any()):
            raise InputError(
                f"The images do not overlap in world space, and --init {init} starts there.",
                "Use --init auto.",
            )


def check_ranges(fixed: tuple[float, float], moving: tuple[float, float], masks: Masks) -> None:
    """Refuse images that show nothing.

    Args:
        fixed: Its robust range, low and high.
        moving: Likewise.
        masks: Within which these were measured.

    Raises:
        InputError: If a range is empty.
    """
    for name, (low, high), mask in (
        ("fixed", fixed, masks.fixed),
        ("moving", moving, masks.moving),
    ):
        if low == high:
            where = "" if mask is None else " inside its mask"
            raise InputError(
                f"The {name} image is constant{where}: every voxel is {low:g}.",
                "Give an image that shows something." if mask is None else "Give a larger mask.",
            )


def _ones_like(image: Image) -> Image:
    return Image(torch.ones_like(image.data, dtype=torch.uint8), image.space)


def _dimension(image: Image) -> str:
    return f"{sum(image.space.solid)}-D {'x'.join(map(str, image.space.shape))}"
