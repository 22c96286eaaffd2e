"""Adjoints against dense Hessians, the whole solve, one another, and torchdeq."""

from functools import partial

import pytest
import torch
import torchdeq
from equilibria import Dense, Pair, dense, flat, smooth

from regcli import registry
from regcli.registry import ADJOINTS
from regcli.solve.adjoint import Energy, unrolled

SHAPES = [(6, 7, 5), (13, 12, 1)]


def build(spec):
    return registry.build(ADJOINTS, spec).attach


def gradients(pair, u, v, attach):
    M, F = (t.clone().requires_grad_() for t in (pair.moving, pair.fixed))
    out = attach(u, M, F, pair.energy)
    (out * v).sum().backward()
    return M.grad, F.grad


def cosine(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


def difference(found, exact):
    """Relative, of both features' gradients together."""
    found, exact = (torch.cat([g.double().flatten() for g in gs]) for gs in (found, exact))
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", [0.0, 0.15])
@pytest.mark.parametrize(
    ("spec", "alike", "shortest"),
    [
        ("gn-ift", 0.98, 0.95),
        ("ift", 0.999, 0.999),
        ("phantom:steps=100", 0.999, 0.99),
        ("phantom", 0.8, 0.3),
        ("jfb", 0.6, 0.1),
    ],
)
def test_gradients_are_as_near_those_of_the_dense_hessian_as_promised(
    shape, noise, spec, alike, shortest
):
    case = dense(shape, noise)
    found = gradients(case.pair, case.u, case.v, build(spec))
    for ours, exact in zip(found, case.exact(), strict=True):
        assert cosine(ours, exact) > alike
        assert shortest < float(ours.norm() / exact.norm()) < 1.02


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_iterations_of_gauss_newton_give_a_cosine_of_99_where_residuals_are_small(shape):
    case = dense(shape, 0.0)
    found = gradients(case.pair, case.u, case.v, build("gn-ift:iterations=10"))
    for ours, exact in zip(found, case.exact(), strict=True):
        assert cosine(ours, exact) > 0.99


@pytest.mark.parametrize("shape", SHAPES)
def test_the_exact_hessian_is_better_where_residuals_are_not_small(shape):
    case = dense(shape, 0.15)
    gauss, exact = (
        difference(gradients(case.pair, case.u, case.v, build(spec)), case.exact())
        for spec in ("gn-ift:iterations=40", "ift")
    )
    assert gauss > 0.1
    assert exact < 0.01


def test_negative_eigenvalues_do_no_harm():
    """Away from any optimum, with a residual as large as the features."""
    case = Dense(Pair((13, 12, 1), noise=1.0), steps=3)
    values = torch.linalg.eigvalsh(case.H)
    assert values[0] < -0.1
    assert values[-1] > 0.1
    found = gradients(case.pair, case.u, case.v, build("ift:iterations=200"))
    assert difference(found, case.exact()) < 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_more_terms_come_nearer_to_the_exact_gradient(shape):
    case = dense(shape, 0.15)
    found = [
        gradients(case.pair, case.u, case.v, build(f"phantom:steps={n}")) for n in (1, 5, 25, 125)
    ]
    far = [difference(g, case.exact()) for g in found]
    assert far == sorted(far, reverse=True)
    assert far[0] > 0.5
    assert far[-1] < 0.01


def test_a_series_that_diverged_is_no_number():
    """Where the Hessian has negative eigenvalues."""
    pair = Pair((13, 12, 1), noise=1.0)
    u = pair.optimum(steps=3)
    for gradient in gradients(pair, u, torch.ones_like(u), build("phantom:steps=500")):
        assert gradient.isnan().all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("terms", [1, 3])
def test_phantom_gradients_are_terms_of_the_neumann_series(shape, terms):
    case = dense(shape, 0.15)
    B, v, rate = case.preconditioner(), case.upstream(), 0.6
    p = torch.zeros_like(v)
    for k in range(terms):
        term = rate * torch.linalg.solve(B, v)
        for _ in range(k):
            term = term - rate * torch.linalg.solve(B, case.H @ term)
        p = p + term
    found = gradients(case.pair, case.u, case.v, build(f"phantom:steps={terms},rate={rate}"))
    assert difference(found, case.gradients(p)) < 2e-3


def test_jacobian_free_is_one_step():
    case = dense((13, 12, 1), 0.0)
    for jfb, phantom in (("jfb", "phantom:steps=1"), ("jfb:rate=0.5", "phantom:steps=1,rate=0.5")):
        pairs = zip(
            *(gradients(case.pair, case.u, case.v, build(spec)) for spec in (jfb, phantom)),
            strict=True,
        )
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("shape", SHAPES)
def test_unrolling_at_the_optimum_is_the_phantom_gradient(shape):
    case = dense(shape, 0.15)
    graph, phantom = (
        gradients(case.pair, case.u, case.v, attach)
        for attach in (partial(unrolled, steps=7), build("phantom:steps=7"))
    )
    assert difference(graph, phantom) < 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_unrolling_until_it_stands_still_is_the_implicit_gradient(shape):
    case = dense(shape, 0.15)
    M, F = (t.clone().requires_grad_() for t in (case.pair.moving, case.pair.fixed))
    out = unrolled(case.pair.truth, M, F, case.pair.energy, steps=150)
    assert float((out - case.u).detach().abs().max()) < 1e-3
    assert float((case.pair.truth - case.u).abs().max()) > 0.05
    (out * case.v).sum().backward()
    for exact, ours in zip(
        (M.grad, F.grad), gradients(case.pair, case.u, case.v, build("ift")), strict=True
    ):
        assert cosine(exact, ours) > 0.999
        assert 0.98 < float(exact.norm() / ours.norm()) < 1.02


def test_gradients_pass_to_where_unrolling_starts_and_fade_with_its_steps():
    case = dense((13, 12, 1), 0.0)
    pair, sizes = case.pair, []
    for steps in (1, 10, 100):
        start = case.u.clone().requires_grad_()
        out = unrolled(start, pair.moving, pair.fixed, pair.energy, steps=steps)
        (out * case.v).sum().backward()
        sizes.append(float(start.grad.norm() / case.v.norm()))
    assert 1 > sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 1e-3


def test_torchdeq_finds_the_same_gradient_at_the_fixed_point_of_the_relaxation():
    case = dense((13, 12, 1), 0.15)
    pair = case.pair
    M, F = (t.clone().requires_grad_() for t in (pair.moving, pair.fixed))
    solvers = {"f_solver": "fixed_point_iter", "b_solver": "fixed_point_iter"}
    limits = {"f_max_iter": 200, "b_max_iter": 200, "f_tol": 1e-5, "b_tol": 1e-5}
    deq = torchdeq.get_deq(ift=True, **solvers, **limits)
    (u,), _ = deq(lambda z: unrolled(z, M, F, pair.energy, steps=1), pair.truth.clone())
    (u * case.v).sum().backward()
    torch.testing.assert_close(u.detach(), case.u, atol=1e-3, rtol=0)
    ours = gradients(pair, case.u, case.v, build("ift"))
    assert difference((M.grad, F.grad), ours) < 5e-3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("which", ["moving", "fixed"])
@pytest.mark.parametrize("spec", ["gn-ift:iterations=40,damping=1e-6", "ift:iterations=40"])
def test_the_gradient_is_the_change_of_the_whole_solve(shape, which, spec):
    case = dense(shape, 0.0)
    pair, v = case.pair, flat(smooth(3, *shape, seed=6, sigma=1.0))
    dM, dF = gradients(pair, case.u, v, build(spec))
    direction = smooth(4, *shape, seed=7)
    reach = 0.01
    ends = []
    for sign in (1, -1):
        changed = getattr(pair, which) + sign * reach * direction
        ends.append((pair.optimum(**{which: changed}) * v).sum())
    measured = float(ends[0] - ends[1]) / (2 * reach)
    predicted = float(((dM if which == "moving" else dF) * direction).sum())
    assert predicted == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("name", ADJOINTS)
def test_weights_and_scale_count(name):
    pair = Pair((6, 7, 5))
    u, v = pair.truth, smooth(3, 6, 7, 5, seed=5)
    half = torch.ones(1, 1, 6, 7, 5)
    half[:, :, :3] = 0
    pair.energy = Energy(half, pair.energy.stiffness, 2.0)
    _, dF = gradients(pair, u, v, build(name))
    assert float(dF[:, :, :3].abs().max()) == 0
    assert float(dF[:, :, 3:].abs().max()) > 0
    pair.energy = Energy(2 * half, pair.energy.stiffness, 1.0)
    torch.testing.assert_close(gradients(pair, u, v, build(name))[1], dF)


@pytest.mark.parametrize("name", ADJOINTS)
def test_no_gradient_gives_none(name):
    pair = Pair((6, 7, 5))
    dM, dF = gradients(pair, pair.truth, torch.zeros(1, 3, 6, 7, 5), build(name))
    assert not dM.any()
    assert not dF.any()


def kept(attach, u, pair):
    """Numbers in the memory that is held for the backward pass."""
    M, F = (t.clone().requires_grad_() for t in (pair.moving, pair.fixed))
    blocks = {}

    def pack(t):
        blocks[t.untyped_storage().data_ptr()] = t.untyped_storage()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = attach(u, M, F, pair.energy)
        out.sum().backward()
    return sum(storage.nbytes() for storage in blocks.values()) // 4


@pytest.mark.parametrize("option", ["gn-ift:iterations", "ift:iterations", "phantom:steps"])
def test_the_graph_holds_the_features_and_nothing_of_the_solve(option):
    pair = Pair((6, 7, 5))
    expected = pair.moving.numel() + pair.fixed.numel() + pair.truth.numel()
    for few, many in ((2, 3), (40, 50)):
        u = pair.optimum(steps=few)
        assert kept(build(f"{option}={many}"), u, pair) == expected
        assert kept(build("jfb"), u, pair) == expected


def test_the_graph_of_unrolling_grows_with_every_step():
    pair = Pair((6, 7, 5))
    sizes = [kept(partial(unrolled, steps=n), pair.truth, pair) for n in (4, 8, 12)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]
    assert sizes[1] - sizes[0] > 4 * 10 * pair.moving.numel()
