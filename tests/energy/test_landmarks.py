import torch

from regcli.energy.landmarks import landmarks
from regcli.image import Space
from regcli.ops.filter import gaussian
from regcli.ops.match import Quadratic
from regcli.ops.sample import sample

CPU = torch.device("cpu")


def empty(space):
    return Quadratic(
        torch.zeros(()).double(), torch.zeros(1, 3, *space.shape), torch.zeros(1, 6, *space.shape)
    )


def drawn(space, count=6):
    """Points inside, where they should be on a grid of other voxels, its axes, and a map."""
    draw = torch.Generator().manual_seed(0)
    last = torch.tensor(space.shape) - 1
    p = (0.2 + 0.6 * torch.rand(count, 3, generator=draw)).double() * last
    q = 0.8 * p + 2 * torch.randn(count, 3, generator=draw).double()
    matrix = torch.tensor([[0.8, 0.1, 0, 1], [-0.1, 0.7, 0.05, 2], [0, 0.1, 0.9, -1]]).double()
    u = gaussian(8 * torch.randn(1, 3, *space.shape, generator=draw), 3.0)
    axes = space.affine[:3, :3] @ torch.diag(torch.tensor([1.1, 0.9, 1.3]).double())
    return landmarks(p, q, space, axes, 0.5, CPU), matrix, u


def test_the_energy_is_that_of_distances_in_mm(space):
    marks, matrix, _ = drawn(space)
    y = marks.fixed @ matrix[:, :3].T + matrix[:, 3]
    distance = ((y - marks.moving) @ marks.axes.T).norm(dim=1)
    expected = 0.25 * (distance.square() * marks.share.sum(1)).sum()
    torch.testing.assert_close(marks.onto(empty(space), None, matrix).value, expected)
    assert 0.2 < float(marks.share.amax(1).min()) <= float(marks.share.max()) <= 1


def test_the_force_is_the_slope_for_a_shift_composed_before_the_map(space):
    marks, matrix, u = drawn(space)
    shift = torch.tensor([0.1, -0.2, 0.15])
    model = marks.onto(empty(space), u, matrix)
    sides = []
    for sign in (-0.05, 0.05):
        d = (sign * shift).view(1, 3, 1, 1, 1).expand(1, 3, *space.shape)
        sides.append(marks.onto(empty(space), d + sample(u, d.contiguous()), matrix).value)
    slope = (sides[1] - sides[0]) / 0.1
    force = (model.g.double() * shift.view(1, 3, 1, 1, 1)).sum()
    torch.testing.assert_close(force, slope, rtol=0.05, atol=0.0)


def test_the_curvature_is_exact_where_the_map_is_linear(space):
    marks, matrix, _ = drawn(space)
    shift = torch.tensor([0.1, -0.2, 0.15])
    d = shift.view(1, 3, 1, 1, 1).expand(1, 3, *space.shape).contiguous()
    model = marks.onto(empty(space), torch.zeros_like(d), matrix)
    sides = [marks.onto(empty(space), sign * d, matrix).value for sign in (-1, 1)]
    bend = 0.5 * (sides[0] + sides[1] - 2 * model.value)
    A = model.A.double().sum((0, 2, 3, 4))[[0, 1, 2, 1, 3, 4, 2, 4, 5]].view(3, 3)
    curvature = 0.5 * shift.double() @ A @ shift.double()
    torch.testing.assert_close(curvature, bend, rtol=1e-3, atol=0.0)


def test_it_is_added_to_what_is_there(space):
    marks, matrix, u = drawn(space)
    alone, there = marks.onto(empty(space), u, matrix), empty(space)
    there.g.fill_(2), there.A.fill_(3)
    both = marks.onto(there, u, matrix)
    torch.testing.assert_close(both.g, alone.g + 2)
    torch.testing.assert_close(both.A, alone.A + 3)


def test_points_outside_the_grid_are_left_out():
    space = Space((9, 8, 1), torch.eye(4).double())
    p = torch.tensor([[4.0, 4, 0], [20, 4, 0], [8, 7, 0]]).double()
    marks = landmarks(p, p + 1, space, torch.eye(3).double(), 1.0, CPU)
    assert marks.fixed.tolist() == [[4, 4, 0], [8, 7, 0]]
    model = marks.onto(empty(space), None, torch.eye(3, 4).double())
    assert torch.isfinite(model.g).all()
    assert float(model.g[0, :2].abs().sum()) > 0
