"""Objective: something a network learns; what the training loop knows of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Generator, Tensor, nn

from regcli.train.plan import TrainPlan

S = TypeVar("S")
N = TypeVar("N", bound=nn.Module)


class Objective(ABC, Generic[S, N]):
    """A loss to lower and a score to raise.

    Attributes:
        name: In train.csv.
        plan: What to do.
    """

    name: ClassVar[str]
    plan: TrainPlan

    @property
    def steps(self) -> int:
        """The number of steps."""
        return self.plan.steps

    @property
    def rate(self) -> float:
        """Highest learning rate."""
        return self.plan.rate

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """By which a network learns; its state may hold tensors alone."""
        return torch.optim.AdamW(
            net.parameters(), lr=self.rate, betas=(0.9, 0.98), weight_decay=self.plan.decay
        )

    @abstractmethod
    def draw(self, generator: Generator, step: int) -> S:
        """A sample, and all else that is random about a step; on any thread.

        Args:
            generator: Decides everything.
            step: Whose sample it is: what is drawn may become harder as learning goes on.
        """

    @abstractmethod
    def losses(self, net: N, sample: S, done: float) -> Iterator[Tensor]:
        """Parts of the loss, () with a graph each, whose sum is to be lowered.

        Gradients of a part are taken before the next one is asked for: only one graph is kept.

        Args:
            net: In training mode.
            sample: What was drawn.
            done: Share of the task's steps that have been taken.
        """

    @abstractmethod
    def validate(self, net: N) -> tuple[float, dict[str, Any]]:
        """A score, higher is better, always of the same samples; and facts for the header.

        Args:
            net: In evaluation mode; without a graph.
        """
