"""FixedSteps takes as many of a network's steps as it was made for; where they lead is the map."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from regcli.errors import WeightsError
from regcli.image import Box, Space
from regcli.registration.equilibrium.force import View, advance, rms
from regcli.registration.equilibrium.model import StepModel
from regcli.registration.equilibrium.solve import (
    STEPS,
    extended_displacement,
    network_views,
)
from regcli.registration.levels import LevelProblem, Trace, Watch, solve_levels
from regcli.registration.pyramid import Prepared
from regcli.solve.base import Solution
from regcli.transforms.grids import resample_field


@dataclass(frozen=True, eq=False)
class FixedSteps:
    """A network that was made for a number of steps takes just these; where they lead is the map.

    Attributes:
        network: The network and its weights.
        folds: Whether the map may fold; else folds are smoothed away at the end.
        steps: Steps on each level; 0 for as many as in training.
    """

    network: StepModel
    folds: bool
    steps: int = 0

    def run(
        self, fixed: Prepared, moving: Prepared, affine: Tensor, watch: Watch
    ) -> tuple[Tensor, Space, list[Trace]]:
        """See `EquilibriumRegistration.run`; the time limit does not cut the few steps short."""
        views, steps = (
            network_views(self.network, fixed, moving, affine),
            self.steps or self.network.steps,
        )
        patient = replace(watch, deadline=math.inf)
        levels = [
            partial(FixedStepsLevel, view.space, view, self.network, number, steps)
            for number, view in enumerate(views)
        ]
        u, space, traces = solve_levels(STEPS, levels, [1.0] * len(views), patient)
        if not float(u.abs().amax()) <= max(space.shape):  # NaN is not either
            raise WeightsError(
                f"{steps} steps of '{self.network.name}' lead out of the image.",
                f"It was trained for {self.network.steps}: leave --iterations out.",
            )
        return u, space, traces

    def extended(self, y: Tensor, space: Space, box: Box) -> Tensor:
        """See `EquilibriumRegistration.extended`."""
        return extended_displacement(y, space, box, folds=self.folds)


@dataclass(frozen=True, eq=False)
class FixedStepsLevel(LevelProblem):
    """A level on which a network takes a fixed number of steps.

    Attributes:
        space: See LevelProblem.
        view: The pair there.
        network: The network and its weights.
        number: Number of the level; 0 is the coarsest.
        steps: How many are taken.
    """

    space: Space
    view: View
    network: StepModel
    number: int
    steps: int

    def start(self, coarser: tuple[Tensor, Space] | None) -> Tensor:
        """See LevelProblem."""
        return self.view.start if coarser is None else resample_field(*coarser, self.space)

    def solve(self, y: Tensor, keep_going: Callable[[float], bool]) -> Solution:
        """See LevelProblem."""
        net, sigma, memory, sizes = self.network.net, self.network.sigma, (), []
        with torch.no_grad():
            for step in range(1, self.steps + 1):
                last = y
                y, memory = advance(net, self.view, last, self.number, memory, sigma=sigma)
                sizes.append(rms(y - last) / rms(y).clamp(min=1e-12))
                keep_going(step / self.steps)
        # the first step begins with what another level found
        residuals = [1.0, *(float(size) for size in sizes[1:])]
        made = "as trained" if self.steps == self.network.steps else "as asked"
        return Solution(y, residuals[-1], self.steps, False, residuals, made)
