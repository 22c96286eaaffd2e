import pytest
import torch
from volumes import SHAPES, noise

from regcli.ops import match as ops
from regcli.ops.backends import reference
from regcli.ops.match import Moved, Quadratic

MANY = 3  # channels; the loops are compiled for each number, and this one is others', too
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]


def random_model(shape, seed=0):
    """g and a positive semi-definite A of rank two."""
    draw = torch.Generator().manual_seed(seed)
    D = torch.randn(2, 3, *shape, generator=draw)
    A = torch.stack([(D[:, p] * D[:, q]).sum(0) for p, q in PAIRS])[None]
    return Quadratic(torch.tensor(1.0).double(), torch.randn(1, 3, *shape, generator=draw), A)


def full(A):
    """(1, 6, ...) packed to (1, 3, 3, ...)."""
    return A[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(1, (3, 3))


def same(model, wanted, tolerance=1e-5):
    assert float(model.value) == pytest.approx(float(wanted.value), rel=1e-5)
    torch.testing.assert_close(model.g.double(), wanted.g.double(), atol=tolerance, rtol=1e-4)
    torch.testing.assert_close(model.A.double(), wanted.A.double(), atol=tolerance, rtol=1e-4)


def displacement(shape, size=1.5):
    """Noise that leaves the volume at places, none along axes of one voxel."""
    solid = torch.tensor([float(n > 1) for n in shape]).view(1, 3, 1, 1, 1)
    draw = torch.Generator().manual_seed(9)
    return solid * size * torch.randn(1, 3, *shape, generator=draw)


def squares_in_float64(moved, fixed, weight, scale):
    """By autograd, from the definition."""
    f, m, w = fixed.double(), moved.double().detach().requires_grad_(), weight.double()
    value = scale / 2 * (w * (m - f).square()).sum()
    (slope,) = torch.autograd.grad(value, m)
    m, value = m.detach(), value.detach()
    return ops._assemble(value, reference.gradient(m), slope, scale * w.expand_as(m), None)


@pytest.mark.parametrize("shape", [*SHAPES, (4, 40, 3)])
@pytest.mark.parametrize("channels", [1, MANY])
def test_squares_equal_their_definition_in_float64(shape, channels):
    fixed, moved, weight = noise(shape, channels)
    wanted = squares_in_float64(moved, fixed, weight, 3.0)
    same(ops.squares(Moved(moved), fixed, weight, 3.0), wanted)


@pytest.mark.parametrize("shape", [*SHAPES, (4, 40, 3)])
@pytest.mark.parametrize("channels", [1, MANY])
def test_squares_move_features_without_storing_them(shape, channels):
    fixed, moving, weight = noise(shape, channels)
    u = displacement(shape)
    points = reference.positions(torch.eye(3, 4).double(), u.double(), shape)
    moved = reference.linear(moving.double(), points)
    wanted = squares_in_float64(moved, fixed, weight, 2.0)
    same(ops.squares(Moved(moving, u), fixed, weight, 2.0), wanted)


def test_squares_read_features_of_bytes():
    fixed, moving, weight = noise((6, 7, 8), MANY)
    u = displacement((6, 7, 8))
    coarse = [(255 * t).round().to(torch.uint8) for t in (fixed, moving)]
    found = ops.squares(Moved(coarse[1], u), coarse[0], weight, 1 / 255**2)
    plain = [t.float() for t in coarse]
    wanted = ops.squares(Moved(plain[1], u), plain[0], weight, 1 / 255**2)
    same(found, wanted)


def test_squares_move_features_from_another_grid():
    fixed, _, weight = noise((6, 7, 8), MANY)
    moving, _, _ = noise((9, 5, 6), MANY)
    matrix = torch.tensor([[1.2, 0.1, 0, 0.3], [0, 0.7, 0, -0.2], [0.1, 0, 0.8, 0.1]]).double()
    for u in (None, displacement((6, 7, 8), 0.5)):
        seen = Moved(moving, u, matrix, (6, 7, 8))
        points = reference.positions(matrix.float(), u, (6, 7, 8))
        wanted = squares_in_float64(reference.linear(moving, points), fixed, weight, 1.0)
        same(ops.squares(seen, fixed, weight, 1.0), wanted, tolerance=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, MANY])
def test_exact_squares_have_the_gradient_of_autograd(shape, channels):
    fixed, moving, weight = noise(shape, channels)
    u = displacement(shape).double().requires_grad_()
    points = reference.positions(torch.eye(3, 4).double(), u, shape)
    r = reference.linear(moving.double(), points) - fixed.double()
    value = 2.0 / 2 * (weight.double() * r.square()).sum()
    (g,) = torch.autograd.grad(value, u)
    found = ops.exact_squares(moving, fixed, u.detach().float(), weight, 2.0)
    assert float(found.value) == pytest.approx(float(value.detach()), rel=1e-5)
    torch.testing.assert_close(found.g.double(), g, atol=1e-4, rtol=1e-4)
    wide = (t.double() for t in (moving, fixed, u.detach(), weight))
    same(found, ops._exact_reference(*wide, 2.0), tolerance=1e-4)


def test_exact_squares_do_not_pull_where_the_edge_is_repeated():
    fixed, moving, weight = noise((6, 7, 8), MANY)
    model = ops.exact_squares(moving, fixed, torch.full((1, 3, 6, 7, 8), 20.0), weight + 1, 1.0)
    assert float(model.value) > 0
    assert float(model.g.abs().max()) == 0
    assert float(model.A.abs().max()) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_curvature_of_squares_is_that_of_the_linear_model(shape):
    fixed, moved, weight = (t.double() for t in noise(shape, MANY))
    D = reference.gradient(moved)[0]  # (C, 3, I, J, K)
    d = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    linear = moved[0] + (D * d).sum(1)
    value = 0.5 * (weight[0] * (linear - fixed[0]).square()).sum()
    (first,) = torch.autograd.grad(value, d, create_graph=True)
    (Av,) = torch.autograd.grad((first * torch.ones_like(d)).sum(), d)
    model = ops.squares(Moved(moved.float()), fixed.float(), weight.float(), 1.0)
    torch.testing.assert_close(full(model.A)[0].sum(1).double(), Av, atol=1e-5, rtol=1e-4)
    g_at = first - torch.einsum("cdijk,dijk->cijk", full(model.A)[0].double(), d)
    torch.testing.assert_close(model.g[0].double(), g_at.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_pointwise_is_slope_times_gradient(shape):
    moved, slope, curvature = (t.abs() for t in noise(shape))
    value = torch.tensor(2.0)
    m, s, h = (t.double() for t in (moved, slope, curvature))
    wanted = ops._assemble(value, reference.gradient(m), s, h, None)
    same(ops.pointwise(value, moved, slope, curvature), wanted)


def test_loops_take_tensors_that_are_not_contiguous():
    fixed, moved, weight = noise((6, 7, 8), MANY)
    last = [t.contiguous(memory_format=torch.channels_last_3d) for t in (moved, fixed)]
    one = ops.squares(Moved(last[0]), last[1], weight, 1.0)
    same(one, ops.squares(Moved(moved), fixed, weight, 1.0))


def test_models_are_added_in_the_memory_of_the_first():
    fixed, moved, weight = noise((6, 7, 8), MANY)
    u, slope = displacement((6, 7, 8)), fixed[:, :1]
    one = ops.squares(Moved(moved, u), fixed, weight, 1.0)
    two = ops.pointwise(torch.tensor(2.0), moved[:, :1], slope, slope.abs())
    wanted = Quadratic(one.value + two.value, one.g + two.g, one.A + two.A)
    both = ops.pointwise(torch.tensor(2.0), moved[:, :1], slope, slope.abs(), one)
    assert both.g.data_ptr() == one.g.data_ptr()
    same(both, wanted)
    first = Quadratic(two.value, two.g.clone(), two.A.clone())
    same(ops.squares(Moved(moved, u), fixed, weight, 1.0, first), wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_additive_solves_with_the_jacobian(shape):
    model = random_model(shape)
    u = 0.2 * torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(5))
    J = reference.jacobian(u.double())[0].movedim((0, 1), (-2, -1))
    B = torch.linalg.inv(J)
    assert float(torch.linalg.det(J).min()) > 0.1
    g, A = ops.additive(model, u).g[0].double(), full(ops.additive(model, u).A)[0].double()
    before = model.g[0].double().movedim(0, -1)[..., None]
    torch.testing.assert_close(g.movedim(0, -1), (B.mT @ before)[..., 0], atol=1e-3, rtol=1e-3)
    wanted = B.mT @ full(model.A)[0].double().movedim((0, 1), (-2, -1)) @ B
    torch.testing.assert_close(A.movedim((0, 1), (-2, -1)), wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [0.0, 0.3, 2.0])
def test_additive_equals_the_reference_even_at_folds(shape, size):
    model = random_model(shape)
    u = size * torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(6))
    wide = Quadratic(model.value, model.g.double(), model.A.double())
    wanted = ops._additive_reference(wide, u.double())
    scale = max(1.0, float(wanted.A.abs().max()))
    same(ops.additive(model, u), wanted, tolerance=1e-5 * scale)


def test_additive_stays_finite_where_the_map_is_singular():
    model = random_model((6, 5, 4))
    i = torch.arange(6.0)[:, None, None].expand(6, 5, 4)
    u = torch.stack([-i, torch.zeros_like(i), torch.zeros_like(i)])[None]  # all planes onto one
    for out in (ops.additive(model, u), ops._additive_reference(model, u)):
        assert torch.isfinite(out.g).all()
        assert torch.isfinite(out.A).all()


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gpu_gives_the_same_models(shape):
    fixed, moved, weight = noise(shape)
    far = [t.cuda() for t in (fixed, moved, weight)]

    def near(model):
        return Quadratic(model.value.cpu(), model.g.cpu(), model.A.cpu())

    one = ops.squares(Moved(far[1]), far[0], far[2], 2.0)
    same(near(one), ops.squares(Moved(moved), fixed, weight, 2.0))
    model = random_model(shape)
    u = 0.3 * torch.randn(1, 3, *shape)
    there = Quadratic(model.value, model.g.cuda(), model.A.cuda())
    wanted = ops.additive(model, u)
    scale = max(1.0, float(wanted.A.abs().max()))
    same(near(ops.additive(there, u.cuda())), wanted, tolerance=1e-4 * scale)
