"""Optima of feature energies, and what changes them, by dense matrices in float64."""

import functools

import torch

from regcli.ops.backends import reference
from regcli.ops.filter import gaussian
from regcli.ops.match import exact_squares
from regcli.ops.newton import solve
from regcli.ops.sample import sample
from regcli.solve.adjoint import Energy

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


class Dense:
    """An optimum, dT/du there, and the energy's Hessian as a matrix, all in float64."""

    def __init__(self, pair, steps=60):
        self.pair, self.u = pair, pair.optimum(steps=steps)
        shape = self.u.shape[2:]
        self.v = flat(smooth(3, *shape, seed=5, sigma=1.0))
        self.M, self.F = pair.moving.double(), pair.fixed.double()
        self.solid = 3 if shape[2] > 1 else 2  # components that a displacement has
        self.x = self.u[:, : self.solid].double().flatten()
        self.H = torch.autograd.functional.hessian(lambda x: self.energy(self.M, self.F, x), self.x)

    def energy(self, M, F, x):
        shape = self.u.shape[2:]
        rest = torch.zeros(1, 3 - self.solid, *shape, dtype=torch.float64)
        return self.pair.value(M, F, torch.cat([x.view(1, self.solid, *shape), rest], dim=1))

    def gradients(self, p):
        """-d<p, dE/du> by the features."""
        M, F = (t.clone().requires_grad_() for t in (self.M, self.F))
        x = self.x.clone().requires_grad_()
        force = torch.autograd.grad(self.energy(M, F, x), x, create_graph=True)[0]
        return [-g for g in torch.autograd.grad((p * force).sum(), (M, F))]

    def upstream(self):
        return self.v[:, : self.solid].double().flatten()

    def exact(self):
        return self.gradients(torch.linalg.solve(self.H, self.upstream()))

    def preconditioner(self):
        """B of the relaxation, as a matrix."""
        solid, (i, j, k) = self.solid, self.u.shape[2:]
        pair, energy = self.pair, self.pair.energy
        model = exact_squares(pair.moving, pair.fixed, self.u, energy.weight, energy.scale)
        blocks = model.A[0, [0, 1, 2, 1, 3, 4, 2, 4, 5]].double().view(3, 3, -1)
        blocks = blocks + 2 * torch.diag(energy.stiffness.sum(dim=1)).double()[:, :, None]
        B = torch.diag_embed(blocks[:solid, :solid])  # (solid, solid, voxels, voxels)
        return B.permute(0, 2, 1, 3).reshape(solid * i * j * k, solid * i * j * k)


@functools.cache
def dense(shape, noise):
    return Dense(Pair(shape, noise=noise))
