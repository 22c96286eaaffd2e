"""Plausibility: rotation, scales, overlap, handedness and other signs of a wrong pair.

Deformable registration makes nearly everything look alike. Whether the right things were given to
it shows elsewhere: in how far the images had to be turned and scaled, in how much of each the
other one shows, and in what a network finds in them.
"""

from typing import Any

import torch
from torch import Tensor

from regcli.image import Image
from regcli.registration.checks import Masks
from regcli.registration.contrast import Contrast, measure, measure_by
from regcli.registration.handedness import Handedness, handedness
from regcli.registration.normalize import foreground, foreground_level, prepare
from regcli.warp import Warp


def alignment(affine: Tensor) -> dict[str, Any]:
    """How far an affine turns, and what it scales by along its own axes.

    Args:
        affine: (4, 4), of a positive determinant.

    Returns:
        "rotation_degrees" 0 to 180, of the nearest rotation; "scales", three, descending.
    """
    U, scales, V = torch.linalg.svd(affine[:3, :3].to(torch.float64))
    cosine = ((U @ V).trace() - 1) / 2
    angle = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
    return {"rotation_degrees": float(angle), "scales": scales.tolist()}


def foregrounds(
    fixed: Image, moving: Image, moved: Image, warp: Warp, masks: Masks
) -> dict[str, float]:
    """How much of what each image shows the other one shows too, per cent.

    Args:
        fixed: One channel.
        moving: One channel.
        moved: The moving image on the fixed grid.
        warp: Fixed world to moving world.
        masks: What counts.

    Returns:
        "overlap_percent", Dice of both foregrounds where the masks count; "moving_inside_percent",
        of the moving foreground within the fixed grid, by the affine part of the map;
        "counted_percent", of the fixed foreground in the masks.
    """
    whole, shown = foreground(fixed), moved.data[0] > foreground_level(moving)
    inside = Image(torch.ones(1, *fixed.space.shape, dtype=torch.uint8), fixed.space)
    back = Warp(moving.space, torch.linalg.inv(warp.affine))
    within = back.apply(inside, moving.space, "nearest").data[0] > 0
    mask = _counting(masks, moving, warp)
    one, other = (whole, shown) if mask is None else (whole & mask, shown & mask)
    total = int(one.sum()) + int(other.sum())
    return {
        "overlap_percent": 200 * int((one & other).sum()) / total if total else 0.0,
        "moving_inside_percent": _percent(within, foreground(moving)),
        "counted_percent": 100.0 if mask is None else _percent(mask, whole),
    }


def handedness_of(fixed: Image, moving: Image, affine: Tensor, masks: Masks) -> Handedness:
    """How alike the images are, and how alike they would be with one of them mirrored.

    Args:
        fixed: One channel.
        moving: One channel.
        affine: (4, 4) fixed world to moving world, which aligns them.
        masks: What counts.
    """
    one, other = (
        prepare(image, mask, torch.device("cpu"))
        for image, mask in ((fixed, masks.fixed), (moving, masks.moving))
    )
    return handedness(one, other, affine)


def agreement(
    fixed: Image, moving: Image, warp: Warp, contrast: Contrast | None, masks: Masks
) -> dict[str, Any] | None:
    """How measures that took no part in a deformation judge it, deep inside both images.

    Args:
        fixed: One channel.
        moving: One channel.
        warp: Fixed world to moving world.
        contrast: How the images compare aligned by MIND, if that is known already.
        masks: What counts.

    Returns:
        Of the images aligned by MIND, the local "correlation" and whether that makes them the
        "same_contrast"; "mismatch" by MIND per voxel and mutual "information" in nats, each
        "linear" and "after". None of a linear map, or if the images share no inside.
    """
    if warp.displacement is None:
        return None
    cpu = torch.device("cpu")
    one, other = prepare(fixed, masks.fixed, cpu), prepare(moving, masks.moving, cpu)
    stages = (Warp(warp.space, warp.affine), warp)
    linear, after = (measure_by(stage, one, other) for stage in stages)
    if min(linear.information, after.information) == 0:
        return None
    contrast = contrast or measure(one, other, warp.affine)
    return {
        "correlation": contrast.correlation,
        "same_contrast": contrast.same,
        "mismatch": {"linear": linear.mismatch, "after": after.mismatch},
        "information": {"linear": linear.information, "after": after.information},
    }


def _counting(masks: Masks, moving: Image, warp: Warp) -> Tensor | None:
    """(I, J, K) bool on the fixed grid: what both masks count; None for everything."""
    mask = None if masks.fixed is None else masks.fixed[0] > 0
    if masks.moving is None:
        return mask
    carried = warp.apply(Image(masks.moving, moving.space), interpolation="nearest").data[0] > 0
    return carried if mask is None else mask & carried


def _percent(part: Tensor, of: Tensor) -> float:
    """How much of `of` lies in `part`."""
    return 100 * float(part[of].float().mean()) if bool(of.any()) else 0.0
