"""Intensities made ready for registration: a robust range, and what counts as foreground."""

import torch
from torch import Tensor

from regcli.image import Image, rearrange
from regcli.registration.pyramid import Prepared

_LOW, _HIGH = 0.01, 0.999
_SAMPLE = 2_000_000  # voxels that decide a percentile: more change its fourth digit
FOREGROUND = 0.05  # of the robust range


def robust_range(data: Tensor, mask: Tensor | None = None) -> tuple[float, float]:
    """1st and 99.9th percentile of the voxels above the least value, which counts as background.

    Args:
        data: Intensities, any shape.
        mask: Only voxels where it is above 0 count; of the same shape, or None.

    Returns:
        Low and high, low < high unless the image is constant.
    """
    values = (data.flatten() if mask is None else data[mask > 0]).to(torch.float32)
    least, greatest = float(values.min()), float(values.max())
    values = values[values > least]
    if len(values) == 0:
        return least, greatest
    values = values[:: max(1, len(values) // _SAMPLE)].sort().values
    low = float(values[int(_LOW * (len(values) - 1))])
    high = float(values[int(_HIGH * (len(values) - 1))])
    return (low, high) if high > low else (least, greatest)


def prepare(
    image: Image,
    mask: Tensor | None,
    device: torch.device,
    limits: tuple[float, float] | None = None,
) -> Prepared:
    """One channel in canonical axis order, its robust range mapped to [0, 1].

    Args:
        image: (1, I, J, K).
        mask: (1, I, J, K) on the image's grid, what counts in the loss; or None.
        device: Where to compute.
        limits: Of the robust range, if they are known.
    """
    low, high = limits or robust_range(image.data, mask)
    space = image.space.canonical()
    data = rearrange(image.data.to(torch.float32), image.space, space)
    data = ((data - low) / ((high - low) or 1.0)).clamp_(0, 1)[None].to(device)
    if mask is None:
        return Prepared(space, data)
    weight = rearrange(mask.to(torch.float32), image.space, space)[None].to(device)
    return Prepared(space, data, weight.clamp(0, 1))


def foreground_level(image: Image) -> float:
    """The intensity above which a voxel is foreground: 5 % of the robust range."""
    low, high = robust_range(image.data)
    return low + FOREGROUND * (high - low)


def foreground(image: Image) -> Tensor:
    """(I, J, K) bool: voxels above 5 % of the robust range."""
    return image.data[0].to(torch.float32) > foreground_level(image)
