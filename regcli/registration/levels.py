"""Levels: problems that are solved in turn, from the coarsest grid to the finest."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regcli.image import Space
from regcli.ops.memory import release
from regcli.solve.base import Solution


@dataclass(frozen=True, eq=False)
class Watch:
    """Progress outwards and the time limit inwards.

    Attributes:
        report: Called with a stage and the share of its work that is done, 0 to 1.
        deadline: time.monotonic() after which solving stops; infinity for never.
    """

    report: Callable[[str, float], None]
    deadline: float = float("inf")

    def steps(self, stage: str, done: float, share: float) -> Callable[[float], bool]:
        """A callback that a solver calls before each step, with the share of its steps taken.

        Args:
            stage: Such as "diffeo".
            done: Share of the stage's work that is behind.
            share: Share of the stage's work that this solver does.
        """

        def keep_going(taken: float) -> bool:
            self.report(stage, done + share * taken)
            return not self.expired

        return keep_going

    @property
    def expired(self) -> bool:
        """Whether the time limit has passed."""
        return time.monotonic() >= self.deadline


@dataclass(frozen=True)
class Trace:
    """How one level was solved, as regcli.json records it.

    Attributes:
        stage: Such as "affine".
        level: 0 is the coarsest.
        shape: (I, J, K) of its grid.
        solution: Steps, convergence, residuals.
    """

    stage: str
    level: int
    shape: tuple[int, int, int]
    solution: Solution


class LevelProblem(ABC):
    """The problem of one level.

    Attributes:
        space: The level's grid.
    """

    space: Space

    @abstractmethod
    def start(self, coarser: tuple[Tensor, Space] | None) -> Tensor:
        """The first iterate: the identity, or a coarser level's y, given with its grid."""

    @abstractmethod
    def solve(self, y: Tensor, keep_going: Callable[[float], bool]) -> Solution:
        """Solve the level.

        Args:
            y: Where to begin.
            keep_going: See Solver.
        """


def solve_levels(
    stage: str,
    levels: Sequence[Callable[[], LevelProblem]],
    work: Sequence[float],
    watch: Watch,
) -> tuple[Tensor, Space, list[Trace]]:
    """Solve levels from the coarsest to the finest, each from where the one before ended.

    Args:
        stage: Its name, such as "diffeo".
        levels: Make the levels' problems; called one at a time, since these take memory.
        work: How long each level takes, in any unit.
        watch: Progress and time limit; the coarsest level is always begun.

    Returns:
        y, the grid that it belongs to, and what happened on each level.
    """
    found: tuple[Tensor, Space] | None = None
    traces: list[Trace] = []
    for number, make in enumerate(levels):
        if found is not None and watch.expired:
            cut = replace(traces[-1].solution, stopped="time", converged=False)
            traces[-1] = replace(traces[-1], solution=cut)
            break
        level = make()
        done, share = sum(work[:number]) / sum(work), work[number] / sum(work)
        start = level.start(found)
        solution = level.solve(start, watch.steps(stage, done, share))
        found = solution.y, level.space
        release()
        kept = replace(solution, y=torch.empty(0))
        traces.append(Trace(stage, number, level.space.shape, kept))
    watch.report(stage, 1.0)
    assert found is not None
    return *found, traces
