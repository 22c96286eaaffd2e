"""Separable filters: Gaussians, window sums and central differences."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.backends.choose import backend, triton
from regcli.ops.backends.numba import filter as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run

Triple = tuple[float, float, float]
Taps = tuple[Tensor, Tensor, Tensor]


def gaussian(image: Tensor, sigma: float | Triple) -> Tensor:
    """Gaussian smoothing; the edge voxel is repeated outside.

    Args:
        image: (B, C, I, J, K).
        sigma: Standard deviation in voxels, one number or one per axis; axes of length 1 and
            sigma 0 are left alone.

    Returns:
        (B, C, I, J, K).
    """
    sigmas = (sigma,) * 3 if isinstance(sigma, (int, float)) else sigma
    taps = [
        gaussian_taps(s if n > 1 else 0.0) for s, n in zip(sigmas, image.shape[2:], strict=True)
    ]
    return separable(image, (taps[0], taps[1], taps[2]))


def box_sum(image: Tensor, radius: int) -> Tensor:
    """Sum over windows of 2 * radius + 1 voxels along each axis; nothing lies outside the volume.

    Args:
        image: (B, C, I, J, K).
        radius: Voxels.

    Returns:
        (B, C, I, J, K).
    """
    taps = [torch.ones(2 * radius + 1 if n > 1 else 1) for n in image.shape[2:]]
    return separable(image, (taps[0], taps[1], taps[2]), replicate=False)


def gradient(image: Tensor) -> Tensor:
    """Central differences along each axis, one-sided at the edges.

    Args:
        image: (B, 1, I, J, K).

    Returns:
        (B, 3, I, J, K).
    """
    return reference.gradient(image)[:, 0]


def separable(image: Tensor, taps: Taps, *, replicate: bool = True) -> Tensor:
    """A filter along each axis.

    Args:
        image: (B, C, I, J, K).
        taps: An odd number of weights per axis.
        replicate: Whether the edge is repeated outside; else nothing lies there.

    Returns:
        (B, C, I, J, K).
    """
    i, j, k = taps
    where = backend(image)
    if where == "triton":
        return triton("filter").separable(image, taps, replicate)
    if where == "reference":
        return reference.separable(image, taps, replicate)
    stack = image.to(torch.float32).reshape(-1, *image.shape[2:]).contiguous()
    once, out = empty(*image.shape[2:]).numpy(), empty(*stack.shape)
    planes, tj, tk, ti = image.shape[2], j.numpy(), k.numpy(), i.numpy()
    for volume, smooth in zip(stack, out, strict=True):
        run(loops.within_planes, planes, volume.numpy(), tj, tk, replicate, once)
        run(loops.across_planes, planes, once, ti, replicate, smooth.numpy())
    return out.reshape(image.shape)


@lru_cache(maxsize=64)
def gaussian_taps(sigma: float) -> Tensor:
    """Weights of a Gaussian of a standard deviation in voxels, within three of it; of sum 1."""
    radius = math.ceil(3 * sigma - 1e-6)  # of a sigma that was computed, too
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / max(sigma, 1e-9)) ** 2)
    return (taps / taps.sum()).to(torch.float32)
