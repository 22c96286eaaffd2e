"""StepObjective: what the training of all networks of steps has in common."""

from dataclasses import dataclass
from typing import Any

from torch import Generator

from regcli.nets.update import StepNet
from regcli.registration.equilibrium.force import march
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.steps.learners import Steps
from regcli.train.steps.pairs import TrainingPair, TrainingPairs


@dataclass(frozen=True, eq=False)
class StepObjective(Objective[TrainingPair, StepNet]):
    """Registration by steps.

    Attributes:
        pairs: What to learn from.
        plan: What to do.
        recipe: The steps and their training.
    """

    pairs: TrainingPairs
    plan: TrainPlan
    recipe: Steps

    def draw(self, generator: Generator, step: int) -> TrainingPair:
        """See Objective."""
        return self.pairs.draw(generator)

    def validate(self, net: StepNet) -> tuple[float, dict[str, Any]]:
        """See Objective: after as many plain steps as in training, on every level."""
        scores = []
        for pair in self.pairs.validation:
            levels = self.pairs.views(pair, self.recipe.levels, net.multiple)
            recipe, autocast = self.recipe, self.plan.autocast
            *_, u = march(net, levels, recipe.steps, recipe.sigma, autocast)
            scores.append(self.pairs.score(pair, u, levels[-1], recipe.smoothness))
        return sum(scores) / len(scores), {}
