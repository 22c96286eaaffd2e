import numpy as np
import pytest
import torch

from regcli.ops import newton as ops
from regcli.ops.backends import reference
from regcli.ops.filter import gaussian
from regcli.ops.match import Quadratic

SHAPES = [(11, 9, 10), (5, 16, 7), (13, 12, 1), (1, 9, 8), (2, 3, 4)]
TINY = [(4, 3, 3), (5, 4, 1), (1, 4, 3)]
STIFFNESS = 0.15 * torch.tensor([[1.0, 4.0, 0.5], [0.25, 1.0, 0.2], [2.0, 5.0, 1.0]])


def problem(shape, seed=0, force=1.0):
    """A positive semi-definite model and a displacement."""
    draw = torch.Generator().manual_seed(seed)
    D = torch.randn(3, *shape, generator=draw)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    A = torch.stack([D[p] * D[q] for p, q in pairs])[None]
    g = force * torch.randn(1, 3, *shape, generator=draw)
    return Quadratic(torch.zeros(()).double(), g, A), torch.randn(1, 3, *shape, generator=draw)


def wide(model):
    return Quadratic(model.value, model.g.double(), model.A.double())


def plain_energy(u, stiffness):
    """sum over neighbours of stiffness[c, k] (u_c(x) - u_c(y))^2 / 2."""
    total = torch.zeros((), dtype=u.dtype)
    for k in range(3):
        squared = u.diff(dim=2 + k).square().sum(dim=(0, 2, 3, 4))
        total = total + 0.5 * (stiffness[:, k].to(u) * squared).sum()
    return total


def dense(model, shape, mu, stiffness=STIFFNESS):
    """The (3N, 3N) matrix A + R + mu, from the definitions, in float64."""
    n = 3 * shape[0] * shape[1] * shape[2]
    zero = torch.zeros(1, 3, *shape, dtype=torch.float64)
    H = torch.autograd.functional.hessian(
        lambda v: plain_energy(v.view(1, 3, *shape), stiffness), zero.flatten()
    )
    full = model.A.double()[0, [0, 1, 2, 1, 3, 4, 2, 4, 5]].view(3, 3, -1)
    A = torch.diag_embed(full).permute(0, 2, 1, 3).reshape(n, n)
    return H + A + mu * torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_diffusion_is_the_gradient_of_its_energy(shape):
    _, u = problem(shape)
    v = u.double().requires_grad_()
    wanted = plain_energy(v, STIFFNESS)
    (gradient,) = torch.autograd.grad(wanted, v)
    out, energy = ops.diffuse(u, STIFFNESS)
    assert float(energy) == pytest.approx(float(wanted.detach()), rel=1e-5)
    torch.testing.assert_close(out.double(), gradient, atol=1e-4, rtol=1e-4)
    reference = ops._diffuse_reference(u.double(), STIFFNESS.double())
    torch.testing.assert_close(reference, gradient, atol=1e-10, rtol=0)


def test_a_translation_costs_nothing():
    u = torch.tensor([2.0, -3.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, 5, 6, 7).contiguous()
    out, energy = ops.diffuse(u, STIFFNESS)
    assert float(out.abs().max()) < 1e-5
    assert abs(float(energy)) < 1e-4


@pytest.mark.parametrize("shape", TINY)
@pytest.mark.parametrize("damping", [1e-3, 0.1])
def test_the_step_solves_the_dense_system(shape, damping):
    model, u = problem(shape)
    mu = damping * float(model.A[:, [0, 3, 5]].mean()) + 1e-9
    force = model.g.double() + ops._diffuse_reference(u.double(), STIFFNESS.double())
    wanted = torch.linalg.solve(dense(model, shape, mu), -force.flatten()).view_as(u)
    found = ops.solve(model, u, STIFFNESS, damping, 400)
    tolerance = 1e-3 * float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("iterations", [1, 8])
def test_the_loops_take_the_same_iterations_as_the_reference(shape, iterations):
    model, u = problem(shape)
    mu = 1e-2 * model.A.double()[:, [0, 3, 5]].mean() + 1e-9
    stiffness = STIFFNESS.double()
    wanted = ops._solve_reference(
        wide(model), u.double(), stiffness, mu, 2 * stiffness.sum(dim=1), iterations
    )
    found = ops.solve(model, u, STIFFNESS, 1e-2, iterations)
    tolerance = 1e-3 * float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", [(4, 3, 3), (5, 4, 6)])
def test_the_step_solves_the_dense_system_with_squared_divergences(shape):
    model, u = problem(shape)
    mu, bulk = 1e-2 * float(model.A[:, [0, 3, 5]].mean()) + 1e-9, 0.4
    D = torch.autograd.functional.jacobian(_divergence, u.double()).reshape(-1, u.numel())
    force = model.g.double() + ops._diffuse_reference(u.double(), STIFFNESS.double())
    force = force.flatten() + bulk * D.T @ (D @ u.double().flatten())
    H = dense(model, shape, mu) + bulk * D.T @ D
    wanted = torch.linalg.solve(H, -force).view_as(u)
    found = ops.solve(model, u, STIFFNESS, 1e-2, 400, bulk)
    tolerance = 1e-3 * float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, atol=tolerance, rtol=0)
    near = ops.two_grid(model, u, STIFFNESS, 1e-2, 8, bulk)
    before, after = (
        float(force @ d.double().flatten() + 0.5 * d.double().flatten() @ H @ d.double().flatten())
        for d in (wanted, near)
    )
    assert before < 0
    assert after < 0.5 * before


def _divergence(u):
    """In the middle of eight voxels."""
    out = 0.0
    for axis in (2, 3, 4):
        e = u[:, axis - 2].diff(dim=axis - 1)
        for other in (1, 2, 3):
            if other != axis - 1:
                n = e.shape[other]
                e = 0.5 * (e.narrow(other, 0, n - 1) + e.narrow(other, 1, n - 1))
        out = out + e
    return out


def test_eight_iterations_come_within_a_few_percent():
    model, u = problem((12, 11, 10))
    eight = ops.solve(model, u, STIFFNESS, 1e-3, 8)
    exact = ops.solve(model, u, STIFFNESS, 1e-3, 400)
    assert float((eight - exact).norm() / exact.norm()) < 0.1


def test_no_force_gives_no_step():
    model, u = problem((6, 5, 4), force=0.0)
    for flat in (torch.zeros_like(u), torch.ones_like(u)):
        assert float(ops.solve(model, flat, STIFFNESS, 1e-3, 8).abs().max()) < 1e-5


def test_a_model_that_is_zero_everywhere_gives_no_step():
    zero = Quadratic(
        torch.zeros(()).double(), torch.zeros(1, 3, 5, 6, 4), torch.zeros(1, 6, 5, 6, 4)
    )
    assert float(ops.solve(zero, torch.zeros(1, 3, 5, 6, 4), STIFFNESS, 1e-3, 8).abs().max()) == 0
    n = torch.zeros(1, 3, 5, 6, 4, dtype=torch.float64)
    mu, s = torch.tensor(1e-9).double(), STIFFNESS.double()
    step = ops._solve_reference(wide(zero), n, s, mu, 2 * s.sum(dim=1), 8)
    assert float(step.abs().max()) == 0


def test_the_step_stays_in_the_plane_of_a_slice():
    model, u = problem((9, 8, 1))
    model.g[:, 2], model.A[:, [2, 4, 5]], u[:, 2] = 0, 0, 0
    assert float(ops.solve(model, u, STIFFNESS, 1e-3, 8)[:, 2].abs().max()) == 0


def test_the_step_lowers_the_quadratic_model():
    model, u = problem((8, 7, 6))
    d = ops.solve(model, u, STIFFNESS, 1e-3, 8).double()
    A = model.A.double()[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(1, (3, 3))
    Ad = torch.einsum("bcdijk,bdijk->bcijk", A, d)
    change = (model.g * d).sum() + 0.5 * (d * Ad).sum()
    s = STIFFNESS.double()
    change += plain_energy(u.double() + d, s) - plain_energy(u.double(), s)
    assert float(change) < 0


@pytest.mark.parametrize("shape", SHAPES)
def test_two_grid_loops_equal_the_reference(shape):
    model, u = problem(shape)
    found = ops.two_grid(model, u, STIFFNESS, 1e-2, 8)
    stiffness, steps = STIFFNESS.double(), [2 if n > 1 else 1 for n in shape]
    mu = 1e-2 * model.A.double()[:, [0, 3, 5]].mean() + 1e-9
    g = model.g.double() + ops._diffuse_reference(u.double(), stiffness)
    half = Quadratic(model.value, *(reference.restrict(t.double(), steps) for t in (g, model.A)))
    share = np.prod(steps) / 4
    coarse_mu = 1e-2 * half.A[:, [0, 3, 5]].mean() + 1e-9
    d = ops._solve_reference(
        half, half.g * 0, stiffness * share, coarse_mu, 2 * share * stiffness.sum(dim=1), 8
    )
    d = reference.prolong(d, steps, shape)
    wide = Quadratic(model.value, model.g.double(), model.A.double())
    diagonal = 2 * stiffness.sum(dim=1)
    wanted = ops._relax_reference(d, u.double(), wide, stiffness, mu, diagonal)
    tolerance = 1e-3 * float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, atol=tolerance, rtol=0)


def test_two_grids_come_close_to_the_solution_of_a_smooth_problem():
    model, u = problem((16, 14, 12))
    smooth = Quadratic(model.value, *(gaussian(t, 2.0) for t in (model.g, model.A)))
    u = gaussian(u, 2.0)
    exact = ops.solve(smooth, u, STIFFNESS, 1e-3, 400)
    found = ops.two_grid(smooth, u, STIFFNESS, 1e-3, 8)
    assert float((found - exact).norm() / exact.norm()) < 0.15


@pytest.mark.parametrize("threads", [1, 2])
def test_the_step_has_the_same_bits_on_any_number_of_threads(threads):
    model, u = problem((11, 9, 10))
    before = torch.get_num_threads()
    wanted = ops.solve(model, u, STIFFNESS, 1e-3, 8)
    try:
        torch.set_num_threads(threads)
        found = ops.solve(model, u, STIFFNESS, 1e-3, 8)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gpu_takes_the_same_step(shape):
    model, u = problem(shape)
    there = Quadratic(model.value, model.g.cuda(), model.A.cuda())
    found = ops.solve(there, u.cuda(), STIFFNESS, 1e-2, 8).cpu()
    wanted = ops.solve(model, u, STIFFNESS, 1e-2, 8)
    torch.testing.assert_close(found, wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0)
