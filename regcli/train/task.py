"""Task: something a network learns; what the training loop knows of it."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from torch import Generator, Tensor

from regcli.nets.base import FeatureNet

S = TypeVar("S")


class Task(ABC, Generic[S]):
    """A loss to lower and a score to raise.

    Attributes:
        name: In train.csv.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many."""

    @property
    @abstractmethod
    def rate(self) -> float:
        """Highest learning rate."""

    @abstractmethod
    def draw(self, generator: Generator) -> S:
        """A sample, and all else that is random about a step; on any thread.

        Args:
            generator: Decides everything.
        """

    @abstractmethod
    def loss(self, net: FeatureNet, sample: S, done: float) -> Tensor:
        """() with a graph.

        Args:
            net: In training mode.
            sample: What was drawn.
            done: Share of the task's steps that have been taken.
        """

    @abstractmethod
    def validate(self, net: FeatureNet) -> tuple[float, dict[str, Any]]:
        """A score, higher is better, always of the same samples; and facts for the header.

        Args:
            net: In evaluation mode; without a graph.
        """
