"""EquilibriumRegistration follows a network's map to its fixed point."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from regcli.errors import WeightsError
from regcli.image import Box, Space
from regcli.ops.field import extend_field
from regcli.ops.filter import gaussian
from regcli.registration.equilibrium.force import (
    LearnedForce,
    View,
    rms,
    spacings,
    views,
)
from regcli.registration.equilibrium.model import StepModel
from regcli.registration.equilibrium.proximal import Proximal
from regcli.registration.levels import LevelProblem, Trace, Watch, solve_levels
from regcli.registration.normalize import FOREGROUND
from regcli.registration.pyramid import Prepared
from regcli.registration.symmetric import SymmetricSteps
from regcli.solve.base import Solution
from regcli.solve.fixedpoint import FixedPointSolver, Map, Rules, find, spectral_radius
from regcli.transforms.base import Deformable
from regcli.transforms.grids import resample_field
from regcli.transforms.unfold import unfolded

STEPS = "deq"  # the stage's name
_LIMIT = 48  # steps on a level, at least
# Residual that counts as none, voxels, by whether maps may fold: smoothed steps of .03 that shrink
# by a hundredth each are far from their end.
_TOL_RMS = {True: 0.002, False: 0.004}
_FAR = 8.0  # times the longest axis: velocities and momenta grow larger than displacements
_OTHER_START = 3.0  # voxels: of the random displacement from which the equilibrium is sought again


@dataclass(frozen=True)
class Diagnosis:
    """Evidence that a registration ended at an equilibrium.

    Attributes:
        spectral_radius: Spectral radius of the map there; below 1, plain iteration converges.
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
    """The fixed point of an update network, level by level.

    Attributes:
        network: The network and its weights.
        transform: The family of maps whose parameters are iterated.
        solver: The fixed-point solver.
        asked: Prompts and regularizers, applied after each step.
        limit: Most steps on each level; 0 for as many as suit the network.
        tol: Relative residual that counts as none, and in proportion to it the absolute one; 0 for
            the usual ones.
        seed: Seed of the random displacement that a diagnosis starts from.
        symmetric: Whether both images move and meet half-way; the transform is then `Stationary`.
    """

    network: StepModel
    transform: Deformable
    solver: FixedPointSolver
    asked: Proximal
    limit: int = 0
    tol: float = 0.0
    seed: int = 0
    symmetric: bool = False

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
            y on the finest working grid, that grid, and what happened on each level.
        """
        views = self._views(fixed, moving, affine)
        levels = [partial(EquilibriumLevel, v.space, v, self, affine) for v in views]
        work = [math.prod(view.space.shape) for view in views]
        return solve_levels(STEPS, levels, work, watch)

    def equilibrium(
        self, view: View, affine: Tensor, y: Tensor, keep_going: Callable[[float], bool]
    ) -> Solution:
        """The fixed point on one level; its steps count a last evaluation.

        Args:
            view: The pair on that level.
            affine: (4, 4) fixed world to moving world.
            y: Where to begin.
            keep_going: See Solver.
        """
        g, limit = self._map(view, affine), self.limit or max(_LIMIT, self.network.steps)
        bound, tol = _FAR * max(view.space.shape), self.tol or Rules.tol
        # a step more than is taken, to know what the last one left
        least = _TOL_RMS[self.transform.folds] * tol / Rules.tol
        rules = Rules(limit + 1, tol, least, bound)
        return find(g, y, self.solver, rules, keep_going)

    def extended(self, y: Tensor, space: Space, box: Box) -> Tensor:
        """The displacement that `run` found on the grid that its images were cut from.

        Args:
            y: What `run` gave.
            space: Its grid.
            box: Where the fixed image was cut from.

        Returns:
            (1, 3, I, J, K), voxels of box.space.
        """
        return extended_displacement(
            self.transform.displacement(y, space), space, box, folds=self.transform.folds
        )

    def diagnose(
        self,
        fixed: Prepared,
        moving: Prepared,
        affine: Tensor,
        y: Tensor,
        watch: Watch,
    ) -> Diagnosis:
        """Diagnose the end y of a registration on the finest level.

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
        # freed of folds: steps are held back where a map folds
        other = self.transform.resize(other, view.space, view.space)
        going = watch.steps("diagnose", 0.0, 1.0)
        end = self.equilibrium(view, affine, other, going).y
        shown = view.fixed > FOREGROUND
        space = view.space
        ends = (self.transform.displacement(one, space) for one in (y, end))
        gap = torch.sub(*ends).square().sum(1)
        away = float(gap[shown[:, 0]].mean().sqrt()) if bool(shown.any()) else 0.0
        with torch.no_grad():
            step = (g(y) - y).norm(dim=1).flatten()
            radius = spectral_radius(g, y, noise)
        last = step.sort().values[int(0.99 * (len(step) - 1))]
        return Diagnosis(radius, away, float(step.square().mean().sqrt()), float(last))

    def _views(self, fixed: Prepared, moving: Prepared, affine: Tensor) -> list[View]:
        return network_views(self.network, fixed, moving, affine)

    def _map(self, view: View, affine: Tensor) -> Map:
        sight = self.network.net, view, self.network.sigma, self.asked.smoothness
        if self.symmetric:
            return SymmetricSteps(*sight).onward
        onward = self.asked.after(LearnedForce(*sight).onward, view, affine)
        transform, space = self.transform, view.space

        def g(y: Tensor) -> Tensor:
            u = transform.displacement(y, space)
            step = transform.tangent(onward(u) - u, space)
            # a step that is no use must not fade to none, as folding ones do: it is no equilibrium
            lost = ~(step.abs().amax() <= _FAR * max(space.shape))
            return torch.where(lost, math.nan, transform.retract(y, step, space))

        return g


@dataclass(frozen=True, eq=False)
class EquilibriumLevel(LevelProblem):
    """A level on which a network's steps are followed to their fixed point.

    Attributes:
        space: See LevelProblem.
        view: The pair there.
        registration: Network, state and solver.
        affine: (4, 4) fixed world to moving world.
    """

    space: Space
    view: View
    registration: EquilibriumRegistration
    affine: Tensor

    def start(self, coarser: tuple[Tensor, Space] | None) -> Tensor:
        """See LevelProblem."""
        transform = self.registration.transform
        if coarser is None:
            return transform.identity(self.space, self.view.fixed.device)
        return transform.resize(*coarser, self.space)

    def solve(self, y: Tensor, keep_going: Callable[[float], bool]) -> Solution:
        """See LevelProblem; raises WeightsError."""
        solution = self.registration.equilibrium(self.view, self.affine, y, keep_going)
        if not math.isfinite(solution.energy):
            raise WeightsError(
                f"The steps of '{self.registration.network.name}' gave NaN or infinity for these "
                "images.",
                "Use other weights, or another model.",
            )
        # the last evaluation only says how far there is to go
        return replace(solution, steps=solution.steps - 1)


def network_views(
    network: StepModel, fixed: Prepared, moving: Prepared, affine: Tensor
) -> list[View]:
    """A pair on the grids of a network's levels, coarse to fine; see `views`."""
    steps = spacings(network.spacing_mm, network.levels)
    return views(fixed, moving, affine, spacings_mm=steps, multiple=network.net.multiple)


def extended_displacement(u: Tensor, space: Space, box: Box, *, folds: bool) -> Tensor:
    """A displacement u in voxels of `space` on the grid that `box` was cut from."""
    u = resample_field(u, space, box.part)
    u = extend_field(u if folds else unfolded(u), box.start, box.space.shape)
    return u if folds else unfolded(u)
