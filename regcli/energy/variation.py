"""Total variation: maps that are smooth but for where they slide or tear."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Regularizer
from regcli.energy.regularizers import slopes
from regcli.image import Space
from regcli.ops.penalty import Penalty


@dataclass(frozen=True)
class TotalVariation(Regularizer):
    """weight sum of sqrt(|Du|^2 + eps^2) - eps, |Du| the norm of all nine slopes.

    Large slopes cost in proportion, not by their square. The Hessian is the one of slopes weighted
    by what they are now ("lagged diffusivity"), which is larger than the true one.

    Attributes:
        weight: Without units; larger is smoother.
        eps: The slope, mm per mm, below which it is diffusion.

    Source: Rudin, Osher, Fatemi, Physica D 1992; Vogel and Oman, SIAM J. Sci. Comput. 1996.
    """

    weight: float = 0.08
    eps: float = 0.1

    def penalty(self, u: Tensor, space: Space, share: Tensor) -> Penalty:
        """See Regularizer."""
        norm = (_squared_slopes(u, space) + self.eps**2).sqrt_()
        local = slopes(u, space, self.weight, share / norm)
        found = Penalty(u, torch.zeros(3, 3), local)
        value = self.weight * (share * (norm - self.eps)).sum(dtype=torch.float64)
        return Penalty(u, found.stiffness, local, value - found.value)


def _squared_slopes(u: Tensor, space: Space) -> Tensor:
    """|Du|^2 at voxels: means of what the differences to both sides say. (1, 1, I, J, K)."""
    h = torch.tensor(space.spacing, device=u.device)
    out = torch.zeros_like(u[:, :1])
    for axis, n in enumerate(u.shape[2:]):
        if n > 1:
            slope = u.diff(dim=axis + 2) * (h / h[axis]).view(1, 3, 1, 1, 1)
            half = 0.5 * slope.square().sum(dim=1, keepdim=True)
            out.narrow(axis + 2, 0, n - 1).add_(half)
            out.narrow(axis + 2, 1, n - 1).add_(half)
    return out
