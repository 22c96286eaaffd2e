"""Gradients through an equilibrium: how the best displacement changes with what it matches.

At the optimum u of E(u) = scale/2 sum_x w |M(x + u(x)) - F(x)|^2 + u . R u / 2 the force is zero.
So for a loss T(u), with v = dT/du and H the energy's Hessian, dT/dM = -d<p, dE/du>/dM where
H p = v, and likewise for F. No step of the solver is remembered.

Adjoints differ in their p, and not in its direction alone: `Phantom` gives a part of its length,
with one step a small one. Learning rates and loss weights do not carry over between them.

Source: Bai et al., Deep Equilibrium Models, NeurIPS 2019; Jena et al., DIO, 2025.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regcli.ops.match import Quadratic, exact_squares
from regcli.ops.newton import diffuse, solve
from regcli.ops.sample import sample, scatter
from regcli.ops.totals import total
from regcli.solve.curvature import force_and_blocks, inverse, residual_blocks, times

_STEP = 0.01  # voxels: the longest that p is walked for its directional derivative
_ROUNDING = 1e-6  # of the residual: as far as float32 goes


@dataclass(frozen=True, eq=False)
class Energy:
    """The energy of which a displacement of features is the optimum.

    Attributes:
        weight: w, (1, 1, I, J, K).
        stiffness: (3, 3) of R, see `Diffusion.stiffness`.
        scale: Of the squared differences.
    """

    weight: Tensor
    stiffness: Tensor
    scale: float = 1.0


class Adjoint(ABC):
    """A way for gradients to pass from a displacement to the features that it matches."""

    @abstractmethod
    def attach(self, displacement: Tensor, moving: Tensor, fixed: Tensor, energy: Energy) -> Tensor:
        """The displacement, with gradients for the features.

        Args:
            displacement: u, (1, 3, I, J, K) voxels: the optimum, without a graph.
            moving: M, (1, C, I, J, K).
            fixed: F, (1, C, I, J, K).
            energy: Its terms.

        Returns:
            u again. Its backward pass takes memory for a few volumes of features, whatever the
            number of steps that led to u.
        """


@dataclass(frozen=True)
class GaussNewtonIFT(Adjoint):
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
        """See Adjoint."""
        return _attach(displacement, moving, fixed, energy, self._preimage)

    def _preimage(self, v: Tensor, u: Tensor, M: Tensor, F: Tensor, energy: Energy) -> Tensor:
        model = exact_squares(M, F, u, energy.weight, energy.scale)
        system = Quadratic(model.value, -v, model.A)
        return solve(system, torch.zeros_like(u), energy.stiffness, self.damping, self.iterations)


@dataclass(frozen=True)
class IFT(Adjoint):
    """The implicit function theorem with the exact Hessian, solved by least residuals.

    Worth its cost where the residual is large. Away from a minimum the Hessian may have negative
    eigenvalues: unlike conjugate gradients, least residuals (MINRES) do not mind them.

    Attributes:
        iterations: Of least residuals.
    """

    iterations: int = 20

    def attach(self, displacement: Tensor, moving: Tensor, fixed: Tensor, energy: Energy) -> Tensor:
        """See Adjoint."""
        return _attach(displacement, moving, fixed, energy, self._preimage)

    def _preimage(self, v: Tensor, u: Tensor, M: Tensor, F: Tensor, energy: Energy) -> Tensor:
        return _minres(_hessian(u, M, F, energy), v, self.iterations)


@dataclass(frozen=True)
class Phantom(Adjoint):
    """The gradient of some steps of relaxation taken at the optimum, without their graph.

    A step is u <- u - rate B^-1 dE/du, with B the 3 x 3 blocks of the Gauss-Newton Hessian. Its
    derivative at the optimum is I - rate B^-1 H, so p is the first terms of the Neumann series of
    H^-1 v: p = sum_{k < steps} (I - rate B^-1 H)^k rate B^-1 v. The fewer, the shorter; and where H
    has a negative eigenvalue, as away from a minimum, the series grows instead of converging.

    Attributes:
        steps: Terms of the series; one is Jacobian-free backpropagation (jfb).
        rate: Of a step; from 1 on, checkerboards grow.

    Source: Geng et al., On Training Implicit Models, NeurIPS 2021; Fung et al., JFB, AAAI 2022.
    """

    steps: int = 5
    rate: float = 0.8

    def attach(self, displacement: Tensor, moving: Tensor, fixed: Tensor, energy: Energy) -> Tensor:
        """See Adjoint."""
        return _attach(displacement, moving, fixed, energy, self._preimage)

    def _preimage(self, v: Tensor, u: Tensor, M: Tensor, F: Tensor, energy: Energy) -> Tensor:
        H = _hessian(u, M, F, energy)
        p = torch.zeros_like(v)
        for _ in range(self.steps):
            p = p + self.rate * H.precondition(v - H.times(p))
        return p


def unrolled(
    start: Tensor,
    moving: Tensor,
    fixed: Tensor,
    energy: Energy,
    *,
    steps: int = 30,
    rate: float = 0.8,
) -> Tensor:
    """The relaxation of `Phantom`, with a graph of every step: what adjoints approximate.

    Args:
        start: Displacement, say zero or a coarser level's, (1, 3, I, J, K) voxels.
        moving: M, (1, C, I, J, K).
        fixed: F, (1, C, I, J, K).
        energy: Its terms.
        steps: Of relaxation; memory grows with them.
        rate: Of a step.

    Returns:
        (1, 3, I, J, K) voxels, where the steps end.
    """
    u = start
    for _ in range(steps):
        g, A = force_and_blocks(moving, fixed, u, energy.weight, energy.scale)
        g = g + diffuse(u, energy.stiffness)[0]
        u = u - rate * times(inverse(A, energy.stiffness), g)
    return u


@dataclass(frozen=True, eq=False)
class _Hessian:
    """The energy's exact one, where it was taken.

    Attributes:
        blocks: (1, 6, I, J, K) of the data term.
        stiffness: (3, 3) of R.
        inverse: (1, 6, I, J, K), B^-1.
    """

    blocks: Tensor
    stiffness: Tensor
    inverse: Tensor

    def times(self, p: Tensor) -> Tensor:
        return times(self.blocks, p) + diffuse(p, self.stiffness)[0]

    def precondition(self, r: Tensor) -> Tensor:
        return times(self.inverse, r)


def _hessian(u: Tensor, M: Tensor, F: Tensor, energy: Energy) -> _Hessian:
    A = exact_squares(M, F, u, energy.weight, energy.scale).A
    S = residual_blocks(M, F, u, energy.weight, energy.scale)
    return _Hessian(A + S, energy.stiffness, inverse(A, energy.stiffness))


def _minres(H: _Hessian, v: Tensor, iterations: int) -> Tensor:
    """p for which v - H p is least, as B^-1 measures it, in the Krylov space of B^-1 H and B^-1 v.

    Lanczos makes H tridiagonal, Givens rotations (c, s) make that triangular.
    """
    p, w, w_before, q_before = (torch.zeros_like(v) for _ in range(4))
    r, z = v, H.precondition(v)
    beta = first = rest = _norm(r, z)
    c, s, next_above, corner = -1.0, 0.0, 0.0, 0.0
    for _ in range(iterations):
        if rest <= _ROUNDING * first:
            break
        q, z = r / beta, z / beta
        r = H.times(z) - beta * q_before
        alpha = float(total(r * z))
        r, q_before = r - alpha * q, q
        above, turned = c * next_above + s * alpha, s * next_above - c * alpha
        z_next = H.precondition(r)
        beta = _norm(r, z_next)
        last_corner, corner, next_above = corner, s * beta, -c * beta
        gamma = max(math.hypot(turned, beta), 1e-30)
        c, s = turned / gamma, beta / gamma
        w, w_before = (z - last_corner * w_before - above * w) / gamma, w
        p, rest, z = p + c * rest * w, s * rest, z_next
    return p


def _norm(r: Tensor, z: Tensor) -> float:
    return math.sqrt(max(float(total(r * z)), 0))


_Preimage = Callable[[Tensor, Tensor, Tensor, Tensor, Energy], Tensor]


def _attach(u: Tensor, M: Tensor, F: Tensor, energy: Energy, preimage: _Preimage) -> Tensor:
    return _Implicit.apply(M, F, u.detach().contiguous(), energy, preimage)


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, M: Tensor, F: Tensor, u: Tensor, energy: Energy, preimage: _Preimage
    ) -> Tensor:
        ctx.save_for_backward(M, F, u)
        ctx.energy, ctx.preimage = energy, preimage
        return u.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        M, F, u = (t.detach() for t in ctx.saved_tensors)
        energy: Energy = ctx.energy
        p = ctx.preimage(grad_outputs[0].contiguous(), u, M, F, energy)
        # <p, dE/du> as a difference of energies: its gradients are those of two plain energies
        reach = float(p.square().sum(dim=1).amax().sqrt())
        if not 0 < reach < math.inf:  # nothing to pass on, or not a number, which all shall see
            return torch.full_like(M, 0 * reach), torch.full_like(F, 0 * reach), None, None, None
        way = (_STEP / reach) * p
        ahead, behind = u + way, u - way
        pull = energy.weight * (energy.scale * reach / (2 * _STEP))
        r_ahead, r_behind = ((sample(M, w) - F).mul_(pull) for w in (ahead, behind))
        dF = r_ahead - r_behind
        dM = scatter(r_behind, behind).sub_(scatter(r_ahead, ahead))
        return dM, dF, None, None, None
