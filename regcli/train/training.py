"""Training: a kind of training, from options to objectives and the header of the weights."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from regcli.errors import InputError
from regcli.train.data.subjects import Subjects
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan


class Training(ABC):
    """A kind of training."""

    @abstractmethod
    def check(self, plan: TrainPlan) -> None:
        """Refuse what this kind cannot do, before anything is read.

        Raises:
            RecipeError: Naming what it can.
        """

    @abstractmethod
    def completed(self, plan: TrainPlan, subjects: Subjects) -> TrainPlan:
        """The plan with what depends on the data filled in.

        Raises:
            InputError: If there is not enough to learn from.
        """

    @abstractmethod
    def objectives(self, plan: TrainPlan, subjects: Subjects) -> list[Objective[Any, Any]]:
        """The objectives, in the order in which they are learned."""

    @abstractmethod
    def network(self, plan: TrainPlan, subjects: Subjects) -> nn.Module:
        """With random weights."""

    @abstractmethod
    def facts(self, plan: TrainPlan, subjects: Subjects) -> dict[str, Any]:
        """The header of the weights, without results of the training."""

    @abstractmethod
    def started(
        self, plan: TrainPlan, subjects: Subjects
    ) -> tuple[TrainPlan, dict[str, Tensor] | None]:
        """The plan as the weights that it starts with change it, and their values; None without.

        Raises:
            WeightsError: If they cannot be used.
            InputError: If they are of another kind.
        """


def check_pairs(plan: TrainPlan, subjects: Subjects) -> None:
    """Refuse to learn from registrations without pairs.

    Raises:
        InputError: Saying what is missing.
    """
    if not subjects.pairs:
        raise InputError(
            "There is no pair of cases to validate registrations with.",
            "Hold out two or more with --validation"
            + (", or give --steps 0." if plan.model == "dio" else "."),
        )
    if len(subjects.training) < 2:
        raise InputError("Registrations need two cases to train on.", "Add some.")
