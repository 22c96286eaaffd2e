"""Displacements and images that are no numbers may give nonsense, but never a crash."""

import pytest
import torch

from regcli.ops import field, histogram, jacobian, match, sample
from regcli.ops.correlation import correlation_derivatives
from regcli.ops.mind import self_similarity

SHAPE = (16, 17, 15)
BAD = [float("nan"), float("inf"), -float("inf"), 1e20, -1e20]


@pytest.fixture(params=BAD)
def bad(request):
    """A field with some voxels that are no numbers, and an image with one."""
    draw = torch.Generator().manual_seed(0)
    u, image = torch.randn(1, 3, *SHAPE, generator=draw), torch.rand(1, 1, *SHAPE, generator=draw)
    u[..., 2, 3, :], u[:, 1, 5] = request.param, request.param
    image[..., 4, 4, 4] = request.param
    return u, image


def good():
    return torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "label"])
@pytest.mark.parametrize("border", [True, False])
def test_sampling_survives(bad, interpolation, border):
    u, _ = bad
    turn = torch.eye(3, 4, dtype=torch.float64)
    turn[0, 1] = 0.1
    for matrix in (None, turn):
        out = sample.sample(good(), u, matrix=matrix, interpolation=interpolation, border=border)
        assert out.shape == (1, 1, *SHAPE)


def test_fields_survive(bad):
    u, _ = bad
    eye = torch.eye(3, 4, dtype=torch.float64)
    sample.sample_covered(good(), u, eye, SHAPE)
    sample.coverage(SHAPE, u, eye, SHAPE)
    sample.scatter(good(), u)
    field.compose(u, u)
    field.compose(torch.zeros_like(u), u)
    field.exponentiate(u)
    field.invert(u)


def test_sums_survive(bad):
    u, image = bad
    weight = torch.ones(1, 1, *SHAPE)
    match.squares(match.Moved(good(), u), good(), weight, 1.0)
    match.exact_squares(good(), good(), u, weight, 1.0)
    histogram.joint_histogram(good(), image, weight, 16)
    histogram.lookup(good(), image, weight, torch.rand(2, 16, 16))
    correlation_derivatives(good(), image, weight, 2, 1e-3)
    self_similarity(image, 2, 0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_counts_as_folded(value):
    u = torch.zeros(1, 3, *SHAPE)
    u[:, :, 3, 4, 5] = value
    least, volume = jacobian.digital_determinants(u)
    assert float(least[0, 3, 4, 5]) < 0
    assert float(volume[0, 3, 4, 5]) > 0
