import pytest
import torch

from regcli.ops import match as ops
from regcli.ops.kernels import reference
from regcli.ops.match import Quadratic

SHAPES = [(11, 9, 10), (5, 16, 7), (13, 12, 1), (1, 9, 8), (2, 3, 4)]
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]


def images(shape, channels=1, seed=0):
    """fixed, moved and weight: noise in [0, 1], a third of the weights zero."""
    draw = torch.Generator().manual_seed(seed)
    fixed, moved = torch.rand(2, 1, channels, *shape, generator=draw)
    weight = (1.5 * torch.rand(1, 1, *shape, generator=draw) - 0.5).clamp(min=0)
    return fixed, 0.5 * fixed + 0.5 * moved, weight


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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 6])
def test_squares_equal_their_definition_in_float64(shape, channels):
    fixed, moved, weight = images(shape, channels)
    f, m, w = fixed.double(), moved.double().requires_grad_(), weight.double()
    value = 3.0 / 2 * (w * (m - f).square()).sum()
    (slope,) = torch.autograd.grad(value, m)
    wanted = ops._assemble(value.detach(), m.detach(), slope, 3 * w.expand_as(m))
    same(ops.squares(moved, fixed, weight, 3.0), wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_curvature_of_squares_is_that_of_the_linear_model(shape):
    fixed, moved, weight = (t.double() for t in images(shape, 2))
    D = reference.gradient(moved)[0]  # (C, 3, I, J, K)
    d = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    linear = moved[0] + (D * d).sum(1)
    value = 0.5 * (weight[0] * (linear - fixed[0]).square()).sum()
    (first,) = torch.autograd.grad(value, d, create_graph=True)
    (Av,) = torch.autograd.grad((first * torch.ones_like(d)).sum(), d)
    model = ops.squares(moved.float(), fixed.float(), weight.float(), 1.0)
    torch.testing.assert_close(full(model.A)[0].sum(1).double(), Av, atol=1e-5, rtol=1e-4)
    g_at = first - torch.einsum("cdijk,dijk->cijk", full(model.A)[0].double(), d)
    torch.testing.assert_close(model.g[0].double(), g_at.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_pointwise_is_slope_times_gradient(shape):
    moved, slope, curvature = (t.abs() for t in images(shape))
    value = torch.tensor(2.0)
    wanted = ops._assemble(value, *(t.double() for t in (moved, slope, curvature)))
    same(ops.pointwise(value, moved, slope, curvature), wanted)


def test_loops_take_tensors_that_are_not_contiguous():
    fixed, moved, weight = images((6, 7, 8), 4)
    last = [t.contiguous(memory_format=torch.channels_last_3d) for t in (moved, fixed)]
    same(ops.squares(*last, weight, 1.0), ops.squares(moved, fixed, weight, 1.0))
    turned = [t.permute(0, 1, 4, 3, 2) for t in images((6, 7, 8))]
    plain = [t.contiguous() for t in turned]
    for one, other in zip(
        ops.correlation_derivatives(*turned, 2, 1e-3),
        ops.correlation_derivatives(*plain, 2, 1e-3),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1, 2])
def test_correlation_loops_equal_the_reference_in_float64(shape, radius):
    three = images(shape)
    value, slope, curvature = ops.correlation_derivatives(*three, radius, 1e-2)
    wanted = ops._correlation_reference(*(t.double() for t in three), radius, 1e-2)
    assert float(value) == pytest.approx(float(wanted[0]), rel=1e-5)
    torch.testing.assert_close(slope.double(), wanted[1], atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(curvature.double(), wanted[2], atol=2e-4, rtol=1e-3)


def plain_correlation(fixed, moved, weight, radius, floor):
    """sum_x w (1 - rho), window by window, as the docstring says."""
    total = torch.zeros((), dtype=torch.float64)
    for x in weight[0, 0].nonzero().tolist():
        window = tuple(slice(max(c - radius, 0), c + radius + 1) for c in x)
        f, m, w = (t[0, 0][window].flatten() for t in (fixed, moved, weight))
        n = w.sum()
        if float(n) < 2:
            continue
        f, m = f - (w * f).sum() / n, m - (w * m).sum() / n
        ff, mm = (w * f * f).sum() + n * floor, (w * m * m).sum() + n * floor
        fm = (w * f * m).sum() + n * floor
        total = total + weight[0, 0][tuple(x)] * (1 - fm / (ff * mm).sqrt())
    return total


@pytest.mark.parametrize("shape", [(6, 5, 7), (7, 8, 1), (1, 5, 6)])
def test_slope_of_the_correlation_is_that_of_its_plain_definition(shape):
    fixed, moved, weight = images(shape, seed=3)
    m = moved.double().requires_grad_()
    value = plain_correlation(fixed.double(), m, weight.double(), 2, 1e-3)
    (wanted,) = torch.autograd.grad(value, m)
    energy, slope, _ = ops.correlation_derivatives(fixed, moved, weight, 2, 1e-3)
    assert float(energy) == pytest.approx(float(value.detach()), rel=1e-5)
    torch.testing.assert_close(
        slope.double(), wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0
    )


def test_identical_images_correlate_and_flat_ones_pull_at_nothing():
    fixed, _, weight = images((8, 9, 7))
    energy, slope, curvature = ops.correlation_derivatives(fixed, fixed, weight, 2, 1e-6)
    assert float(energy) < 1e-3 * float(weight.sum())
    assert float(slope.abs().max()) < 1e-3 * float(curvature.max())
    flat = torch.full_like(fixed, 0.7)
    energy, slope, curvature = ops.correlation_derivatives(flat, flat, weight, 2, 1e-3)
    assert torch.isfinite(slope).all()
    assert float(slope.abs().max()) < 1e-2
    assert torch.isfinite(curvature).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bins", [8, 32])
def test_histogram_equals_the_reference(shape, bins):
    fixed, moved, weight = images(shape)
    fixed.view(-1)[:4] = torch.tensor([0.0, 1.0, -0.2, 1.3])  # bin centres, and beyond
    moved.view(-1)[:4] = torch.tensor([1.0, 1.0, 1.3, -0.2])
    weight.view(-1)[:4] = 1.0
    joint = ops.joint_histogram(fixed, moved, weight, bins)
    wanted = ops._histogram_reference(*(t.double() for t in (fixed, moved, weight)), bins)
    assert joint.dtype == torch.float64
    torch.testing.assert_close(joint, wanted, atol=1e-4, rtol=1e-5)
    single = ops._histogram_reference(fixed, moved, weight, bins)
    torch.testing.assert_close(joint, single, atol=1e-4, rtol=1e-5)


def test_histogram_keeps_the_weight_and_the_means():
    fixed, moved, weight = images((9, 8, 7))
    joint = ops.joint_histogram(fixed, moved, weight, 16)
    centres = torch.linspace(0, 1, 16).double()
    assert float(joint.sum()) == pytest.approx(float(weight.sum()), rel=1e-6)
    assert float(joint.sum(1) @ centres) == pytest.approx(float((weight * fixed).sum()), rel=1e-5)
    assert float(joint.sum(0) @ centres) == pytest.approx(float((weight * moved).sum()), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_lookup_equals_the_reference_and_a_bilinear_function(shape):
    fixed, moved, weight = images(shape)
    fixed.view(-1)[:3] = torch.tensor([0.0, 1.0, 1.2])
    table = torch.randn(8, 8, generator=torch.Generator().manual_seed(1)).double()
    wanted = ops._lookup_reference(*(t.double() for t in (fixed, moved, weight)), table)
    found = ops.lookup(fixed, moved, weight, table)
    torch.testing.assert_close(found.double(), wanted, atol=2e-5, rtol=1e-4)
    axis = torch.linspace(0, 1, 8).double()
    table = 2 * axis[:, None] - 3 * axis[None, :] + 4 * axis[:, None] * axis[None, :]
    f = fixed.clamp(0, 1)
    wanted = weight * (2 * f - 3 * moved + 4 * f * moved)
    torch.testing.assert_close(ops.lookup(fixed, moved, weight, table), wanted, atol=2e-5, rtol=0)


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


def test_bright_windows_leave_nothing_behind_in_flat_ones():
    """Running sums of float32 would; with a low floor that drowns the windows beside them."""
    fixed, moved = torch.zeros(1, 1, 30, 28, 26), torch.zeros(1, 1, 30, 28, 26)
    for image, seed in ((fixed, 0), (moved, 1)):
        draw = torch.Generator().manual_seed(seed)
        image[..., 8:20, 8:20, 8:20] = 5 + torch.rand(12, 12, 12, generator=draw)
    weight = torch.ones_like(fixed)
    found = ops.correlation_derivatives(fixed, moved, weight, 2, 1e-6)
    wide = (t.double() for t in (fixed, moved, weight))
    wanted = ops._correlation_reference(*wide, 2, 1e-6)
    assert float(found[0]) == pytest.approx(float(wanted[0]), rel=1e-4)
    for one, other in zip(found[1:], wanted[1:], strict=True):
        tolerance = 1e-4 * float(other[..., 8:20, 8:20, 8:20].abs().max())
        inner = (slice(None), slice(None), *(slice(8, 20),) * 3)
        torch.testing.assert_close(one.double()[inner], other[inner], atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_of_images_and_indices_are_sums(shape):
    image, _, weight = (t.double() for t in images(shape))
    n = weight.sum()
    mean = (weight * image).sum() / n
    variance = (weight * (image - mean).square()).sum() / n
    found = ops.moments(image.float(), weight.float())
    torch.testing.assert_close(torch.stack(found), torch.stack([mean, variance]), rtol=1e-5, atol=0)
    powers = [torch.arange(m).double() ** torch.arange(3).double()[:, None] for m in shape]
    wanted = torch.einsum("cijk,pi,qj,rk->cpqr", image[0], *powers)
    torch.testing.assert_close(ops.index_moments(image[0].float()), wanted, rtol=1e-5, atol=1e-5)


def test_models_add_up():
    one, two = random_model((4, 5, 6), 1), random_model((4, 5, 6), 2)
    g, A = one.g + two.g, one.A + two.A
    both = one.plus(two)
    assert float(both.value) == 2.0
    torch.testing.assert_close(both.g, g)
    torch.testing.assert_close(both.A, A)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gpu_gives_the_same_models(shape):
    fixed, moved, weight = images(shape)
    far = [t.cuda() for t in (fixed, moved, weight)]

    def near(model):
        return Quadratic(model.value.cpu(), model.g.cpu(), model.A.cpu())

    same(near(ops.squares(far[1], far[0], far[2], 2.0)), ops.squares(moved, fixed, weight, 2.0))
    for one, other in zip(
        ops.correlation_derivatives(*far, 2, 1e-2),
        ops.correlation_derivatives(fixed, moved, weight, 2, 1e-2),
        strict=True,
    ):
        torch.testing.assert_close(one.cpu(), other, atol=1e-3, rtol=1e-3)
    joint = ops.joint_histogram(fixed, moved, weight, 16)
    torch.testing.assert_close(ops.joint_histogram(*far, 16).cpu(), joint, atol=1e-4, rtol=1e-4)
    found = ops.lookup(*far, joint.cuda()).cpu()
    torch.testing.assert_close(found, ops.lookup(fixed, moved, weight, joint), atol=1e-4, rtol=1e-4)
    model = random_model(shape)
    u = 0.3 * torch.randn(1, 3, *shape)
    there = Quadratic(model.value, model.g.cuda(), model.A.cuda())
    wanted = ops.additive(model, u)
    scale = max(1.0, float(wanted.A.abs().max()))
    same(near(ops.additive(there, u.cuda())), wanted, tolerance=1e-4 * scale)
