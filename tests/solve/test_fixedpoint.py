"""Fixed points of maps whose fixed points are known, and of maps that misbehave."""

import math
from dataclasses import replace

import pytest
import torch

from regcli.errors import RecipeError
from regcli.registry import FIXED_POINTS, build
from regcli.solve.fixedpoint import Anderson, Broyden, Picard, Rules, find, spectral_radius

SHAPE = (1, 3, 4, 5, 3)
TIGHT = Rules(limit=200, tol=1e-6, tol_rms=0.0)


def on(share):
    return True


def linear(radius, seed=0):
    """g(y) = M y + b whose slopes have this spectral radius, with its fixed point."""
    generator = torch.Generator().manual_seed(seed)
    n = math.prod(SHAPE)
    M = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    values = torch.linspace(-0.3, 1.0, n, dtype=torch.float64) * radius
    M = M @ torch.diag(values) @ M.T
    b = torch.randn(n, generator=generator, dtype=torch.float64)
    wanted = torch.linalg.solve(torch.eye(n).double() - M, b).reshape(SHAPE)
    return (lambda y: (M @ y.flatten() + b).reshape(SHAPE)), wanted


def start():
    return torch.zeros(SHAPE, dtype=torch.float64)


@pytest.mark.parametrize("name", FIXED_POINTS)
def test_every_solver_finds_the_fixed_point_of_a_contraction(name):
    g, wanted = linear(0.8)
    found = find(g, start(), build(FIXED_POINTS, name), TIGHT, on)
    assert found.converged
    assert found.stopped == "converged"
    torch.testing.assert_close(found.y, wanted, atol=1e-4, rtol=0)
    assert found.y.shape == SHAPE


def test_anderson_and_broyden_need_far_fewer_evaluations():
    g, _ = linear(0.97)
    steps = {n: find(g, start(), build(FIXED_POINTS, n), TIGHT, on).steps for n in FIXED_POINTS}
    assert steps["anderson"] < 0.5 * steps["picard"]
    assert steps["broyden"] < 0.5 * steps["picard"]


@pytest.mark.parametrize("solver", [Picard(), Anderson(), Broyden()], ids=repr)
def test_evaluations_are_counted_and_limited(solver):
    calls = []
    g, _ = linear(0.99)

    def counted(y):
        calls.append(1)
        return g(y)

    found = find(counted, start(), solver, Rules(limit=7, tol=0, tol_rms=0), on)
    assert found.steps == len(calls) == len(found.residuals) == 7
    assert found.stopped == "steps"
    assert not found.converged


def test_what_comes_back_is_the_state_of_the_least_residual():
    """A map that first draws near and then leaves."""
    seen = []

    def g(y):
        seen.append(y)
        return y + (0.2 if len(seen) == 5 else 1.0)

    found = find(g, start(), Picard(), Rules(limit=10, tol=0, tol_rms=0), on)
    assert torch.equal(found.y, seen[4])
    assert found.energy == pytest.approx(0.2 * math.sqrt(3))


@pytest.mark.parametrize("solver", [Picard(), Anderson(), Broyden()], ids=repr)
def test_a_map_that_gives_no_numbers_leaves_the_best_state_before(solver):
    g, wanted = linear(0.9)
    calls = []

    def broken(y):
        calls.append(1)
        return g(y) if len(calls) < 6 else torch.full_like(y, math.nan)

    found = find(broken, start(), solver, TIGHT, on)
    assert found.stopped == "diverged"
    assert not found.converged
    assert bool(found.y.isfinite().all())
    assert float((found.y - wanted).norm()) < float(wanted.norm())


def test_a_map_that_runs_away_is_stopped_long_before_the_limit():
    found = find(lambda y: 2 * y + 1, start(), Picard(), TIGHT, on)
    assert found.stopped == "diverged"
    assert found.steps < 30


def test_what_is_too_far_away_to_be_believed_counts_for_nothing():
    rules = replace(TIGHT, bound=3.5)
    found = find(lambda y: y + 1.0 / (1 + y.abs()), start(), Picard(), rules, on)
    assert float(found.y.abs().max()) <= 3.5


def test_a_cycle_is_left_by_damping():
    """y -> -y goes round for ever; half-way steps end at once."""
    found = find(lambda y: -y, start() + 1, Picard(), TIGHT, on)
    assert found.converged
    torch.testing.assert_close(found.y, start())


def test_a_plateau_ends_what_gains_nothing():
    push = torch.ones(SHAPE, dtype=torch.float64)
    found = find(lambda y: y + push, start(), Picard(), replace(TIGHT, limit=100), on)
    assert found.stopped == "plateau"
    assert found.steps < 40


def test_somebody_may_stop_it():
    asked = []

    def patience(share):
        asked.append(share)
        return len(asked) <= 4

    g, _ = linear(0.99)
    found = find(g, start(), Picard(), TIGHT, patience)
    assert found.stopped == "time"
    assert found.steps == 5  # the first is not asked for
    assert min(asked) > 0 and max(asked) < 1


def test_something_is_known_even_if_there_is_no_time_at_all():
    g, _ = linear(0.5)
    found = find(g, start(), Picard(), TIGHT, lambda share: False)
    assert found.stopped == "time"
    assert found.steps == len(found.residuals) == 1


def test_anderson_needs_two_states_to_combine():
    with pytest.raises(RecipeError, match="memory=1"):
        build(FIXED_POINTS, "anderson:memory=1")


def test_nothing_is_kept_for_gradients():
    w = torch.ones(SHAPE, dtype=torch.float64, requires_grad=True)
    found = find(lambda y: 0.5 * y + w, start(), Anderson(), TIGHT, on)
    assert not found.y.requires_grad


@pytest.mark.parametrize("radius", [0.5, 0.95, 1.2])
def test_the_spectral_radius_of_a_linear_map(radius):
    g, wanted = linear(radius)
    direction = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert spectral_radius(g, wanted, direction, 200) == pytest.approx(radius, rel=2e-2)
