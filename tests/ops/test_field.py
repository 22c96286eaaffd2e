import pytest
import torch

from regcli.ops import field as ops
from regcli.ops.backends import reference

SHAPES = [(11, 9, 10), (13, 12, 1), (1, 9, 8), (3, 2, 5)]


def smooth_field(shape, size, seed=0, batch=1):
    """A few broad waves; `size` bounds the displacement, voxels."""
    draw = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij")
    u = torch.zeros(batch, 3, *shape)
    for _ in range(4):
        w = 0.35 * torch.randn(batch, 3, 3, generator=draw)
        phase = 6 * torch.rand(batch, 3, 1, 1, 1, generator=draw)
        u += torch.cos(torch.einsum("bcd,dijk->bcijk", w, torch.stack(axes)) + phase) * size / 4
    return u * torch.tensor([n > 1 for n in shape]).view(1, 3, 1, 1, 1)


def composed(outer, inner):
    outer, inner = outer.double(), inner.double()
    points = reference.positions(torch.eye(3, 4).double(), inner, tuple(inner.shape[2:]))
    return inner + reference.linear(outer, points)


@pytest.mark.parametrize("shape", SHAPES)
def test_compose_equals_the_reference_in_float64(shape):
    draw = torch.Generator().manual_seed(1)
    outer, inner = 3 * torch.randn(2, 2, 3, *shape, generator=draw)
    wanted = composed(outer, inner)
    torch.testing.assert_close(ops.compose(outer, inner).double(), wanted, atol=2e-5, rtol=0)


def test_compose_with_gradient_gives_the_same():
    outer, inner = smooth_field((7, 8, 6), 2.0, 1), smooth_field((7, 8, 6), 2.0, 2)
    plain = ops.compose(outer, inner.clone().requires_grad_())
    torch.testing.assert_close(ops.compose(outer, inner), plain.detach(), atol=1e-5, rtol=0)


def test_compose_takes_fields_that_are_not_contiguous():
    outer, inner = smooth_field((7, 8, 6), 2.0, 1), smooth_field((7, 8, 6), 2.0, 2)
    strided = inner.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(ops.compose(outer, strided), ops.compose(outer, inner))


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_undoes_a_smooth_map(shape):
    u = smooth_field(shape, 1.0, batch=2)
    v, residual = ops.invert(u)
    assert float(residual.norm(dim=1).max()) <= 1.01e-3
    torch.testing.assert_close(residual.double(), composed(u, v), atol=1e-5, rtol=0)


def test_inverse_converges_where_plain_iteration_does_not():
    u = torch.zeros(1, 3, 24, 6, 6)
    u[0, 0] = (1.6 * (torch.arange(24.0) - 12).clamp(-4, 4))[:, None, None]  # slope 2.6
    v, residual = ops.invert(u)
    assert float(residual.abs().max()) < 2e-3
    assert float(v[0, 0, 12 - 5, 3, 3]) == pytest.approx(1.6 / 2.6 * 5, abs=3e-3)


def test_inverse_converges_where_points_leave_the_grid():
    for seed in range(6):
        u = smooth_field((11, 9, 10), 1.5, seed=seed, batch=2)
        v, residual = ops.invert(u)
        points = reference.positions(torch.eye(3, 4), v, (11, 9, 10))
        assert float(points.min()) < 0
        assert float(residual.norm(dim=1).max()) <= 1.01e-3


def test_residual_is_honest_where_the_map_folds():
    u = 3 * torch.randn(1, 3, 8, 7, 9, generator=torch.Generator().manual_seed(3))
    v, residual = ops.invert(u)
    torch.testing.assert_close(residual.double(), composed(u, v), atol=1e-5, rtol=0)
    assert float(residual.norm(dim=1).max()) > 0.1


def test_the_reference_inverse_agrees():
    u = smooth_field((9, 8, 10), 1.0)
    v, residual = ops._invert_reference(u, 1e-3, 40)
    assert float(residual.norm(dim=1).max()) < 1e-3
    torch.testing.assert_close(v, ops.invert(u)[0], atol=5e-3, rtol=0)


def test_a_field_extends_as_its_edges_say():
    draw = torch.Generator().manual_seed(0)
    inner = torch.randn(1, 3, 4, 5, 3, generator=draw)
    out = ops.extend_field(inner, (2, 0, 1), (9, 7, 4))
    assert torch.equal(out[:, :, 2:6, :5, 1:4], inner)
    assert torch.equal(out[:, :, 0, :5, 1:4], inner[:, :, 0])
    assert torch.equal(out[:, :, 8, 6, 3], inner[:, :, 3, 4, 2])


def test_vectors_are_turned_measured_and_capped():
    draw = torch.Generator().manual_seed(0)
    v, matrix = torch.randn(2, 3, 4, 5, 6, generator=draw), torch.randn(3, 3, generator=draw)
    wanted = torch.einsum("cd,bdijk->bcijk", matrix.double(), v.double())
    torch.testing.assert_close(ops.rotate(matrix, v).double(), wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ops.lengths(v), v.norm(dim=1))
    short = ops.capped(v.clone(), 0.7)
    torch.testing.assert_close(ops.lengths(short), v.norm(dim=1).clamp(max=0.7))
    torch.testing.assert_close(short * v.norm(dim=1, keepdim=True).clamp(min=0.7), 0.7 * v)


@pytest.mark.parametrize(("old", "new"), [((9, 8, 7), (17, 15, 13)), ((9, 8, 1), (5, 4, 1))])
def test_resize_field_keeps_an_affine_map(old, new):
    def affine(shape):
        axes = [
            torch.arange(float(n)) * (o - 1) / max(n - 1, 1)
            for n, o in zip(shape, old, strict=True)
        ]
        i, j, k = torch.meshgrid(*axes, indexing="ij")
        u = torch.stack([0.3 * i - 0.1 * j, 0.2 * k + 0.1 * i, 0.1 * j])[None]
        ratio = [(n - 1) / max(o - 1, 1) if o > 1 else 1 for n, o in zip(shape, old, strict=True)]
        return u * torch.tensor(ratio).view(1, 3, 1, 1, 1)

    torch.testing.assert_close(ops.resize_field(affine(old), new), affine(new), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(11, 12, 13), (13, 12, 1), (1, 11, 12)])
def test_exponentiate_of_a_linear_velocity_is_a_power_of_its_matrix(shape):
    solid = torch.tensor([float(n > 1) for n in shape]).double()
    L = 0.1 * torch.tensor([[0.5, -1.0, 0.6], [0.8, -0.4, -0.7], [-0.9, 0.3, 0.6]]).double()
    L = L * solid * solid[:, None]
    middle = (torch.tensor(shape).double() - 1) / 2
    x = reference.positions(torch.eye(3, 4).double(), None, shape) - middle.view(1, 3, 1, 1, 1)
    power = torch.linalg.matrix_power(torch.eye(3).double() + L / 2**7, 2**7)
    v, wanted = (torch.einsum("cd,bdijk->bcijk", m, x) for m in (L, power - torch.eye(3).double()))
    inner = tuple(slice(3, -3) if n > 1 else slice(None) for n in shape)
    found = ops.exponentiate(v.float())
    torch.testing.assert_close(
        found[0, :, *inner].double(), wanted[0, :, *inner], atol=1e-5, rtol=0
    )
    plain = ops.exponentiate(v.requires_grad_()).detach()  # differentiable, in float64
    torch.testing.assert_close(plain[0, :, *inner], wanted[0, :, *inner], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.double(), plain, atol=1e-5, rtol=0)


def test_exponentiate_of_a_constant_is_itself():
    v = torch.full((2, 3, 6, 7, 8), 0.3)
    torch.testing.assert_close(ops.exponentiate(v), v)
