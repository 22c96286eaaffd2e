"""States: one zero set whichever way steps are applied, maps without folds, exact inverses."""

import pytest
import torch

from regcli.image import Space
from regcli.ops.field import compose, invert
from regcli.ops.filter import gaussian
from regcli.ops.jacobian import least_determinant
from regcli.registration.equilibrium.states import Composed, Displacement, Velocity
from regcli.registry import STATES, build
from regcli.solve.fixedpoint import Anderson, Picard, Rules, find

SHAPE = (16, 18, 14)
SPACE = Space(SHAPE, torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])).double())
VECTORS = [name for name in STATES if build(STATES, name).vector]


def smooth(seed, size=1.5):
    generator = torch.Generator().manual_seed(seed)
    u = gaussian(torch.randn(1, 3, *SHAPE, generator=generator), 2.5)
    window = torch.ones(SHAPE)
    for axis, n in enumerate(SHAPE):  # nothing leaves the grid
        line = torch.sin(torch.linspace(0, torch.pi, n))
        window = window * line.view([n if a == axis else 1 for a in range(3)])
    return u * window * (size / (u * window).abs().max())


@pytest.mark.parametrize("name", STATES)
def test_every_state_ends_where_the_network_takes_no_step(name):
    """f(u) = (c - u) / 2: its only zero is c."""
    state, c = build(STATES, name), smooth(0)
    rules = Rules(limit=300, tol=0.0, tol_rms=1e-3)
    found = find(
        lambda y: state.onward(y, lambda u: u + 0.5 * (c - u), SPACE),
        torch.zeros_like(c),
        Picard(),
        rules,
        lambda share: True,
    )
    assert found.converged
    gap = (state.displacement(found.y, SPACE) - c).norm(dim=1)
    assert float(gap.mean()) < 0.05


def test_the_inverse_of_a_velocity_is_that_of_its_negative():
    state, y = Velocity(), smooth(1, 0.7)
    u, v = state.displacement(y, SPACE), state.displacement(-y, SPACE)
    assert float(u.norm(dim=1).max()) > 0.6
    assert float(compose(u, v).norm(dim=1).max()) < 0.06  # exp is as exact as its grid
    torch.testing.assert_close(v, invert(u)[0], atol=0.05, rtol=0)


@pytest.mark.parametrize("state", [Velocity(), Composed()], ids=lambda s: type(s).__name__)
def test_large_steps_do_not_fold(state):
    """Steps that fold when they are added."""
    steps = [smooth(seed, 2.0) for seed in range(4)]
    y = torch.zeros_like(steps[0])
    added = y
    for step in steps:
        y = state.onward(y, lambda u, step=step: u + step, SPACE)
        added = Displacement().onward(added, lambda u, step=step: u + step, SPACE)
    assert float(least_determinant(added).min()) < 0
    assert float(least_determinant(state.displacement(y, SPACE)).min()) > 0
    assert not state.folds


@pytest.mark.parametrize("name", VECTORS)
def test_states_that_may_be_added_are_found_by_anderson(name):
    state, c = build(STATES, name), smooth(2, 1.0)
    found = find(
        lambda y: state.onward(y, lambda u: u + 0.3 * (c - u), SPACE),
        torch.zeros_like(c),
        Anderson(),
        Rules(limit=60, tol=0.0, tol_rms=1e-3),
        lambda share: True,
    )
    assert found.converged
    assert float((state.displacement(found.y, SPACE) - c).norm(dim=1).mean()) < 0.05
