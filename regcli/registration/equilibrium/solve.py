"""EquilibriumRegistration follows a network's map to its fixed point; FixedSteps does not."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regcli.errors import WeightsError
from regcli.image import Box, Space
from regcli.ops.field import extend_field
from regcli.ops.filter import gaussian
from regcli.ops.memory import release
from regcli.registration.equilibrium.force import (
    LearnedForce,
    View,
    every_step,
    rms,
    spacings,
    transferred,
    views,
)
from regcli.registration.equilibrium.model import Iterative
from regcli.registration.equilibrium.proximal import Proximal
from regcli.registration.equilibrium.states import State, Velocity
from regcli.registration.multiresolution import Trace, Watch
from regcli.registration.normalize import FOREGROUND
from regcli.registration.pyramid import Prepared
from regcli.registration.symmetric import MeetingSteps
from regcli.solve.base import Solution
from regcli.solve.fixedpoint import FixedPointSolver, Map, Rules, find, spectral_radius
from regcli.transforms.unfold import unfolded

STEPS = "deq"  # the stage's name
_LIMIT = 48  # steps on a level, at least
_FAR = 8.0  # times the longest axis: velocities and momenta grow larger than displacements
_OTHER_START = 3.0  # voxels: of the random displacement from which the equilibrium is sought again


@dataclass(frozen=True)
class Diagnosis:
    """How much of an equilibrium the end of a registration is.

    Attributes:
        spectral_radius: Of the map there: below 1, plain iteration converges to it.
        path_independence_voxels: Root mean square distance, in the fixed foreground, to where the
            same steps end from a random smooth displacement of 3 voxels.
        residual_voxels: Root mean square of a further step.
        p99_voxels: 99th percentile of its length.
    """

    spectral_radius: float
    path_independence_voxels: float
    residual_voxels: float
    p99_voxels: float


@dataclass(frozen=True, eq=False)
class EquilibriumRegistration:
    """A network of steps, iterated.

    Attributes:
        network: With its weights.
        state: What is iterated on.
        solver: How.
        asked: What each step heeds besides the network.
        limit: Most steps on each level; 0 for as many as suit the network.
        tol: Relative residual that counts as none, and in proportion to it the absolute one; 0 for
            the usual ones.
        seed: Of the random displacement that a diagnosis starts from.
    """

    network: Iterative
    state: State
    solver: FixedPointSolver
    asked: Proximal
    limit: int = 0
    tol: float = 0.0
    seed: int = 0

    def run(
        self, fixed: Prepared, moving: Prepared, affine: Tensor, watch: Watch
    ) -> tuple[Tensor, Space, list[Trace]]:
        """Register, starting from no displacement after an affine.

        Args:
            fixed: On its own grid; the working grids cover it.
            moving: On its own grid.
            affine: (4, 4) fixed world to moving world.
            watch: Progress and time limit.

        Returns:
            The state on the finest working grid, that grid, and what happened on each level.
        """
        levels, traces = self._views(fixed, moving, affine), []
        y, space = levels[0].start, levels[0].space
        work = [math.prod(view.space.shape) for view in levels]
        for number, view in enumerate(levels):
            if number and watch.expired:
                stopped = replace(traces[-1].solution, stopped="time", converged=False)
                traces[-1] = replace(traces[-1], solution=stopped)
                break
            start = transferred(y, space, view.space) if number else y
            done, share = sum(work[:number]) / sum(work), work[number] / sum(work)
            going = watch.steps(STEPS, done, share)
            solution = find(self._map(view, affine), start, self.solver, self._rules(view), going)
            if not math.isfinite(solution.energy):
                raise WeightsError(
                    f"The steps of '{self.network.name}' are no numbers with these images.",
                    "Use other weights, or another model.",
                )
            y, space = solution.y, view.space
            release()
            traces.append(_trace(number, view, solution))
        watch.report(STEPS, 1.0)
        return y, space, traces

    def extended(self, y: Tensor, space: Space, box: Box) -> Tensor:
        """The displacement that `run` found on the grid that its images were cut from.

        Args:
            y: What `run` gave.
            space: Its grid.
            box: Where the fixed image was cut from.

        Returns:
            (1, 3, I, J, K), voxels of box.space.
        """
        return _extended(self.state.displacement(y, space), space, box, folds=self.state.folds)

    def diagnose(
        self,
        fixed: Prepared,
        moving: Prepared,
        affine: Tensor,
        y: Tensor,
        watch: Watch,
    ) -> Diagnosis:
        """What kind of an end y is, on the finest level.

        Args:
            fixed: As for `run`.
            moving: As for `run`.
            affine: As for `run`.
            y: What `run` gave, not cut short.
            watch: Time limit.
        """
        view = self._views(fixed, moving, affine)[-1]
        g = self._map(view, affine)
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(y.shape, generator=generator).to(y)
        smooth = gaussian(noise, 4.0)
        other = smooth * (_OTHER_START / rms(smooth))
        going = watch.steps("diagnose", 0.0, 1.0)
        end = find(g, other, self.solver, self._rules(view), going).y
        shown = view.fixed > FOREGROUND
        space = view.space
        ends = (self.state.displacement(state, space) for state in (y, end))
        gap = torch.sub(*ends).square().sum(1)
        away = float(gap[shown[:, 0]].mean().sqrt()) if bool(shown.any()) else 0.0
        with torch.no_grad():
            step = (g(y) - y).norm(dim=1).flatten()
            radius = spectral_radius(g, y, noise)
        last = step.sort().values[int(0.99 * (len(step) - 1))]
        return Diagnosis(radius, away, float(step.square().mean().sqrt()), float(last))

    def _views(self, fixed: Prepared, moving: Prepared, affine: Tensor) -> list[View]:
        return _levels(self.network, fixed, moving, affine)

    def _map(self, view: View, affine: Tensor) -> Map:
        sight = self.network.net, view, self.network.sigma, self.asked.smoothness
        if isinstance(self.state, Velocity) and self.state.symmetric:
            return MeetingSteps(*sight).onward
        force = LearnedForce(*sight)
        onward = self.asked.after(force.onward, view, affine)
        return lambda y: self.state.onward(y, onward, view.space)

    def _rules(self, view: View) -> Rules:
        limit = self.limit or max(_LIMIT, self.network.steps)
        bound = _FAR * max(view.space.shape)
        tol = self.tol or Rules.tol
        # a step more than is taken, to know what the last one left
        return Rules(limit + 1, tol, self.state.tol_rms * tol / Rules.tol, bound)


@dataclass(frozen=True, eq=False)
class FixedSteps:
    """A network that was made for a number of steps takes just these; where they lead is the map.

    Attributes:
        network: With its weights.
        folds: Whether the map may fold; else folds are smoothed away at the end.
        steps: On each level; 0 for as many as in training.
    """

    network: Iterative
    folds: bool
    steps: int = 0

    def run(
        self, fixed: Prepared, moving: Prepared, affine: Tensor, watch: Watch
    ) -> tuple[Tensor, Space, list[Trace]]:
        """See `EquilibriumRegistration.run`; the time limit does not cut the few steps short."""
        levels = _levels(self.network, fixed, moving, affine)
        steps = self.steps or self.network.steps
        u, last, sizes = levels[0].start, levels[0].start, [[] for _ in levels]
        with torch.no_grad():
            way = every_step(self.network.net, levels, steps, self.network.sigma)
            for n, (level, u) in enumerate(way, 1):
                if sizes[level]:
                    sizes[level].append(rms(u - last) / rms(u).clamp(min=1e-12))
                else:  # what it began with was another level's
                    sizes[level].append(torch.ones(()))
                last = u
                watch.report(STEPS, n / (steps * len(levels)))
        residuals = [[float(size) for size in own] for own in sizes]
        if not float(u.abs().amax()) <= max(levels[-1].space.shape):  # nor is what is no number
            raise WeightsError(
                f"{steps} steps of '{self.network.name}' lead out of the image.",
                f"It was trained for {self.network.steps}: leave --iterations out.",
            )
        empty, made = torch.empty(0), "as trained" if steps == self.network.steps else "as asked"
        return (
            u,
            levels[-1].space,
            [
                Trace(STEPS, n, view.space.shape, Solution(empty, own[-1], steps, False, own, made))
                for n, (view, own) in enumerate(zip(levels, residuals, strict=True))
            ],
        )

    def extended(self, y: Tensor, space: Space, box: Box) -> Tensor:
        """See `EquilibriumRegistration.extended`."""
        return _extended(y, space, box, folds=self.folds)


def _levels(network: Iterative, fixed: Prepared, moving: Prepared, affine: Tensor) -> list[View]:
    steps = spacings(network.spacing_mm, network.levels)
    return views(fixed, moving, affine, spacings_mm=steps, multiple=network.net.multiple)


def _extended(u: Tensor, space: Space, box: Box, *, folds: bool) -> Tensor:
    u = transferred(u, space, box.part)
    u = extend_field(u if folds else unfolded(u), box.start, box.space.shape)
    return u if folds else unfolded(u)


def _trace(number: int, view: View, solution: Solution) -> Trace:
    taken = solution.steps - 1  # the last evaluation only says how far there is to go
    return Trace(STEPS, number, view.space.shape, replace(solution, y=torch.empty(0), steps=taken))
