import pytest
import torch
from volumes import SHAPES, noise

from regcli.ops import histogram as ops


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bins", [8, 32])
def test_histogram_equals_the_reference(shape, bins):
    fixed, moved, weight = noise(shape)
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
    fixed, moved, weight = noise((9, 8, 7))
    joint = ops.joint_histogram(fixed, moved, weight, 16)
    centres = torch.linspace(0, 1, 16).double()
    assert float(joint.sum()) == pytest.approx(float(weight.sum()), rel=1e-6)
    assert float(joint.sum(1) @ centres) == pytest.approx(float((weight * fixed).sum()), rel=1e-5)
    assert float(joint.sum(0) @ centres) == pytest.approx(float((weight * moved).sum()), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_lookup_equals_the_reference_and_a_bilinear_function(shape):
    fixed, moved, weight = noise(shape)
    fixed.view(-1)[:3] = torch.tensor([0.0, 1.0, 1.2])
    tables = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    wanted = ops._lookup_reference(*(t.double() for t in (fixed, moved, weight)), tables)
    found = ops.lookup(fixed, moved, weight, tables)
    torch.testing.assert_close(found.double(), wanted, atol=2e-5, rtol=1e-4)
    axis = torch.linspace(0, 1, 8).double()
    table = 2 * axis[:, None] - 3 * axis[None, :] + 4 * axis[:, None] * axis[None, :]
    f = fixed.clamp(0, 1)
    wanted = weight * (2 * f - 3 * moved + 4 * f * moved)
    found = ops.lookup(fixed, moved, weight, table[None])
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_of_images_and_indices_are_sums(shape):
    image, _, weight = (t.double() for t in noise(shape))
    n = weight.sum()
    mean = (weight * image).sum() / n
    variance = (weight * (image - mean).square()).sum() / n
    found = ops.moments(image.float(), weight.float())
    torch.testing.assert_close(torch.stack(found), torch.stack([mean, variance]), rtol=1e-5, atol=0)
    powers = [torch.arange(m).double() ** torch.arange(3).double()[:, None] for m in shape]
    wanted = torch.einsum("cijk,pi,qj,rk->cpqr", image[0], *powers)
    torch.testing.assert_close(ops.index_moments(image[0].float()), wanted, rtol=1e-5, atol=1e-5)


def test_moments_survive_a_large_offset():
    """A float32 product in the sum of squares would be 2 % off here."""
    image, _, weight = noise((9, 10, 11))
    image = (3000 + image) / 3001
    mean = (weight.double() * image).sum() / weight.double().sum()
    wanted = (weight.double() * (image.double() - mean).square()).sum() / weight.double().sum()
    assert float(ops.moments(image, weight)[1]) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gpu_gives_the_same_numbers(shape):
    fixed, moved, weight = noise(shape)
    far = [t.cuda() for t in (fixed, moved, weight)]
    joint = ops.joint_histogram(fixed, moved, weight, 16)
    torch.testing.assert_close(ops.joint_histogram(*far, 16).cpu(), joint, atol=1e-4, rtol=1e-4)
    found = ops.lookup(*far, joint.cuda()[None]).cpu()
    wanted = ops.lookup(fixed, moved, weight, joint[None])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
