"""Descent: Relaxation takes every step, LevenbergMarquardt only those that lower the energy."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.solve.base import Problem, Solution, Solver


@dataclass(frozen=True)
class Relaxation(Solver):
    """y <- retract(y, step), until the energy falls by less than `tol` over a window.

    Energies stay on the device until the end of each window, so that a GPU is never waited for.

    Attributes:
        steps: Most steps.
        tol: Least relative decrease per step.
        window: Steps over which the decrease is measured.
        damping: Of every step.
    """

    steps: int = 20
    tol: float = 2e-4
    window: int = 3
    damping: float = 1e-3

    def run(self, problem: Problem, y: Tensor, keep_going: Callable[[float], bool]) -> Solution:
        """See Solver."""
        energies: list[Tensor] = []
        best, lowest = y, float("inf")
        stopped = "steps"
        for step in range(self.steps + 1):
            energy, state = problem.evaluate(y)
            energies.append(energy)
            if step % self.window == 0 or step == self.steps:
                recent = float(energy)
                if recent < lowest:
                    best, previous, lowest = y, lowest, recent
                else:
                    previous = lowest
                if step and previous - recent <= self.tol * self.window * abs(previous):
                    stopped = "converged"
                    break
            if step == self.steps:
                break
            if not keep_going(step / self.steps):
                stopped = "time"
                if float(energy) < lowest:
                    best, lowest = y, float(energy)
                break
            delta = problem.step(y, state, self.damping)
            del state  # a model takes as much memory as three fields: never hold two
            trial = problem.retract(y, delta)
            if trial is y:  # no step is possible
                stopped = "converged"
                break
            y = trial
        return _solution(best, lowest, energies, len(energies) - 1, stopped)


@dataclass(frozen=True)
class LevenbergMarquardt(Solver):
    """Damped Gauss-Newton: a step that does not lower the energy is taken back and damped more.

    Attributes:
        steps: Most evaluations.
        tol: Stop when three steps in a row lower the energy by less than this, relatively, or not
            at all.
        damping: Of the first step.
    """

    steps: int = 30
    tol: float = 1e-5
    damping: float = 1e-2

    def run(self, problem: Problem, y: Tensor, keep_going: Callable[[float], bool]) -> Solution:
        """See Solver."""
        energy, state = problem.evaluate(y)
        lowest, energies = float(energy), [energy]
        damping, idle = self.damping, 0
        stopped = "steps"
        for step in range(self.steps):
            if not keep_going(step / self.steps):
                stopped = "time"
                break
            trial = problem.retract(y, problem.step(y, state, damping))
            energy, new_state = problem.evaluate(trial)
            energies.append(energy)
            gain = lowest - float(energy)
            if gain > 0:
                y, state, lowest = trial, new_state, float(energy)
                damping = max(damping / 5, 1e-6)
            else:
                damping *= 10
            idle = idle + 1 if gain < self.tol * abs(lowest) else 0
            if idle == 3 or damping > 1e4:
                stopped = "converged"
                break
        return _solution(y, lowest, energies, len(energies) - 1, stopped)


def _solution(
    y: Tensor, energy: float, energies: list[Tensor], steps: int, stopped: str
) -> Solution:
    values = torch.stack([e.detach().cpu() for e in energies]).tolist()
    scale = abs(values[0]) or 1.0
    return Solution(y, energy, steps, stopped == "converged", [v / scale for v in values], stopped)
