"""Proximal: a proximal step after each step of a network, for prompts and regularizers.

An update network has no energy to which prompts and regularizers could be added. Its equilibrium
u = g(u) becomes u = prox(g(u)), where prox(w) lowers their energy E near w: it is w + d, with d
the Gauss-Newton step of E(w + d) + |d|^2 / 2.

Source: Combettes and Pesquet, Proximal splitting methods in signal processing, 2011.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.ops.match import Moved, Quadratic, additive
from regcli.ops.penalty import Penalty, along, newton_step
from regcli.registration.equilibrium.force import View
from regcli.registration.force import GaussNewtonForce, Pair
from regcli.registration.prompts import Prompts

Map = Callable[[Tensor], Tensor]
# Of |d|^2: the step of the usual diffusion then smooths like the networks' own smoothing, whose
# variance is .59 voxels^2.
_NEAR = 0.5
# Of the differences of d's neighbours where prompts pull, as if by springs: they pull at some
# voxels only. Four labels that were named came to a mean Dice of .89 without it, .93 with .1 or .5.
_STIFF = 0.1


@dataclass(frozen=True, eq=False)
class Proximal:
    """Prompts and regularizers of a registration by learned steps.

    Attributes:
        force: Holds the regularizers that the network's own smoothing does not replace, and the
            free axes.
        smoothness: Factor of the variance of the network's own smoothing.
        prompts: None without.
    """

    force: GaussNewtonForce
    smoothness: float = 1.0
    prompts: Prompts | None = None

    def after(self, g: Map, view: View, affine: Tensor) -> Map:
        """The composition of a network's map and the proximal step.

        Args:
            g: (1, 3, I, J, K) to the same, voxels.
            view: The pair on this level.
            affine: (4, 4) fixed world to moving world, by which the moving image was carried.
        """
        axes, still = self.force.axes, torch.eye(3, 4, dtype=torch.float64)
        if self.prompts is None and not self.force.regularizers:
            return g if all(axes) else lambda u: along(g(u), axes)
        pair = Pair(view.space, view.fixed, view.moving, still)
        if self.prompts is not None:
            pair = self.prompts.on(pair, view.space, affine, dense=True)
        terms, penalty_of = self.force.terms(pair), self.force.penalty_on(pair)
        weight, springs = torch.ones_like(view.fixed), torch.full((3, 3), _STIFF)

        def pull(u: Tensor) -> Tensor:
            model = _level(u)
            for similarity, f, m in terms:
                model = similarity.model(f, Moved(m, u, still, view.space.shape), weight, model)
            if pair.landmarks is not None:
                model = pair.landmarks.onto(model, u, still)
            d = newton_step(_near(additive(model, u)), Penalty(torch.zeros_like(u), springs), 0.0)
            return u + d

        def prox(u: Tensor) -> Tensor:
            u = along(g(u), axes)
            if self.prompts is not None:
                u = along(pull(u), axes)
            if self.force.regularizers:
                u = u + newton_step(_near(_level(u)), penalty_of(u), 0.0)
            return u

        return prox


NOTHING = Proximal(GaussNewtonForce(()))


def _level(u: Tensor) -> Quadratic:
    """A model that asks for nothing."""
    A = u.new_zeros(1, 6, *u.shape[2:])
    return Quadratic(u.new_zeros((), dtype=torch.float64), torch.zeros_like(u), A)


def _near(model: Quadratic) -> Quadratic:
    """A model with the price of going far, in the same memory."""
    model.A[:, [0, 3, 5]] += _NEAR
    return model
