"""Gradients of learned fixed points, against torchdeq and closed forms."""

import pytest
import torch
import torchdeq

from regcli.solve.step_adjoint import ImplicitStep, PhantomSteps, squared_slopes, trajectory

N = 6


class Contraction(torch.nn.Module):
    """tanh(W y + x), with slopes below 1."""

    def __init__(self, size=0.5):
        super().__init__()
        W = torch.randn(N, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        self.W = torch.nn.Parameter(size * W / torch.linalg.matrix_norm(W, 2))
        self.x = torch.randn(1, N, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def forward(self, y):
        return torch.tanh(y @ self.W.T + self.x)


def loss(y):
    return (y * torch.arange(1.0, N + 1).to(y)).sum()


def gradient(g, y):
    g.zero_grad()
    loss(y).backward()
    return g.W.grad.clone()


def zeros():
    return torch.zeros(1, N, dtype=torch.float64)


def test_states_come_at_equal_distances_and_without_a_graph():
    g = Contraction()
    states = trajectory(g, zeros(), 12, 3)
    y, wanted = zeros(), []
    for step in range(1, 13):
        y = g(y).detach()
        wanted += [y] if step % 3 == 0 else []
    assert len(states) == 4
    assert all(torch.equal(a, b) for a, b in zip(states, wanted, strict=True))
    assert not any(s.requires_grad for s in states)


@pytest.mark.parametrize(("steps", "rate"), [(1, 1.0), (2, 1.0), (2, 0.5), (5, 0.8)])
def test_streamed_states_give_the_gradient_of_torchdeq(steps, rate):
    """Equation 9 of the paper, with every state's graph freed before the next."""
    g, gamma = Contraction(), 0.5
    g.zero_grad()
    *visited, last = trajectory(g, zeros(), 12, 3)
    for state, weight in [*((v, gamma) for v in visited), (last, 1.0)]:
        (weight * loss(PhantomSteps(steps, rate).attach(g, state))).backward()
    ours = g.W.grad.clone()
    deq = torchdeq.get_deq(
        core="indexing",
        indexing=[3, 6, 9],
        f_solver="fixed_point_iter",
        f_max_iter=12,
        f_tol=0.0,
        grad=steps,
        tau=rate,
        ift=False,
    )
    g.zero_grad()
    states, _ = deq(g, zeros(), solver_kwargs={"return_final": True})
    assert len(states) == 4
    weights = (gamma, gamma, gamma, 1.0)
    sum(w * loss(s) for w, s in zip(weights, states, strict=True)).backward()
    torch.testing.assert_close(ours, g.W.grad, atol=1e-6, rtol=1e-6)


def test_phantom_is_the_unrolled_gradient_of_damped_steps():
    g = Contraction()
    (state,) = trajectory(g, zeros(), 20, 0)
    y = state
    for _ in range(3):
        y = 0.7 * g(y) + 0.3 * y
    torch.testing.assert_close(gradient(g, y), gradient(g, PhantomSteps(3, 0.7).attach(g, state)))


def test_implicit_gradients_are_those_of_the_fixed_point():
    g = Contraction(0.8)
    (state,) = trajectory(g, zeros(), 300, 0)
    y = zeros()
    for _ in range(300):
        y = g(y)
    wanted = gradient(g, y)
    ours = gradient(g, ImplicitStep(200).attach(g, state))
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    few = gradient(g, PhantomSteps(1, 1.0).attach(g, state))
    assert float((ours - wanted).norm()) < 0.01 * float((few - wanted).norm())


def test_slopes_are_measured_by_a_difference():
    g = Contraction()
    y = torch.randn(1, N, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    J = torch.autograd.functional.jacobian(g, y).reshape(N, N)
    v = torch.randn(1, N, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    wanted = (J @ v[0]).square().sum() / v.square().sum()
    found = squared_slopes(g, y, v, 1e-6)
    assert float(found.detach()) == pytest.approx(float(wanted), rel=1e-4)
    found.backward()
    assert bool((g.W.grad != 0).any())
