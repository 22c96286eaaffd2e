"""Families that a network's steps drive: one zero whichever way steps apply, maps without folds."""

import pytest
import torch

from regcli.image import Space
from regcli.ops.field import compose, invert
from regcli.ops.filter import gaussian
from regcli.ops.jacobian import least_determinant
from regcli.registry import LINEAR, TRANSFORMS, build
from regcli.solve.fixedpoint import Anderson, Picard, Rules, find
from regcli.transforms.dense import Compositional, Freeform
from regcli.transforms.svf import Stationary

SHAPE = (16, 18, 14)
SPACE = Space(SHAPE, torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])).double())
NAMES = [name for name in TRANSFORMS if name not in LINEAR]
VECTORS = [name for name in NAMES if name != "diffeo"]  # whose parameters may be added


def smooth(seed, size=1.5, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    u = gaussian(torch.randn(1, 3, *shape, generator=generator), 2.5)
    window = torch.ones(shape)
    for axis, n in enumerate(shape):  # nothing leaves the grid
        line = torch.sin(torch.linspace(0, torch.pi, n))
        window = window * line.view([n if a == axis else 1 for a in range(3)])
    return u * window * (size / (u * window).abs().max())


def stepped(transform, y, step):
    """y after a step d(u) that is composed before its map."""
    d = step(transform.displacement(y, SPACE))
    return transform.retract(y, transform.tangent(d, SPACE), SPACE)


def solved(transform, share, c, solver, rules):
    return find(
        lambda y: stepped(transform, y, lambda u: share * (c - u)),
        transform.identity(SPACE),
        solver,
        rules,
        lambda share: True,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_family_ends_where_the_network_takes_no_step(name):
    """f(u) = (c - u) / 2: its only zero is c."""
    transform, c = build(TRANSFORMS, name), smooth(0)
    found = solved(transform, 0.5, c, Picard(), Rules(limit=300, tol=0.0, tol_rms=1e-3))
    assert found.converged
    gap = (transform.displacement(found.y, SPACE) - c).norm(dim=1)
    assert float(gap.mean()) < 0.05


@pytest.mark.parametrize("name", VECTORS)
def test_families_that_form_a_vector_space_are_solved_by_anderson(name):
    transform, c = build(TRANSFORMS, name), smooth(2, 1.0)
    found = solved(transform, 0.3, c, Anderson(), Rules(limit=60, tol=0.0, tol_rms=1e-3))
    assert found.converged
    assert float((transform.displacement(found.y, SPACE) - c).norm(dim=1).mean()) < 0.05


def test_the_inverse_of_a_velocity_is_that_of_its_negative():
    transform, y = Stationary(), smooth(1, 0.7)
    u, v = transform.displacement(y, SPACE), transform.displacement(-y, SPACE)
    assert float(u.norm(dim=1).max()) > 0.6
    assert float(compose(u, v).norm(dim=1).max()) < 0.06  # exp is as exact as its grid
    torch.testing.assert_close(v, invert(u)[0], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "transform", [Stationary(), Compositional()], ids=lambda t: type(t).__name__
)
def test_large_steps_do_not_fold(transform):
    """Steps that fold when they are added."""
    y, added = (family.identity(SPACE) for family in (transform, Freeform()))
    for seed in range(4):
        step = smooth(seed, 2.0)
        y = stepped(transform, y, lambda u, step=step: step)
        added = stepped(Freeform(), added, lambda u, step=step: step)
    assert float(least_determinant(added).min()) < 0
    assert float(least_determinant(transform.displacement(y, SPACE)).min()) > 0
    assert not transform.folds


@pytest.mark.parametrize("name", NAMES)
def test_a_map_is_kept_on_a_grid_with_other_corners(name):
    """As levels of a network have, whose sizes suit its halvings."""
    transform, c = build(TRANSFORMS, name), smooth(3, 1.0)
    y = stepped(transform, transform.identity(SPACE), lambda u: c)
    index = torch.diag(torch.tensor([0.5, 0.5, 0.5, 1.0], dtype=torch.float64))
    index[:3, 3] = torch.tensor([2.0, 3.0, 1.5])
    fine = Space((25, 24, 21), SPACE.affine @ index)
    u = transform.displacement(transform.resize(y, SPACE, fine), fine)
    coarse = transform.displacement(y, SPACE)
    inner = coarse[:, :, 2:15, 3:15, 2:12]  # voxel n of the coarse grid is 2 n - 4 of the fine one
    seen = u[:, :, ::2, ::2, 1::2]
    assert float((seen / 2 - inner).norm(dim=1).mean()) < 0.05 * float(inner.norm(dim=1).max())
