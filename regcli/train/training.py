"""Training: a kind of training, from options to objectives and the header of the weights."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from regcli.compatibility import BY_TRAINING
from regcli.errors import InputError, RecipeError
from regcli.registry import TRAININGS, build
from regcli.train.data.subjects import Subjects
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan

DICE_OF_PAIRS = (
    "mean Dice of the types after registering held-out pairs (without labels, minus the loss)"
)
# fields of TrainPlan whose options have other names, or none
_OPTIONS = {"warm_rate": "--warm-lr", "muted": "muted"}


@dataclass(frozen=True)
class Summary:
    """A training in words, for the card of its weights.

    Attributes:
        title: The network and what it is for.
        course: The steps that it takes.
        limits: Restriction to images of some kind.
        scores: Meaning of the score of each objective, by its name.
    """

    title: str
    course: str
    limits: str
    scores: Mapping[str, str]


class Training(ABC):
    """A kind of training; its fields are the options of `--model`.

    Attributes:
        defaults: Fields of TrainPlan whose defaults differ for this kind.
    """

    defaults: ClassVar[Mapping[str, Any]]

    @abstractmethod
    def check(self, plan: TrainPlan) -> None:
        """Refuse plans that this kind cannot carry out, before anything is read.

        Raises:
            RecipeError: Naming plans that it can.
        """

    @abstractmethod
    def multiple(self, plan: TrainPlan) -> int:
        """The factor f for which axes of f n + 1 voxels suit the network."""

    @abstractmethod
    def completed(self, plan: TrainPlan, subjects: Subjects) -> TrainPlan:
        """The plan with fields filled in that depend on the data.

        Raises:
            InputError: If there is not enough to learn from.
        """

    @abstractmethod
    def objectives(self, plan: TrainPlan, subjects: Subjects) -> list[Objective[Any, Any]]:
        """The objectives, in the order in which they are learned."""

    @abstractmethod
    def make_network(self, plan: TrainPlan, subjects: Subjects) -> nn.Module:
        """The network, with random weights."""

    @abstractmethod
    def facts(self, plan: TrainPlan, subjects: Subjects) -> dict[str, Any]:
        """The header of the weights, without results of the training."""

    @abstractmethod
    def started(
        self, plan: TrainPlan, subjects: Subjects
    ) -> tuple[TrainPlan, dict[str, Tensor] | None]:
        """The plan as changed by the initial weights, and their values; None for random ones.

        Raises:
            WeightsError: If they cannot be used.
            InputError: If they are of another kind.
        """

    @abstractmethod
    def summary(self, plan: Mapping[str, Any]) -> Summary:
        """The training in words.

        Args:
            plan: Fields of TrainPlan, as train.json holds them.
        """


def training_of(model: str) -> Training:
    """The kind of training that `--model` names.

    Raises:
        RecipeError: If there is none, or it has no such options.
    """
    return build(TRAININGS, model)


def refuse_ignored(model: str, given: Mapping[str, Any]) -> None:
    """Refuse settings that have no effect with a kind of training.

    Args:
        model: A spec of registry.TRAININGS.
        given: Values that a user chose, by fields of TrainPlan.

    Raises:
        RecipeError: Naming the first of them.
    """
    for name in BY_TRAINING.get(model.partition(":")[0], ()):
        if name in given:
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
            raise RecipeError(
                f"{option} has no effect with --model {model}.",
                "Leave it out; options of a model are written as deq:steps=12,network=update-full.",
            )


def check_pairs(subjects: Subjects, otherwise: str = "") -> None:
    """Refuse to learn from registrations without pairs.

    Args:
        subjects: To learn from.
        otherwise: Another remedy than to hold out cases, such as ", or give --steps 0".

    Raises:
        InputError: Saying what is missing.
    """
    if not subjects.pairs:
        raise InputError(
            "There is no pair of cases to validate registrations with.",
            f"Hold out two or more with --validation{otherwise}.",
        )
    if len(subjects.training) < 2:
        raise InputError("Registrations need two cases to train on.", "Add some.")
