import numpy as np
import pytest
import torch

from regcli.ops.components import moments, principal_components

SHAPE = (19, 5, 6)


def noise(channels, seed=0):
    """Bytes whose channels vary by different amounts and together, and a mask."""
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.rand(channels, channels, generator=draw) * torch.arange(1, channels + 1)
    values = (mixed @ torch.rand(channels, 570, generator=draw)).reshape(-1, *SHAPE)
    inside = torch.rand(SHAPE, generator=draw) > 0.4
    return (255 * values / values.max()).to(torch.uint8), inside


def test_components_are_those_of_a_singular_value_decomposition():
    parts = [noise(6), noise(6, seed=1)]
    sums = [moments(*part) for part in parts]
    found = principal_components(sums[0] + sums[1])
    x = np.concatenate([f[:, m].T.numpy().astype(float) for f, m in parts])
    centred = x - x.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    np.testing.assert_allclose(found.axes, (signs * axes)[:3], atol=1e-9)
    own = parts[1][0][:, parts[1][1]].T.numpy().astype(float)
    variances = (own @ found.axes.numpy().T).var(axis=0)
    np.testing.assert_allclose(found.explained(sums[1]), variances / own.var(axis=0).sum())
    whole = found.of(parts[0][0])
    assert whole.shape == (3, *SHAPE)
    wanted = (parts[0][0].numpy().reshape(6, -1).T - x.mean(axis=0)) @ found.axes.numpy().T
    np.testing.assert_allclose(whole.reshape(3, -1).T, wanted, atol=1e-3)


def test_shares_fall_and_the_largest_loading_is_positive():
    features, inside = noise(8, seed=3)
    sums = moments(features, inside)
    found = principal_components(sums)
    shares = found.explained(sums)
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1
    assert all(float(axis[axis.abs().argmax()]) > 0 for axis in found.axes)


def test_two_channels_have_two_components():
    sums = moments(*noise(2))
    found = principal_components(sums)
    assert found.explained(sums)[2] == 0
    assert float(found.of(noise(2)[0])[2].abs().max()) == 0
    assert sum(found.explained(sums)) == pytest.approx(1)


def test_features_that_do_not_vary_explain_nothing():
    same = torch.full((4, *SHAPE), 7, dtype=torch.uint8)
    sums = moments(same, torch.ones(SHAPE, dtype=torch.bool))
    found = principal_components(sums)
    assert found.explained(sums) == [0, 0, 0]
    assert float(found.of(same).abs().max()) < 1e-5
