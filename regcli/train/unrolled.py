"""Unrolling: a network learns a fixed number of steps by backpropagation through all of them.

The baselines that DEQReg is compared with: memory grows with the steps, and nothing says what the
network does after the last one.

Source: Qiu et al., GraDIRN, MICCAI 2022; Zhang et al., RIIR, 2024; Balakrishnan et al., VoxelMorph,
TMI 2019.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from regcli.models.learned import march
from regcli.nets.update import StepNet
from regcli.train.learners import Unrolled
from regcli.train.plan import TrainPlan
from regcli.train.scenes import Scene, Scenes
from regcli.train.task import Task


@dataclass(frozen=True, eq=False)
class Unrolling(Task[Scene, StepNet]):
    """Registration by a number of steps.

    Attributes:
        scenes: What to learn from.
        plan: What to do.
        recipe: The steps and their training.
    """

    name: ClassVar[str] = "unrolled"

    scenes: Scenes
    plan: TrainPlan
    recipe: Unrolled

    @property
    def steps(self) -> int:
        """See Task."""
        return self.plan.steps

    @property
    def rate(self) -> float:
        """See Task."""
        return self.plan.rate

    def draw(self, generator: Generator) -> Scene:
        """See Task."""
        return self.scenes.draw(generator)

    def losses(self, net: StepNet, sample: Scene, done: float) -> Iterator[Tensor]:
        """See Task: one, of the steps on the finest level."""
        recipe = self.recipe
        levels = self.scenes.views(sample, recipe.levels, net.multiple)
        misfit = self.scenes.misfit(
            sample, levels[-1], smoothness=recipe.smoothness, labels=recipe.labels
        )
        losses, weights = [], []
        way = march(net, levels, recipe.steps, recipe.sigma, self.plan.autocast)
        for step, u in enumerate(way, 1):
            weights.append(_weight(step, recipe))
            if weights[-1]:
                losses.append(weights[-1] * misfit(u))
        yield torch.stack(losses).sum() / sum(weights)

    def validate(self, net: StepNet) -> tuple[float, dict[str, Any]]:
        """See Task: after as many steps as in training."""
        scores = []
        for scene in self.scenes.validation:
            levels = self.scenes.views(scene, self.recipe.levels, net.multiple)
            recipe, autocast = self.recipe, self.plan.autocast
            *_, u = march(net, levels, recipe.steps, recipe.sigma, autocast)
            scores.append(self.scenes.score(scene, u, levels[-1], self.recipe.smoothness))
        return sum(scores) / len(scores), {}


def _weight(step: int, recipe: Unrolled) -> float:
    """Of the loss after a step of the finest level, counted from 1."""
    if not recipe.rising:
        return float(step == recipe.steps)
    return recipe.rising ** ((step - 1) / max(recipe.steps - 1, 1))
