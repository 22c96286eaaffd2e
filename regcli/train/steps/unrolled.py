"""Unrolling: a network learns a fixed number of steps by backpropagation through all of them.

The baselines that DEQReg is compared with: memory grows with the steps, and nothing says what the
network does after the last one.

Source: Qiu et al., GraDIRN, MICCAI 2022; Zhang et al., RIIR, 2024; Balakrishnan et al., VoxelMorph,
TMI 2019.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from regcli.nets.update import StepNet
from regcli.registration.equilibrium.force import march
from regcli.train.steps.learners import Unrolled
from regcli.train.steps.objective import StepObjective
from regcli.train.steps.pairs import TrainingPair


@dataclass(frozen=True, eq=False)
class Unrolling(StepObjective):
    """Registration by a number of steps.

    Attributes:
        recipe: The steps and their training.
    """

    name: ClassVar[str] = "unrolled"

    recipe: Unrolled

    def losses(self, net: StepNet, sample: TrainingPair, done: float) -> Iterator[Tensor]:
        """See Objective: one, of the steps on the finest level."""
        recipe = self.recipe
        levels = self.pairs.views(sample, recipe.levels, net.multiple)
        misfit = self.pairs.misfit(sample, levels[-1], recipe)
        losses, weights = [], []
        way = march(net, levels, recipe.steps, recipe.sigma, self.plan.autocast)
        for step, u in enumerate(way, 1):
            weights.append(_weight(step, recipe))
            if weights[-1]:
                losses.append(weights[-1] * misfit(u))
        yield torch.stack(losses).sum() / sum(weights)


def _weight(step: int, recipe: Unrolled) -> float:
    """Weight of the loss after a step on the finest level, counted from 1."""
    if not recipe.rising:
        return float(step == recipe.steps)
    return recipe.rising ** ((step - 1) / max(recipe.steps - 1, 1))
