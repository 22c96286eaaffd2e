"""Equilibria: a network learns steps whose fixed point registers a pair (DEQReg).

A pair is drawn and the network's own map iterated without a graph. Some of the states that it
passes, and the last one, are then taken a few steps further with a graph, one after another: what
the loss says there is all that the network learns from, so memory does not grow with the steps.

Source: Zhang et al., DEQReg, MICCAI 2025.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from regcli.nets.update import StepNet
from regcli.ops.filter import gaussian
from regcli.registration.equilibrium.force import LearnedForce
from regcli.registry import STEP_ADJOINTS, build
from regcli.solve.step_adjoint import squared_slopes, trajectory
from regcli.train.steps.learners import Equilibrium
from regcli.train.steps.objective import StepObjective
from regcli.train.steps.pairs import TrainingPair
from regcli.transforms.grids import resample_field

_CONTRACTION = 1.0  # of distances, by a step at the last state: what exceeds it is penalized
_SMOOTH = 2.0  # voxels: random directions that the smoothing within the map leaves alone
_COARSE = 0.5  # weight of the loss on a level that a finer one follows


@dataclass(frozen=True, eq=False)
class Equilibria(StepObjective):
    """Registration by a fixed point.

    Attributes:
        recipe: The map and its training.
    """

    name: ClassVar[str] = "equilibria"

    recipe: Equilibrium

    def losses(self, net: StepNet, sample: TrainingPair, done: float) -> Iterator[Tensor]:
        """See Objective: one for every state that is corrected, and the map's slopes."""
        recipe, adjoint = self.recipe, build(STEP_ADJOINTS, self.plan.adjoint)
        probe = torch.Generator().manual_seed(sample.seed)
        levels = self.pairs.views(sample, recipe.levels, net.multiple)
        u = levels[0].start
        for number, view in enumerate(levels):
            if number:
                u = resample_field(u, levels[number - 1].space, view.space)
            g = LearnedForce(net, view, recipe.sigma, autocast=self.plan.autocast).onward
            weight = 1.0 if number == len(levels) - 1 else _COARSE
            misfit = self.pairs.misfit(sample, view, recipe)
            *visited, u = trajectory(g, u, recipe.steps, recipe.states)
            for state, gamma in (*((v, recipe.gamma) for v in visited), (u, 1.0)):
                share = weight * gamma
                yield share * misfit(adjoint.attach(g, state))
            if recipe.jacobian:
                with torch.no_grad():
                    step = g(u) - u
                # where it converges slowest, and along some smooth direction
                for v in (step, gaussian(torch.randn(u.shape, generator=probe).to(u), _SMOOTH)):
                    excess = (squared_slopes(g, u, v) - _CONTRACTION**2).clamp(min=0)
                    yield 0.5 * weight * recipe.jacobian * excess
