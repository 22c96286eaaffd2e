"""carry: `sample` for autograd, by the compiled loops in both directions."""

from typing import Any

import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.match import exact_squares
from regcli.ops.sample import sample, scatter


def carry(image: Tensor, displacement: Tensor) -> Tensor:
    """image(x + u(x)), with gradients for both; outside the image its edge is repeated.

    torch's own sampling runs on one core, and holds as much memory as the volumes once more.

    Args:
        image: (1, C, I, J, K); float64 takes torch's own way, which can be derived twice.
        displacement: u, (1, 3, I, J, K) voxels.

    Returns:
        (1, C, I, J, K).
    """
    if image.dtype == torch.float64:
        eye = torch.eye(3, 4, dtype=torch.float64, device=image.device)
        return reference.linear(image, reference.positions(eye, displacement, _shape(displacement)))
    return _Carried.apply(image, displacement)


def _shape(field: Tensor) -> tuple[int, int, int]:
    i, j, k = field.shape[2:]
    return i, j, k


class _Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(image, u)
        return sample(image.detach(), u.detach())

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, u = (t.detach() for t in ctx.saved_tensors)
        (v,) = grad_outputs
        by_image, by_u = ctx.needs_input_grad
        d_image = scatter(v.contiguous(), u) if by_image else None
        if not by_u:
            return d_image, None
        # slopes times v: the force of squared differences whose residual is v
        one = torch.ones_like(u[:, :1])
        return d_image, exact_squares(image, sample(image, u) - v, u, one, 1.0).g
