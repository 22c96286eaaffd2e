"""Gradients of a learned fixed point: where it is visited, and how its last steps are derived."""

from collections.abc import Callable

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


def phantom(g: Map, state: Tensor, steps: int, rate: float) -> Tensor:
    """Some damped steps with a graph from a state without: y <- y + rate (g(y) - y).

    With one step its gradient is the Jacobian-free one.

    Source: Geng et al., On Training Implicit Models, NeurIPS 2021.
    """
    y = state.detach()
    for _ in range(steps):
        y = torch.lerp(y, g(y), rate)
    return y


def implicit(g: Map, state: Tensor, steps: int) -> Tensor:
    """One step with a graph whose gradients are those of the equilibrium.

    Backward, w = v + J^T w is iterated from v, with J the slopes of g at the state as autograd
    knows them; what comes of a map that is no contraction there is no gradient.

    Args:
        g: The map.
        state: Its fixed point.
        steps: Of the iteration backward, at most.

    Source: Bai et al., Deep Equilibrium Models, NeurIPS 2019.
    """
    from torchdeq.solver import get_solver  # imports slowly

    y = state.detach().requires_grad_()
    end = g(y)
    last = g(state.detach())

    def solve(v: Tensor) -> Tensor:
        def pull(w: Tensor) -> Tensor:
            return v + torch.autograd.grad(end, y, w, retain_graph=True)[0]

        return get_solver("fixed_point_iter")(pull, v, max_iter=steps, tol=1e-6, stop_mode="rel")[0]

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
