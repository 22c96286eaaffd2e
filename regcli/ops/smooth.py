"""smoothed: three taps of a Gaussian along every axis, for autograd, by the compiled loops."""

import math
from typing import Any

import torch
from torch import Tensor

from regcli.ops.filter import Taps, separable
from regcli.ops.kernels import reference


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
    taps = torch.tensor([side, 1.0, side], dtype=torch.float32) / (1 + 2 * side)
    i, j, k = (taps if n > 1 else torch.ones(1) for n in field.shape[2:])
    return i, j, k
