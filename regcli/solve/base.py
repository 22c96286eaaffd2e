"""Problem and Solver: a force followed to zero, whatever it is a force on."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """A minimization problem, as solvers see it.

    A step of Gauss-Newton costs as much as evaluating the energy, and both share their work;
    hence `evaluate` returns a state from which `step` goes on.

    Attributes:
        evaluate: y -> energy, () float64, and a state.
        step: y, state, damping -> delta, zero where y is stationary.
        retract: y, delta -> y: how a step is applied.
    """

    evaluate: Callable[[Tensor], tuple[Tensor, Any]]
    step: Callable[[Tensor, Any, float], Tensor]
    retract: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Solution:
    """The end of a solver's run.

    Attributes:
        y: The best iterate.
        energy: There.
        steps: How many were taken.
        converged: Whether the energy had stopped falling; not converging is no error.
        residuals: Energies per iteration, relative to the first.
        stopped: "converged", "steps" or "time"; of fixed points also "plateau" and "diverged", of a
            fixed number of steps "as trained" or "as asked".
    """

    y: Tensor
    energy: float
    steps: int
    converged: bool
    residuals: list[float] = field(default_factory=list)
    stopped: str = "steps"


class Solver(ABC):
    """A way to lower a problem's energy.

    Attributes:
        steps: Most steps.
    """

    steps: int

    @abstractmethod
    def run(self, problem: Problem, y: Tensor, keep_going: Callable[[float], bool]) -> Solution:
        """Iterate from y until converged, out of steps, or told to stop.

        Args:
            problem: What to solve.
            y: Where to start.
            keep_going: Called before each step with the share of steps taken; False stops at once.
        """
