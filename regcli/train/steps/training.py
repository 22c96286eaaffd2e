"""StepTraining: the common part of trainings of step networks."""

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from regcli.errors import InputError, RecipeError
from regcli.io.weights import facts as header
from regcli.io.weights import find, tensors
from regcli.nets.update import StepNet
from regcli.registration.equilibrium.model import (
    MOST_LEVELS,
    MOST_STEPS,
    assemble,
    step_network,
)
from regcli.train.data.subjects import Subjects
from regcli.train.plan import TrainPlan
from regcli.train.training import Summary, Training, check_pairs

STEP_DEFAULTS = MappingProxyType({"steps": 3000, "rate": 3e-4, "warm_steps": 0})
OR_ZERO = {"zero": True}  # metadata of options that may be 0


class StepTraining(Training):
    """See the module.

    Attributes:
        network: A spec of registry.UPDATES.
        levels: Number of grids on which the network takes steps.
        steps: On each level in training.
        sigma: Of smoothing by each step, voxels.
        labels: Weight of the overlap of structures in the loss.
        smoothness: Weight of the squared length of the displacement's differences.
        folds: Weight of how far determinants fall below .2; of its mean over voxels.
    """

    network: str
    levels: int
    steps: int
    sigma: float
    labels: float
    smoothness: float
    folds: float

    @property
    @abstractmethod
    def scores(self) -> Mapping[str, str]:
        """Meaning of the score of each objective, by its name."""

    def usable_network(self, plan: TrainPlan) -> StepNet:
        """The network, if registrations can take as many steps.

        Raises:
            RecipeError: If they cannot.
        """
        if self.levels > MOST_LEVELS or self.steps > MOST_STEPS:
            raise RecipeError(
                f"{plan.model}: {self.levels} levels of {self.steps} steps.",
                f"At most {MOST_LEVELS} of {MOST_STEPS} can be registered with.",
            )
        return step_network(self.network)

    def multiple(self, plan: TrainPlan) -> int:
        """See Training."""
        return step_network(self.network).multiple

    def completed(self, plan: TrainPlan, subjects: Subjects) -> TrainPlan:
        """See Training."""
        if plan.steps == 0:
            raise InputError("With --steps 0 nothing is learned.", "Give --steps.")
        check_pairs(subjects)
        return plan

    def make_network(self, plan: TrainPlan, subjects: Subjects) -> nn.Module:
        """See Training."""
        return step_network(self.network)

    def facts(self, plan: TrainPlan, subjects: Subjects) -> dict[str, Any]:
        """See Training; `registration.equilibrium.model.assemble` reads them."""
        return {
            "model": plan.model.partition(":")[0],
            "network": self.network,
            "spacing_mm": plan.spacing_mm,
            "levels": self.levels,
            "steps": self.steps,
            "sigma": self.sigma,
            "recipe": vars(self),
        }

    def started(
        self, plan: TrainPlan, subjects: Subjects
    ) -> tuple[TrainPlan, dict[str, Tensor] | None]:
        """See Training."""
        if not plan.start:
            return plan, None
        file = find(plan.start)
        start = assemble(file.name, file.sha256, header(file.path), tensors(file.path))
        begun = header(file.path)["network"]
        if self.network != begun:
            raise InputError(
                f"--start {plan.start} holds a network {begun}, not {self.network}.",
                "Leave --start out, or train the model that it is of.",
            )
        return plan, start.net.state_dict()

    def summary(self, plan: Mapping[str, Any]) -> Summary:
        """See Training."""
        return Summary(
            f"a network of steps ({plan['model'].partition(':')[0]})",
            f"{plan['model']}, {plan['steps']} steps",
            "both of a pair have the same contrast",
            self.scores,
        )
