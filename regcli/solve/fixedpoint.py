"""Fixed points of a map: torchdeq's solvers, watched by one monitor that knows when to stop.

The solvers are told to iterate on, whatever happens: what they return themselves may be no number,
and their counts are not those of evaluations. The monitor sees every call of the map, keeps the
best finite state, and ends the solver by an exception of its own.

Source: Geng and Kolter, TorchDEQ, 2023; Walker and Ni, SIAM J. Numer. Anal. 2011 (Anderson).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regcli.errors import RecipeError
from regcli.solve.base import Solution

Map = Callable[[Tensor], Tensor]
_WINDOW = 12  # evaluations in which the residual must fall by
_GAIN = 0.05  # this share, or nothing more is expected
_WORSE = 10.0  # times the best residual: it diverges
_CAREFUL = 0.5  # damping of plain iteration after another solver gave up
_PROBE = 0.01  # voxels, root mean square: the length of differences for slopes
_EVERY_ON_GPU = 4  # evaluations between two looks at the numbers: looking means waiting


@dataclass(frozen=True)
class Rules:
    """When to stop.

    Attributes:
        limit: Most evaluations of the map.
        tol: Of |g(y) - y| / |g(y)|.
        tol_rms: Of the root mean square of g(y) - y; either tolerance is enough.
        bound: Largest sensible |y|; beyond it the iteration has diverged.
    """

    limit: int = 48
    tol: float = 1e-3
    tol_rms: float = 0.01
    bound: float = math.inf


class FixedPointSolver(ABC):
    """A way to find y = g(y).

    Attributes:
        vector: Whether it adds multiples of states: they must then form a vector space.
    """

    vector: bool

    @abstractmethod
    def iterate(self, g: Map, y: Tensor, evaluations: int) -> None:
        """Call g again and again, from y; the monitor within it keeps what comes of it.

        Args:
            g: The map; it ends the iteration by raising.
            y: Where to start.
            evaluations: About how often g may be called.
        """


@dataclass(frozen=True)
class Picard(FixedPointSolver):
    """y <- y + damping (g(y) - y): what networks are trained with.

    Attributes:
        damping: 1 takes the whole step.
    """

    damping: float = 1.0
    vector = False

    def iterate(self, g: Map, y: Tensor, evaluations: int) -> None:
        """See FixedPointSolver."""
        _torchdeq("fixed_point_iter", g, y, evaluations, tau=self.damping)


@dataclass(frozen=True)
class Anderson(FixedPointSolver):
    """The combination of the last states whose residual is least.

    Attributes:
        memory: How many.
        damping: Of the step from there; above 1 it goes further, as suits maps that come too short.
    """

    memory: int = 6
    damping: float = 1.6
    vector = True

    def __post_init__(self) -> None:
        """Refuse a memory that combines nothing.

        Raises:
            RecipeError: If it is shorter than two states.
        """
        if self.memory < 2:
            raise RecipeError("anderson:memory=1 combines nothing.", "Give 2 or more, or picard.")

    def iterate(self, g: Map, y: Tensor, evaluations: int) -> None:
        """See FixedPointSolver."""
        _torchdeq("anderson", g, y, evaluations, m=self.memory, tau=self.damping, lam=1e-8)


@dataclass(frozen=True)
class Broyden(FixedPointSolver):
    """A quasi-Newton method, begun again when its memory is full.

    Attributes:
        memory: Evaluations between two beginnings.
    """

    memory: int = 16
    vector = True

    def iterate(self, g: Map, y: Tensor, evaluations: int) -> None:
        """See FixedPointSolver."""
        _torchdeq("broyden", g, y, min(evaluations, self.memory))


def find(
    g: Map,
    y: Tensor,
    solver: FixedPointSolver,
    rules: Rules,
    keep_going: Callable[[float], bool],
) -> Solution:
    """The best approximation of y = g(y) that was met.

    Args:
        g: The map.
        y: Where to start.
        solver: How to go.
        rules: When to stop.
        keep_going: Called before each evaluation but the first with the share of them taken;
            False stops.

    Returns:
        A solution whose residuals are |g(y) - y| / |g(y)| at every evaluation, whose energy is the
        root mean square of g(y) - y at its y, and whose `stopped` is "converged", "plateau",
        "diverged", "steps" or "time".
    """
    monitor = _Monitor(g, y, rules, keep_going)
    with torch.no_grad():
        while monitor.stopped is None:
            before = monitor.evaluations
            monitor.follow(solver)
            if monitor.stopped in ("plateau", "diverged") and solver != Picard(_CAREFUL):
                solver = Picard(_CAREFUL)  # may go on where a bolder way ends
                monitor.resume()
            elif monitor.stopped is None and monitor.evaluations == before:
                monitor.stopped = "steps"
    return monitor.solution()


class _EnoughError(Exception):
    """Ends a solver from within the map."""


class _Monitor:
    def __init__(
        self, g: Map, y: Tensor, rules: Rules, keep_going: Callable[[float], bool]
    ) -> None:
        self.g, self.rules, self.keep_going = g, rules, keep_going
        self.best, self.least = y, torch.full((), math.inf, device=y.device)
        self.relative: list[Tensor] = []
        self.absolute: list[Tensor] = []
        self.seen = 0  # evaluations whose numbers have been looked at
        self.since = 0  # evaluations before the present solver's first
        self.stopped: str | None = None
        self.every = 1 if y.device.type == "cpu" else _EVERY_ON_GPU

    @property
    def evaluations(self) -> int:
        return len(self.absolute)

    def follow(self, solver: FixedPointSolver) -> None:
        """Let a solver go on from the best state until it or a rule ends."""
        left = self.rules.limit - self.evaluations
        if left <= 0:
            self.stopped = "steps"
            return
        try:
            solver.iterate(self, self.best, left)
            self._look()
        except _EnoughError:
            pass
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]; it is public
            self.stopped = "plateau"

    def resume(self) -> None:
        self.stopped, self.since = None, self.evaluations

    def __call__(self, y: Tensor) -> Tensor:
        if self.evaluations >= self.rules.limit:
            self._stop("steps")
        # the first is always made: without it nothing could be said about the start
        if self.evaluations and not self.keep_going(self.evaluations / self.rules.limit):
            self._stop("time")
        z = self.g(y)
        gap, far = (z - y).norm(), y.abs().amax() > self.rules.bound
        rms = torch.where(far, math.inf, gap / math.sqrt(y.numel() / 3))
        better = rms < self.least  # never of what is no number
        self.least = torch.where(better, rms, self.least)
        self.best = torch.where(better, y, self.best)
        self.absolute.append(rms)
        self.relative.append(gap / z.norm().clamp(min=1e-12))
        if self.evaluations % self.every == 0:
            self._look()
        return z

    def _look(self) -> None:
        """Read the numbers that are new, and stop if a rule says so."""
        rms = torch.stack(self.absolute).tolist()
        relative = torch.stack(self.relative[self.seen :]).tolist() if self.seen < len(rms) else []
        for n, rel in enumerate(relative, self.seen):
            before = min(rms[: n + 1])
            if not math.isfinite(rms[n]) or rms[n] > _WORSE * before:
                self._stop("diverged")
            if rms[n] <= self.rules.tol_rms or rel <= self.rules.tol:
                self._stop("converged")
            recent = rms[max(self.since, n - _WINDOW + 1) : n + 1]
            earlier = rms[self.since : max(self.since, n - _WINDOW + 1)]
            full = len(recent) == _WINDOW and earlier
            if full and min(recent) > (1 - _GAIN) * min(earlier):
                self._stop("plateau")
        self.seen = len(rms)

    def _stop(self, why: str) -> None:
        self.stopped = why
        raise _EnoughError

    def solution(self) -> Solution:
        relative = torch.stack(self.relative).tolist() if self.relative else []
        return Solution(
            self.best,
            float(self.least),
            self.evaluations,
            self.stopped == "converged",
            relative,
            self.stopped or "steps",
        )


def _torchdeq(name: str, g: Map, y: Tensor, evaluations: int, **options: Any) -> None:
    """One of torchdeq's solvers, told never to stop by itself; Anderson's still waits for a GPU."""
    from torchdeq.solver import get_solver  # imports slowly

    get_solver(name)(
        g, y, max_iter=evaluations, tol=0.0, stop_mode="rel", return_final=True, **options
    )


def spectral_radius(g: Map, y: Tensor, direction: Tensor, steps: int = 30) -> float:
    """Spectral radius of a map's Jacobian, by power iteration on differences.

    Args:
        g: The map.
        y: Where.
        direction: Of y's shape, random.
        steps: Of the iteration; the last half is averaged, for eigenvalues may come in pairs.
    """
    base, v, growth = g(y), direction / direction.norm(), []
    length = _PROBE * math.sqrt(y.numel() / 3)
    for _ in range(steps):
        change = (g(y + length * v) - base) / length
        growth.append(change.norm())
        v = change / growth[-1].clamp(min=1e-30)
    return float(torch.stack(growth[steps // 2 :]).clamp(min=1e-30).log().mean().exp())
