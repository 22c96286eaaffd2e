"""Implicit gradients against dense Hessians and against the whole solve."""

import pytest
import torch

from regcli.ops.filter import gaussian
from regcli.ops.kernels import reference
from regcli.ops.match import exact_squares
from regcli.ops.newton import solve
from regcli.ops.sample import sample
from regcli.solve.adjoint import Energy, GaussNewtonIFT

SHAPES = [(7, 8, 6), (13, 12, 1)]
EYE = torch.eye(3, 4, dtype=torch.float64)


def smooth(*shape, seed, sigma=1.5):
    """Random, smooth, of deviation 1."""
    draw = torch.Generator().manual_seed(seed)
    x = gaussian(torch.randn(1, *shape, generator=draw), sigma)
    return x / x.std()


def flat(u):
    """Displacements of a slice stay in its plane."""
    if u.shape[4] == 1:
        u[:, 2] = 0
    return u


class Pair:
    """Features, a displacement between them, and their energy."""

    def __init__(self, shape, *, noise=0.0, seed=0):
        self.moving = smooth(4, *shape, seed=seed)
        # between voxels: at their centres, the slope of linear interpolation jumps
        wave = smooth(3, *shape, seed=seed + 1, sigma=2.0)
        self.truth = flat(0.5 + 0.3 * wave / wave.abs().max())
        self.fixed = sample(self.moving, self.truth) + noise * smooth(4, *shape, seed=seed + 2)
        # the outermost voxels do not count: there, the slope of sampling jumps
        weight = torch.zeros(1, 1, *shape)
        i, j, k = (slice(1, -1) if n > 1 else slice(None) for n in shape)
        weight[:, :, i, j, k] = 1
        self.energy = Energy(weight, torch.full((3, 3), 0.05))

    def optimum(self, moving=None, fixed=None, steps=60):
        """Gauss-Newton to the end; the energy is nearly quadratic here."""
        moving = self.moving if moving is None else moving
        fixed = self.fixed if fixed is None else fixed
        u = self.truth.clone()
        for _ in range(steps):
            model = exact_squares(moving, fixed, u, self.energy.weight, 1.0)
            u = u + 0.7 * flat(solve(model, u, self.energy.stiffness, 1e-3, 40))
        return u

    def value(self, M, F, u):
        """The energy in plain torch, float64."""
        points = reference.positions(EYE, u, tuple(u.shape[2:]))
        r = reference.linear(M, points) - F
        rough = sum(u.diff(dim=axis).square().sum() for axis in (2, 3, 4)) * 0.05
        return 0.5 * (self.energy.weight * r.square()).sum() + 0.5 * rough


def gradients(pair, u, v, adjoint):
    M, F = (t.clone().requires_grad_() for t in (pair.moving, pair.fixed))
    out = adjoint.attach(u, M, F, pair.energy)
    (out * v).sum().backward()
    return M.grad, F.grad


def exact_gradients(pair, u, v):
    """-d<p, dE/du> with p from the dense Hessian, all in float64."""
    M, F, u = (t.double() for t in (pair.moving, pair.fixed, u))
    solid = 3 if u.shape[4] > 1 else 2

    def energy(x):
        rest = torch.zeros(1, 3 - solid, *u.shape[2:], dtype=torch.float64)
        return pair.value(M, F, torch.cat([x.view(1, solid, *u.shape[2:]), rest], dim=1))

    x = u[:, :solid].flatten()
    H = torch.autograd.functional.hessian(energy, x)
    p = torch.linalg.solve(H, v[:, :solid].double().flatten())
    M.requires_grad_()
    F.requires_grad_()
    x = x.clone().requires_grad_()
    force = torch.autograd.grad(energy(x), x, create_graph=True)[0]
    return [-g for g in torch.autograd.grad((p * force).sum(), (M, F))]


def cosine(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_ten_iterations_give_the_gradient_of_the_dense_hessian(shape, noise):
    pair = Pair(shape, noise=noise)
    u = pair.optimum()
    v = flat(smooth(3, *shape, seed=5, sigma=1.0))
    found = gradients(pair, u, v, GaussNewtonIFT(iterations=10))
    for ours, exact in zip(found, exact_gradients(pair, u, v), strict=True):
        assert cosine(ours, exact) > 0.99
        assert 0.95 < float(ours.norm() / exact.norm()) < 1.05


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("which", ["moving", "fixed"])
def test_the_gradient_is_the_change_of_the_whole_solve(shape, which):
    pair = Pair(shape)
    u = pair.optimum()
    v = flat(smooth(3, *shape, seed=6, sigma=1.0))
    dM, dF = gradients(pair, u, v, GaussNewtonIFT(iterations=40, damping=1e-6))
    direction = smooth(4, *shape, seed=7)
    reach = 0.01
    ends = []
    for sign in (1, -1):
        changed = getattr(pair, which) + sign * reach * direction
        ends.append((pair.optimum(**{which: changed}) * v).sum())
    measured = float(ends[0] - ends[1]) / (2 * reach)
    predicted = float(((dM if which == "moving" else dF) * direction).sum())
    assert predicted == pytest.approx(measured, rel=0.02)


def test_weights_and_scale_count():
    pair = Pair((7, 8, 6))
    u, v = pair.optimum(), smooth(3, 7, 8, 6, seed=5)
    half = torch.ones(1, 1, 7, 8, 6)
    half[:, :, :3] = 0
    pair.energy = Energy(half, pair.energy.stiffness, 2.0)
    _, dF = gradients(pair, u, v, GaussNewtonIFT())
    assert float(dF[:, :, :3].abs().max()) == 0
    assert float(dF[:, :, 3:].abs().max()) > 0


def test_no_gradient_gives_none():
    pair = Pair((7, 8, 6))
    dM, dF = gradients(pair, pair.truth, torch.zeros(1, 3, 7, 8, 6), GaussNewtonIFT())
    assert not dM.any()
    assert not dF.any()


def test_the_graph_holds_the_features_and_nothing_of_the_solve():
    """Bytes saved for the backward pass, whatever the number of steps that led to u."""
    pair = Pair((7, 8, 6))
    M, F = (t.clone().requires_grad_() for t in (pair.moving, pair.fixed))
    saved = []
    for steps in (2, 40):
        kept = []

        def pack(t, kept=kept):
            kept.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            GaussNewtonIFT().attach(pair.optimum(steps=steps), M, F, pair.energy)
        saved.append(sum(kept))
    assert saved[0] == saved[1] == M.numel() + F.numel() + pair.truth.numel()
