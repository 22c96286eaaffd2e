"""Gradients through an equilibrium: how the best displacement changes with what it matches.

At the optimum u of E(u) = scale/2 sum_x w |M(x + u(x)) - F(x)|^2 + u . R u / 2 the force is zero.
So for a loss T(u), with v = dT/du and H the energy's Hessian, dT/dM = -d<p, dE/du>/dM where
H p = v, and likewise for F. No step of the solver is remembered.

Source: Bai et al., Deep Equilibrium Models, NeurIPS 2019; Jena et al., DIO, 2025.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regcli.ops.match import Quadratic, exact_squares
from regcli.ops.newton import solve
from regcli.ops.sample import sample, scatter

_STEP = 0.01  # voxels: the longest that p is walked for its directional derivative


@dataclass(frozen=True, eq=False)
class Energy:
    """What a displacement of features is the optimum of.

    Attributes:
        weight: w, (1, 1, I, J, K).
        stiffness: (3, 3) of R, see `Regularizer.stiffness`.
        scale: Of the squared differences.
    """

    weight: Tensor
    stiffness: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class GaussNewtonIFT:
    """The implicit function theorem with the Gauss-Newton Hessian, solved by conjugate gradients.

    Leaving out the Hessian's part that the residual scales costs little: ten iterations give
    a cosine of 0.99 and more to the exact gradient, where the residual is small.

    Attributes:
        iterations: Of conjugate gradients.
        damping: Of the Hessian, relative to the mean diagonal of its data term.
    """

    iterations: int = 10
    damping: float = 1e-3

    def attach(self, displacement: Tensor, moving: Tensor, fixed: Tensor, energy: Energy) -> Tensor:
        """The displacement, with gradients for the features.

        Args:
            displacement: u, (1, 3, I, J, K) voxels, the optimum; without a graph.
            moving: M, (1, C, I, J, K).
            fixed: F, (1, C, I, J, K).
            energy: Its terms.

        Returns:
            u again; its backward pass takes memory for a few volumes of features, whatever the
            number of steps that led to u.
        """
        return _Implicit.apply(moving, fixed, displacement.detach(), energy, self)

    def preimage(self, v: Tensor, u: Tensor, M: Tensor, F: Tensor, energy: Energy) -> Tensor:
        """p of H p = v: (1, 3, I, J, K)."""
        model = exact_squares(M, F, u, energy.weight, energy.scale)
        system = Quadratic(model.value, -v, model.A)
        return solve(system, torch.zeros_like(u), energy.stiffness, self.damping, self.iterations)


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, M: Tensor, F: Tensor, u: Tensor, energy: Energy, adjoint: GaussNewtonIFT
    ) -> Tensor:
        ctx.save_for_backward(M, F, u)
        ctx.energy, ctx.adjoint = energy, adjoint
        return u.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        M, F, u = (t.detach() for t in ctx.saved_tensors)
        energy: Energy = ctx.energy
        p = ctx.adjoint.preimage(grad_outputs[0].contiguous(), u, M, F, energy)
        # <p, dE/du> as a difference of energies: its gradients are those of two plain energies
        reach = float(p.square().sum(dim=1).amax().sqrt())
        if reach == 0:
            return torch.zeros_like(M), torch.zeros_like(F), None, None, None
        step = _STEP / reach
        ahead, behind = u + step * p, u - step * p
        pull = energy.weight * (energy.scale / (2 * step))
        r_ahead, r_behind = ((sample(M, w) - F).mul_(pull) for w in (ahead, behind))
        dF = r_ahead - r_behind
        dM = scatter(r_behind, behind).sub_(scatter(r_ahead, ahead))
        return dM, dF, None, None, None
