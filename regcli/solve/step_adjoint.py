"""Gradients through the iteration of a network's steps: states on its way, and their adjoints."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def trajectory(g: Map, start: Tensor, steps: int, states: int) -> list[Tensor]:
    """States of the plain iteration y <- g(y), without a graph, at equal distances.

    Args:
        g: The map.
        start: y_0.
        steps: Until the last state.
        states: How many come before the last one; fewer than the steps.

    Returns:
        y_t for t = steps / (states + 1), 2 steps / (states + 1), ..., steps.
    """
    wanted = [round(steps * (n + 1) / (states + 1)) for n in range(states + 1)]
    y, kept = start, []
    with torch.no_grad():
        for step in range(1, steps + 1):
            y = g(y)
            kept += [y] * wanted.count(step)
    return kept


class StepAdjoint(ABC):
    """A way for gradients to pass from a state of the iteration y <- g(y) to the network in g."""

    @abstractmethod
    def attach(self, g: Map, state: Tensor) -> Tensor:
        """The state, or one a few steps later, with gradients for all that g depends on.

        Args:
            g: The map.
            state: Without a graph.
        """


@dataclass(frozen=True)
class PhantomSteps(StepAdjoint):
    """Some damped steps with a graph from a state without: y <- y + rate (g(y) - y).

    Attributes:
        steps: How many; with one, the gradient is the Jacobian-free one (jfb).
        rate: Of a step.

    Source: Geng et al., On Training Implicit Models, NeurIPS 2021.
    """

    steps: int = 5
    rate: float = 0.8

    def attach(self, g: Map, state: Tensor) -> Tensor:
        """See StepAdjoint."""
        y = state.detach()
        for _ in range(self.steps):
            y = torch.lerp(y, g(y), self.rate)
        return y


@dataclass(frozen=True)
class ImplicitStep(StepAdjoint):
    """One step with a graph whose gradients are those of the equilibrium.

    Backward, w = v + J^T w is iterated from v, with J the slopes of g at the state as autograd
    knows them; a map that is no contraction there gives no gradient of use.

    Attributes:
        iterations: Most steps of the iteration backward.

    Source: Bai et al., Deep Equilibrium Models, NeurIPS 2019.
    """

    iterations: int = 20

    def attach(self, g: Map, state: Tensor) -> Tensor:
        """See StepAdjoint."""
        from torchdeq.solver import get_solver  # imports slowly

        y = state.detach().requires_grad_()
        end = g(y)
        last = g(state.detach())

        def solve(v: Tensor) -> Tensor:
            def pull(w: Tensor) -> Tensor:
                return v + torch.autograd.grad(end, y, w, retain_graph=True)[0]

            solver, limits = get_solver("fixed_point_iter"), {"tol": 1e-6, "stop_mode": "rel"}
            return solver(pull, v, max_iter=self.iterations, **limits)[0]

        last.register_hook(solve)
        return last


def squared_slopes(g: Map, state: Tensor, direction: Tensor, length: float = 0.05) -> Tensor:
    """|J v|^2 / |v|^2 of the map's slopes at a state, by a difference, with a graph: ().

    For random v its mean is the mean squared singular value. A difference needs no derivative of a
    derivative, which warping has on few machines.

    Args:
        g: The map.
        state: Where.
        direction: v, of its shape.
        length: Root mean square of the step along v.

    Source: Bai et al., Stabilizing Equilibrium Models by Jacobian Regularization, ICML 2021.
    """
    way = direction * (length / direction.square().mean().sqrt().clamp(min=1e-12))
    change = g(state + way) - g(state)
    return change.square().mean() / length**2
