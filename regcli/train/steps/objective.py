"""StepTask: what the training of all networks of steps has in common."""

from dataclasses import dataclass
from typing import Any

from torch import Generator

from regcli.nets.update import StepNet
from regcli.registration.equilibrium.force import march
from regcli.train.plan import TrainPlan
from regcli.train.steps.learners import Steps
from regcli.train.steps.pairs import TrainingPair, TrainingPairs
from regcli.train.task import Task


@dataclass(frozen=True, eq=False)
class StepTask(Task[TrainingPair, StepNet]):
    """Registration by steps.

    Attributes:
        scenes: What to learn from.
        plan: What to do.
        recipe: The steps and their training.
    """

    scenes: TrainingPairs
    plan: TrainPlan
    recipe: Steps

    def draw(self, generator: Generator, step: int) -> TrainingPair:
        """See Task."""
        return self.scenes.draw(generator)

    def validate(self, net: StepNet) -> tuple[float, dict[str, Any]]:
        """See Task: after as many plain steps as in training, on every level."""
        scores = []
        for scene in self.scenes.validation:
            levels = self.scenes.views(scene, self.recipe.levels, net.multiple)
            recipe, autocast = self.recipe, self.plan.autocast
            *_, u = march(net, levels, recipe.steps, recipe.sigma, autocast)
            scores.append(self.scenes.score(scene, u, levels[-1], recipe.smoothness))
        return sum(scores) / len(scores), {}
