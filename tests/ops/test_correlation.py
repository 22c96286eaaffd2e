import pytest
import torch
from volumes import SHAPES, noise, windows_one_by_one

from regcli.ops import correlation as ops


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1, 2])
def test_correlation_loops_equal_the_reference_in_float64(shape, radius):
    three = noise(shape)
    value, slope, curvature = ops.correlation_derivatives(*three, radius, 1e-2)
    wanted = ops._correlation_reference(*(t.double() for t in three), radius, 1e-2)
    assert float(value) == pytest.approx(float(wanted[0]), rel=1e-5)
    torch.testing.assert_close(slope.double(), wanted[1], atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(curvature.double(), wanted[2], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", [(6, 5, 7), (7, 8, 1), (1, 5, 6)])
def test_slope_of_the_correlation_is_that_of_its_plain_definition(shape):
    fixed, moved, weight = noise(shape, seed=3)
    m = moved.double().requires_grad_()
    value = windows_one_by_one(fixed.double(), m, weight.double(), 2, 1e-3)[0]
    (wanted,) = torch.autograd.grad(value, m)
    energy, slope, _ = ops.correlation_derivatives(fixed, moved, weight, 2, 1e-3)
    assert float(energy) == pytest.approx(float(value.detach()), rel=1e-5)
    torch.testing.assert_close(
        slope.double(), wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0
    )


def test_identical_images_correlate_and_flat_ones_pull_at_nothing():
    fixed, _, weight = noise((8, 9, 7))
    energy, slope, curvature = ops.correlation_derivatives(fixed, fixed, weight, 2, 1e-6)
    assert float(energy) < 1e-3 * float(weight.sum())
    assert float(slope.abs().max()) < 1e-3 * float(curvature.max())
    flat = torch.full_like(fixed, 0.7)
    energy, slope, curvature = ops.correlation_derivatives(flat, flat, weight, 2, 1e-3)
    assert torch.isfinite(slope).all()
    assert float(slope.abs().max()) < 1e-2
    assert torch.isfinite(curvature).all()


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


def test_tensors_need_not_be_contiguous():
    turned = [t.permute(0, 1, 4, 3, 2) for t in noise((6, 7, 8))]
    plain = [t.contiguous() for t in turned]
    for one, other in zip(
        ops.correlation_derivatives(*turned, 2, 1e-3),
        ops.correlation_derivatives(*plain, 2, 1e-3),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gpu_gives_the_same_numbers(shape):
    fixed, moved, weight = noise(shape)
    far = [t.cuda() for t in (fixed, moved, weight)]
    for one, other in zip(
        ops.correlation_derivatives(*far, 2, 1e-2),
        ops.correlation_derivatives(fixed, moved, weight, 2, 1e-2),
        strict=True,
    ):
        torch.testing.assert_close(one.cpu(), other, atol=1e-3, rtol=1e-3)
