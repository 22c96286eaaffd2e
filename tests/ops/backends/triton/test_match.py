import os

import pytest
import torch
from volumes import windows_one_by_one

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":  # Triton's interpreter takes CPU tensors; it is chosen when Triton is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton")

from regcli.ops.backends import reference  # noqa: E402
from regcli.ops.backends.triton import correlation, match  # noqa: E402

CASES = [  # shape, channels, size of the field: the interpreter is slow
    ((5, 6, 7), 12, 0.7),
    ((5, 6, 7), 1, 20.0),
    ((4, 9, 1), 3, 0.6),
    ((1, 7, 5), 20, 0.7),
    ((6, 1, 8), 1, 0.7),
    ((1, 1, 6), 2, 20.0),
    ((7, 8, 9), 2, 0.7),
]
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
SCALE = 3.0


def images(shape, channels=1, seed=0):
    """fixed, moving and weight: noise in [0, 1], a third of the weights zero."""
    draw = torch.Generator().manual_seed(seed)
    fixed, moving = torch.rand(2, 1, channels, *shape, generator=draw)
    weight = (1.5 * torch.rand(1, 1, *shape, generator=draw) - 0.5).clamp(min=0)
    return fixed, 0.5 * fixed + 0.5 * moving, weight


def field_of(shape, size):
    return size * torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(1))


def close(found, wanted, tolerance=1e-5):
    assert found.dtype == torch.float32
    scale = tolerance * max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(found.cpu().double(), wanted, atol=scale, rtol=0)


def sampled(moving, u):
    matrix = torch.eye(3, 4, dtype=torch.float64)
    return reference.linear(moving.double(), reference.positions(matrix, u, u.shape[2:]))


def by_definition(m, f, D, weight):
    """Value, force and Hessian in float64; D (1, C, 3, I, J, K)."""
    r, w = m - f.double(), SCALE * weight.double()
    g = (w * r)[:, :, None].mul(D).sum(1)
    A = torch.stack([(w * D[:, :, p] * D[:, :, q]).sum(1) for p, q in PAIRS], dim=1)
    return 0.5 * (w * r.square()).sum(), g, A


def same(found, wanted):
    assert found[0].dtype == torch.float64
    assert float(found[0]) == pytest.approx(float(wanted[0]), rel=1e-5)
    close(found[1], wanted[1])
    close(found[2], wanted[2])


def models(body, fixed, moving, weight, u):
    return body(*(t.to(DEVICE) for t in (moving, fixed, u, weight)), SCALE)


@pytest.mark.parametrize(("shape", "channels", "size"), [*CASES, ((3, 4, 5), 2, 0.0)])
def test_central_equals_its_definition(shape, channels, size):
    fixed, moving, weight = images(shape, channels)
    u = field_of(shape, size)
    m = sampled(moving, u.double())
    wanted = by_definition(m, fixed, reference.gradient(m), weight)
    same(models(match.central, fixed, moving, weight, u), wanted)


def test_central_reads_features_of_bytes():
    fixed, moving, weight = images((5, 6, 7), 6)
    fixed, moving = ((255 * t).round().to(torch.uint8) for t in (fixed, moving))
    u = field_of((5, 6, 7), 0.7)
    m = sampled(moving, u.double())
    wanted = by_definition(m, fixed, reference.gradient(m), weight)
    same(models(match.central, fixed, moving, weight, u), wanted)


@pytest.mark.parametrize(("shape", "channels", "size"), CASES)
def test_exact_equals_autograd(shape, channels, size):
    fixed, moving, weight = images(shape, channels)
    u = field_of(shape, size)
    at = u.double().requires_grad_()
    m = sampled(moving, at)
    D = [torch.autograd.grad(m[0, c].sum(), at, retain_graph=True)[0] for c in range(channels)]
    wanted = by_definition(m.detach(), fixed, torch.stack(D, dim=1), weight)
    (force,) = torch.autograd.grad(0.5 * SCALE * (weight * (m - fixed).square()).sum(), at)
    torch.testing.assert_close(wanted[1], force)
    same(models(match.exact, fixed, moving, weight, u), wanted)


def test_exact_has_no_slope_where_the_edge_begins_to_be_repeated():
    """As torch has it, and the processor's loop."""
    inner = torch.tensor([0.0, 1, 1, 1, 0]).view(1, 1, 5, 1, 1)
    ramp = torch.arange(5.0)[None, None, :, None, None].expand(1, 1, 5, 4, 3)
    fixed, weight = torch.zeros(1, 1, 5, 4, 3), torch.ones(1, 1, 5, 4, 3)
    _, g, A = models(match.exact, fixed, ramp, weight, torch.zeros(1, 3, 5, 4, 3))
    close(g[:, :1], SCALE * (inner * ramp).double())
    close(A[:, :1], SCALE * (inner * torch.ones_like(ramp)).double())
    assert float(A[:, 1:].abs().max()) == 0


@pytest.mark.parametrize("body", [match.central, match.exact])
@pytest.mark.parametrize(("dtype", "last"), [(torch.float16, True), (torch.bfloat16, False)])
def test_half_features_are_summed_in_float32(body, dtype, last):
    fixed, moving, weight = images((5, 6, 7), 6)
    u = field_of((5, 6, 7), 0.7)
    fixed, moving = fixed.to(dtype), moving.to(dtype)
    wanted = models(body, fixed.float(), moving.float(), weight, u)
    if last:
        fixed, moving = (
            t.contiguous(memory_format=torch.channels_last_3d) for t in (fixed, moving)
        )
    found = models(body, fixed, moving, weight, u)
    same(found, [t.cpu().double() for t in wanted])


def correlated(fixed, moved, weight, radius, floor):
    tensors = [t.to(DEVICE) for t in (fixed, moved, weight)]
    return correlation.derivatives(*tensors, radius, floor)


@pytest.mark.parametrize(
    ("shape", "radius", "walk"),
    [((5, 6, 7), 1, 3), ((4, 9, 1), 2, 32), ((6, 1, 8), 1, 3)],
)
def test_correlation_equals_its_definition(shape, radius, walk, monkeypatch):
    monkeypatch.setattr(correlation, "_WALK", walk)
    fixed, moved, weight = images(shape)
    m = moved.double().requires_grad_()
    value, curvature = windows_one_by_one(fixed.double(), m, weight.double(), radius, 1e-2)
    (slope,) = torch.autograd.grad(value, m)
    on_device = torch.tensor(1e-2, dtype=torch.float64, device=DEVICE)
    found = correlated(fixed, moved, weight, radius, 1e-2 if radius == 1 else on_device)
    assert found[0].dtype == torch.float64
    assert float(found[0]) == pytest.approx(float(value.detach()), rel=1e-5)
    close(found[1], slope)
    close(found[2], curvature)


def test_flat_images_pull_at_nothing_even_without_a_floor():
    flat, weight = torch.full((1, 1, 1, 4, 6), 0.7), torch.ones(1, 1, 1, 4, 6)
    weight[..., 3:] = 0
    value, slope, curvature = correlated(flat, flat, weight, 1, 1e-3)
    assert float(value) < 1e-3
    assert float(slope.abs().max()) < 1e-2
    assert torch.isfinite(curvature).all()
    _, slope, curvature = correlated(torch.ones_like(flat), images((1, 4, 6))[0], weight, 1, 0.0)
    for t in (slope, curvature):
        assert float(t.abs().max()) == 0


def test_bright_windows_leave_nothing_behind_in_flat_ones():
    """Running sums of float32 would; with a low floor that drowns the windows beside them."""
    shape, inner = (9, 9, 5), (..., slice(1, 4), slice(1, 4), slice(1, 4))
    fixed, moved = torch.zeros(1, 1, *shape), torch.zeros(1, 1, *shape)
    for image, seed in ((fixed, 0), (moved, 1)):
        noise = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(seed))
        image[inner] = 5 + noise
    weight = torch.ones_like(fixed)
    value, slope, curvature = correlated(fixed, moved, weight, 1, 1e-6)
    m = moved.double().requires_grad_()
    wanted, bend = windows_one_by_one(fixed.double(), m, weight.double(), 1, 1e-6)
    (pull,) = torch.autograd.grad(wanted, m)
    assert float(value) == pytest.approx(float(wanted.detach()), rel=1e-4)
    for one, other in ((slope, pull), (curvature, bend)):
        tolerance = 1e-4 * float(other[inner].abs().max())
        torch.testing.assert_close(one.cpu().double()[inner], other[inner], atol=tolerance, rtol=0)
    for flat in (
        (..., slice(6, None), slice(None), slice(None)),
        (..., slice(6, None), slice(None)),
    ):
        torch.testing.assert_close(curvature.cpu().double()[flat], bend[flat], atol=0, rtol=1e-4)
