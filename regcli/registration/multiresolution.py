"""Registration: a transform and a force, solved from the coarsest level to the finest."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from regcli.image import Box, Space
from regcli.registration.features.extract import FeaturePyramid
from regcli.registration.force import Force, Pair
from regcli.registration.levels import LevelProblem, Trace, Watch, solve_levels
from regcli.registration.normalize import FOREGROUND
from regcli.registration.prompts import Prompts
from regcli.registration.pyramid import ROUNDING, Prepared
from regcli.solve.base import Problem, Solution, Solver
from regcli.transforms.base import Transform

_REGION_MM, _MARGIN_MM = 4.0, 6.0


@dataclass(frozen=True)
class Level:
    """One level of a registration.

    Attributes:
        spacing_mm: Voxel size.
        solver: How it is solved.
    """

    spacing_mm: float
    solver: Solver


@dataclass(frozen=True, eq=False)
class EnergyLevel(LevelProblem):
    """A level on which a transform lowers an energy.

    Attributes:
        space: See LevelProblem.
        transform: The family of maps.
        problem: The energy.
        solver: Minimizes it.
        device: Device of the images.
        wary: See Registration.
    """

    space: Space
    transform: Transform
    problem: Problem
    solver: Solver
    device: torch.device
    wary: bool

    def start(self, coarser: tuple[Tensor, Space] | None) -> Tensor:
        """See LevelProblem."""
        still = self.transform.identity(self.space, self.device)
        if coarser is None:
            return still
        y = self.transform.resize(*coarser, self.space)
        if not self.wary:
            return y
        return min((still, y), key=lambda y: float(self.problem.evaluate(y)[0]))

    def solve(self, y: Tensor, keep_going: Callable[[float], bool]) -> Solution:
        """See LevelProblem."""
        return self.solver.run(self.problem, y, keep_going)


@dataclass(frozen=True)
class Registration:
    """A family of maps driven by a force, over levels.

    Attributes:
        name: Name of the stage.
        transform: The family of maps.
        force: The energy that drives it.
        levels: Coarse to fine.
        dense: Whether the moving image is first carried onto the fixed grid, through the affine:
            descriptors of both then see the same voxels along the same axes.
        even: Whether both images come onto the levels' grids in the same way.
        wary: Whether a level starts from the identity if that is better than what the coarser ones
            found: where images are aligned well already, these may know less.
    """

    name: str
    transform: Transform
    force: Force
    levels: tuple[Level, ...]
    dense: bool = True
    even: bool = False
    wary: bool = False

    def run(
        self,
        fixed: Prepared,
        moving: Prepared,
        affine: Tensor,
        watch: Watch,
        features: tuple[FeaturePyramid, FeaturePyramid] | None = None,
        prompts: Prompts | None = None,
    ) -> tuple[Tensor, Space, list[Trace]]:
        """Register, starting from the identity of the transform after an affine.

        Args:
            fixed: On its own grid, at full resolution.
            moving: On its own grid, at full resolution.
            affine: A of phi(x) = A (T(x)), (4, 4) fixed world to moving world; T is solved for.
            watch: Progress and time limit.
            features: What a network says of both, the moving image carried by the affine already;
                for dense registrations.
            prompts: What a user knows of both.

        Returns:
            y, the grid that it belongs to, and what happened on each level.
        """

        def make(level: Level) -> EnergyLevel:
            pair = self._pair(level.spacing_mm, fixed, moving, affine, prompts)
            if features is not None:
                one, other = (f.on(pair.space) for f in features)
                pair = replace(pair, features=(one, other), gain=features[0].gain(pair.space))
            problem = self.force.problem(pair, self.transform)
            device = pair.fixed.device
            return EnergyLevel(pair.space, self.transform, problem, level.solver, device, self.wary)

        work = [(level.solver.steps + 1) / level.spacing_mm**3 for level in self.levels]
        levels = [partial(make, level) for level in self.levels]
        return solve_levels(self.name, levels, work, watch)

    def _pair(
        self,
        spacing_mm: float,
        fixed: Prepared,
        moving: Prepared,
        affine: Tensor,
        prompts: Prompts | None,
    ) -> Pair:
        """Both images on a level's grids."""
        coarse, still = fixed.at(spacing_mm), torch.eye(4).to(affine)
        if self.even:
            coarse = fixed.onto(coarse.space, still)
        if self.dense:
            other, carried = moving.onto(coarse.space, affine), affine
            pair = paired(coarse, other, still)
        else:
            other, carried = moving.at(spacing_mm), still
            pair = paired(coarse, other, affine)
        return pair if prompts is None else prompts.on(pair, other.space, carried, dense=self.dense)

    def extended(self, y: Tensor, space: Space, box: Box) -> Tensor:
        """The displacement that `run` found on the grid that its images were cut from.

        Args:
            y: What `run` gave.
            space: Its grid.
            box: Where the fixed image was cut from.

        Returns:
            (1, 3, I, J, K), voxels of box.space.
        """
        return self.transform.extend(self.transform.resize(y, space, box.part), box)


def region(fixed: Prepared, moving: Prepared, affine: Tensor) -> Box:
    """The box of the fixed grid where either image shows anything that counts, and a margin.

    Outside there is nothing to register, and in a skull-stripped brain more voxels are outside than
    inside.

    Args:
        fixed: Image.
        moving: Image.
        affine: (4, 4) fixed world to moving world.
    """
    coarse = fixed.at(_REGION_MM)
    shown = (coarse.data > FOREGROUND) | (moving.onto(coarse.space, affine).data > FOREGROUND)
    if coarse.weight is not None:
        shown &= coarse.weight > 0
    start, stop = [], []
    for axis, n in enumerate(fixed.space.shape):
        others = [d for d in (2, 3, 4) if d != axis + 2]
        line = shown.amax(dim=others).flatten().nonzero().flatten()
        ratio = (n - 1) / max(coarse.space.shape[axis] - 1, 1)
        margin = _MARGIN_MM / fixed.space.spacing[axis]
        first, last = (line[0], line[-1]) if len(line) else (0, coarse.space.shape[axis] - 1)
        start.append(max(0, math.floor(float(first) * ratio - margin + ROUNDING)))
        stop.append(min(n, math.ceil(float(last) * ratio + margin - ROUNDING) + 1))
    return Box(fixed.space, (start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def paired(fixed: Prepared, moving: Prepared, affine: Tensor) -> Pair:
    """Two prepared images and the affine between their worlds, as a level's pair."""
    matrix = torch.linalg.inv(moving.space.affine) @ affine @ fixed.space.affine
    return Pair(fixed.space, fixed.data, moving.data, matrix[:3], fixed.weight, moving.weight)
