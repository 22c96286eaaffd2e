import itertools

import pytest
import SimpleITK as sitk
import torch

from regcli.image import Space
from regcli.ops.filter import gaussian
from regcli.ops.match import Moved, squares
from regcli.ops.newton import diffuse, product
from regcli.ops.penalty import Penalty
from regcli.transforms.bspline import BSpline, gather, spread

FLIP = torch.tensor([-1.0, -1.0, 1.0]).double()  # RAS to LPS and back
SOFT = torch.full((3, 3), 0.15)


def drawn(shape, seed=0):
    return torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(seed))


def itk(y, space, apart):
    """SimpleITK's transform with the same control points."""
    out = sitk.BSplineTransform(3, 3)
    mesh = [n - 3 for n in y.shape[2:]]
    direction = space.affine[:3, :3] / torch.tensor(space.spacing)
    out.SetTransformDomainOrigin((FLIP * space.affine[:3, 3]).tolist())
    out.SetTransformDomainDirection((FLIP[:, None] * direction).flatten().tolist())
    out.SetTransformDomainMeshSize(mesh)
    out.SetTransformDomainPhysicalDimensions([n * apart for n in mesh])
    vectors = FLIP[:, None] * space.vectors_to_world(y).double()[0].flatten(1)  # (3, i j k)
    in_order = vectors.unflatten(1, y.shape[2:]).permute(0, 3, 2, 1)  # ITK counts i fastest
    out.SetParameters(in_order.flatten().tolist())
    return out


def test_it_is_the_spline_of_itk(space):
    transform = BSpline(spacing=7.0)
    y = drawn(transform.identity(space).shape[2:])
    u = space.vectors_to_world(transform.parts(y, space)[1]).double()
    oracle = itk(y, space, 7.0)
    draw = torch.Generator().manual_seed(1)
    for _ in range(20):  # inside: on its edge, rounding decides whether ITK moves a point
        voxel = [int(torch.randint(1, n, (), generator=draw)) for n in space.shape]
        world = space.voxel_to_world(torch.tensor([voxel]).double())[0]
        moved = FLIP * torch.tensor(oracle.TransformPoint((FLIP * world).tolist())).double()
        torch.testing.assert_close(world + u[(0, slice(None), *voxel)], moved, atol=1e-4, rtol=0)


def test_doubling_control_points_changes_nothing(space):
    """Of coarse voxels, that fine ones share."""
    transform = BSpline(spacing=6.0)
    i, j, k = ((n - 1) // 4 + 1 for n in space.shape)
    coarse = Space((i, j, k), space.affine @ torch.diag(torch.tensor([4.0, 4, 4, 1]).double()))
    fine = coarse.resize((4 * i - 3, 4 * j - 3, 4 * k - 3))
    y = drawn(transform.identity(coarse).shape[2:])
    found = transform.resize(y, coarse, fine)
    assert max(found.shape[2:]) > max(y.shape[2:]) + 2
    before, after = transform.parts(y, coarse)[1], transform.parts(found, fine)[1]
    torch.testing.assert_close(after[..., ::4, ::4, ::4] / 4, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spacing", [5.0, 9.0])  # mm: on all voxels, and on half of them per axis
def test_a_step_gains_nearly_what_the_best_one_would(spacing):
    space = Space((9, 8, 7), torch.diag(torch.tensor([2.0, 2, 2, 1]).double()))
    transform = BSpline(spacing, cap=1e6)
    y = transform.identity(space)
    basis = transform.basis(y, space)
    fixed, moving = (gaussian(drawn(space.shape, seed), 1.5)[:, :1] for seed in (1, 2))
    model = squares(Moved(moving), fixed, torch.ones_like(fixed), 50.0)
    A = model.A
    hessian = []
    for n, axis in itertools.product(range(y[0, 0].numel()), range(3)):
        unit = torch.zeros_like(y)
        unit[0, axis].view(-1)[n] = 1
        d = spread(unit, basis)
        column = gather(product(A, d) + diffuse(d.contiguous(), SOFT)[0], basis)
        hessian.append(column[0].permute(1, 2, 3, 0).flatten())
    H, g = torch.stack(hessian).double(), gather(model.g, basis)[0].permute(1, 2, 3, 0).flatten()
    H = H + 1e-6 * torch.eye(len(H))
    g = g.double()
    best = 0.5 * g @ torch.linalg.solve(H, g)
    d = transform.step(y, model, Penalty(spread(y, basis), SOFT), space, 1e-6)
    d = d[0].permute(1, 2, 3, 0).flatten().double()
    gain = -(g @ d + 0.5 * d @ H @ d)
    assert float(gain) > 0.8 * float(best)


def test_a_step_towards_a_field_ends_at_its_projection(space):
    transform = BSpline(spacing=8.0)
    u, y = drawn(space.shape), transform.identity(space)
    basis = transform.basis(y, space)
    y = y + transform.tangent(u, space)
    left = gather(u - transform.displacement(y, space), basis)
    assert float(left.norm()) < 0.15 * float(gather(u, basis).norm())  # at right angles
    again = transform.tangent(transform.displacement(y, space), space)
    torch.testing.assert_close(again, y, atol=1e-4, rtol=1e-4)
