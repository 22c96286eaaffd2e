"""Task: something a network learns; what the training loop knows of it."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Generator, Tensor

from regcli.nets.base import FeatureNet


class Task(ABC):
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
    def loss(self, net: FeatureNet, generator: Generator, done: float) -> Tensor:
        """() with a graph, of one sample.

        Args:
            net: In training mode.
            generator: Decides the sample and everything else that is random.
            done: Share of the task's steps that have been taken.
        """

    @abstractmethod
    def validate(self, net: FeatureNet) -> tuple[float, dict[str, Any]]:
        """A score, higher is better, always of the same samples; and facts for the header.

        Args:
            net: In evaluation mode; without a graph.
        """
