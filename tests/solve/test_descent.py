import pytest
import torch

from regcli.solve.base import Problem
from regcli.solve.descent import LevenbergMarquardt, Relaxation

STEPS = {Relaxation: 200, LevenbergMarquardt: 100}


@pytest.fixture(params=STEPS)
def solver(request):
    """With steps enough for any of these problems, and a tight tolerance."""
    return request.param(steps=STEPS[request.param], tol=1e-10)


def going(share):
    assert 0 <= share < 1
    return True


def least_squares(residual, offset=0.0):
    """sum r^2 / 2 + offset, stepped by damped Gauss-Newton."""

    def evaluate(y):
        r = residual(y)
        return 0.5 * r.square().sum() + offset, (r, torch.autograd.functional.jacobian(residual, y))

    def step(y, state, damping):
        r, J = state
        H = J.T @ J
        return torch.linalg.solve(H + damping * torch.diag(H.diagonal() + 1e-12), -J.T @ r)

    return Problem(evaluate, step, lambda y, delta: y + delta)


def script(energies, start=0.0):
    """A problem whose energy at iterate n is energies[n], whatever the solver does."""

    def evaluate(y):
        n = min(int(y), len(energies) - 1)
        return torch.tensor(energies[n], dtype=torch.float64), n

    return Problem(evaluate, lambda y, n, damping: torch.ones(()), lambda y, delta: y + delta)


def quadratic():
    J = torch.tensor([[2.0, 0.3], [0.1, 0.5], [-0.4, 1.0]], dtype=torch.float64)
    goal = torch.tensor([1.5, -2.0], dtype=torch.float64)
    return least_squares(lambda y: J @ (y - goal)), goal


def test_a_quadratic_is_solved(solver):
    problem, goal = quadratic()
    solution = solver.run(problem, torch.zeros(2, dtype=torch.float64), going)
    torch.testing.assert_close(solution.y, goal, atol=1e-5, rtol=0)
    assert solution.energy == pytest.approx(0, abs=1e-9)


def test_a_circle_is_fitted(solver):
    angles = torch.linspace(0, 5, 30, dtype=torch.float64)
    points = torch.stack([3 + 2 * angles.cos(), -1 + 2 * angles.sin()], dim=1)
    problem = least_squares(lambda y: (points - y[:2]).norm(dim=1) - y[2], offset=1.0)
    solution = solver.run(problem, torch.tensor([2.0, 0.0, 1.0]).double(), going)
    torch.testing.assert_close(
        solution.y, torch.tensor([3.0, -1.0, 2.0]).double(), atol=1e-4, rtol=0
    )
    assert solution.converged
    assert solution.stopped == "converged"
    assert solution.steps < solver.steps


def test_levenberg_masters_what_plain_steps_overshoot():
    problem = least_squares(torch.atan)
    start = torch.tensor([3.0], dtype=torch.float64)
    assert float(Relaxation(steps=1).run(problem, start, going).y) == 3  # -9.5 is worse
    solution = LevenbergMarquardt(steps=50, tol=1e-12, damping=1.0).run(problem, start, going)
    assert float(solution.y) == pytest.approx(0, abs=1e-6)


def test_levenberg_damps_more_after_a_step_that_fails_and_less_after_one_that_helps():
    dampings = []
    energies = iter([10.0, 11.0, 12.0, 9.0, 8.0, 9.0, *[7.0] * 90])
    problem = Problem(
        lambda y: (torch.tensor(next(energies)), None),
        lambda y, state, damping: dampings.append(damping) or torch.ones(()),
        lambda y, delta: y + delta,
    )
    LevenbergMarquardt(steps=6, tol=0.0, damping=0.01).run(problem, torch.zeros(()), going)
    assert dampings == pytest.approx([0.01, 0.1, 1.0, 0.2, 0.04, 0.4])


def test_out_of_steps_is_no_convergence(solver):
    problem = script([100.0 / (n + 1) for n in range(300)])
    solution = solver.run(problem, torch.zeros(()), going)
    assert solution.stopped == "steps"
    assert not solution.converged
    assert solution.steps == solver.steps == int(solution.y)
    assert len(solution.residuals) == solver.steps + 1
    assert solution.residuals[0] == 1.0


def test_a_falling_energy_below_zero_is_followed_too(solver):
    """Mutual information is negative."""
    problem = script([-1.0 - n for n in range(300)])
    solution = solver.run(problem, torch.zeros(()), going)
    assert solution.stopped == "steps"
    assert solution.energy == -1.0 - solver.steps


def test_a_standing_energy_ends_the_run_early(solver):
    solution = solver.run(script([3.0]), torch.zeros(()), going)
    assert solution.stopped == "converged"
    assert solution.steps <= 6
    assert solution.energy == 3.0


def test_zero_energy_is_no_division_by_zero(solver):
    solution = solver.run(script([0.0]), torch.zeros(()), going)
    assert solution.converged
    assert solution.residuals[0] == 0.0


def test_the_best_iterate_is_kept_when_the_energy_rises():
    falls_then_rises = [5.0, 4, 3, 2, 1, 0.5, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9]
    solution = Relaxation(steps=15, tol=1e-3, window=5).run(
        script(falls_then_rises), torch.zeros(()), going
    )
    assert int(solution.y) == 5
    assert solution.energy == 0.5
    assert solution.stopped == "converged"
    solution = LevenbergMarquardt(steps=15).run(script(falls_then_rises), torch.zeros(()), going)
    assert int(solution.y) == 5
    assert solution.energy == 0.5


def test_the_start_is_kept_when_every_step_makes_it_worse(solver):
    problem = script([1.0 + n for n in range(300)])
    solution = solver.run(problem, torch.zeros(()), going)
    assert int(solution.y) == 0
    assert solution.energy == 1.0


@pytest.mark.parametrize("after", [0, 3, 7])
def test_time_stops_at_once_with_the_best_so_far(solver, after):
    shares = []

    def until(share):
        shares.append(share)
        return len(shares) <= after

    problem = script([100.0 - n for n in range(300)])
    solution = solver.run(problem, torch.zeros(()), until)
    assert solution.stopped == "time"
    assert not solution.converged
    assert int(solution.y) == after
    assert solution.energy == 100.0 - after
    assert shares == pytest.approx([n / solver.steps for n in range(after + 1)])


@pytest.mark.parametrize("solver", [Relaxation(steps=0), LevenbergMarquardt(steps=0)])
def test_no_steps_at_all_evaluate_the_start(solver):
    solution = solver.run(script([2.0, 1.0]), torch.zeros(()), going)
    assert (int(solution.y), solution.energy, solution.steps) == (0, 2.0, 0)
    assert solution.stopped == "steps"


@pytest.mark.parametrize("kind", STEPS)
def test_more_tolerance_takes_fewer_steps(kind):
    problem = script([1 + 0.5**n for n in range(300)])
    runs = [
        kind(steps=200, tol=tol).run(problem, torch.zeros(()), going) for tol in (1e-2, 1e-4, 1e-6)
    ]
    assert runs[0].steps < runs[1].steps < runs[2].steps < 60
    assert all(run.converged for run in runs)
