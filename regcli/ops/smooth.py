"""smoothed: three taps of a Gaussian along every axis, for autograd, by the compiled loops."""

import math
from typing import Any

import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.filter import Taps, gaussian, separable

_MOST = 2 / 3  # variance of three taps that are equal


def smoothed(field: Tensor, sigma: float) -> Tensor:
    """A field a little smoother, with gradients.

    With three taps and edges repeated outside, the filter is its own transpose: its backward pass
    is itself.

    Args:
        field: (B, C, I, J, K); float64 takes torch's own way, which can be derived twice.
        sigma: Of the Gaussian whose three middle samples are taken, voxels; 0 changes nothing.

    Returns:
        (B, C, I, J, K).
    """
    if sigma == 0:
        return field
    if field.dtype == torch.float64:
        return reference.separable(field, _three_taps(field, sigma), replicate=True)
    return _Smoothed.apply(field, sigma)


def variance(sigma: float) -> float:
    """Variance of the three taps of `smoothed`, voxels^2: 0 to 2/3."""
    side = math.exp(-0.5 / sigma**2) if sigma else 0.0
    return 2 * side / (1 + 2 * side)


def spread(field: Tensor, variance: float) -> Tensor:
    """A field smoothed with any variance, (B, C, I, J, K) to the same, without gradients.

    Args:
        field: float32.
        variance: Of the filter, voxels^2.
    """
    if variance > _MOST:
        return gaussian(field, math.sqrt(variance))
    taps = torch.tensor([0.5 * variance, 1 - variance, 0.5 * variance], dtype=torch.float32)
    return separable(field, _solid(field, taps))


class _Smoothed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, field: Tensor, sigma: float) -> Tensor:
        ctx.sigma = sigma
        return separable(field.detach(), _three_taps(field, sigma))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        pull = grad_outputs[0].detach()
        return separable(pull, _three_taps(pull, ctx.sigma)), None


def _three_taps(field: Tensor, sigma: float) -> Taps:
    side = math.exp(-0.5 / sigma**2)
    return _solid(field, torch.tensor([side, 1.0, side], dtype=torch.float32) / (1 + 2 * side))


def _solid(field: Tensor, taps: Tensor) -> Taps:
    """Taps along the axes that have voxels."""
    i, j, k = (taps if n > 1 else torch.ones(1) for n in field.shape[2:])
    return i, j, k
