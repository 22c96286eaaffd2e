import numpy as np
import pytest
import torch

from regcli.ops.directions import rounding_bound, singular_values

SLOPES = np.array([[0.3, -0.2, 0.5], [-0.1, 0.4, 0.2], [0.2, 0.2, -0.3], [0.0, 0.1, 0.6]])  # per mm


def linear(space, slopes):
    """Features (C, I, J, K) that change by `slopes`, (C, 3), along the axes of the world."""
    index = torch.cartesian_prod(*(torch.arange(n) for n in space.shape))
    values = space.voxel_to_world(index) @ torch.as_tensor(slopes).T
    return values.T.reshape(-1, *space.shape)


@pytest.mark.parametrize("directions", [0, 1, 2, 3])
def test_features_that_change_along_n_directions_have_n_singular_values(space, directions):
    # products of tall and wide factors: a matrix of that rank, none of its rows along an axis
    slopes = SLOPES[:, :directions] @ SLOPES[:directions] if directions else 0 * SLOPES
    wanted = np.linalg.svd(slopes, compute_uv=False)
    assert (wanted > 1e-3).sum() == directions
    found = singular_values(linear(space, slopes), space.affine[:3, :3])
    assert found.shape == (3, *space.shape)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(
        found.flatten(1).T, np.broadcast_to(wanted, (found[0].numel(), 3)), atol=2e-6
    )


def test_one_feature_alone_never_has_more_than_one_direction(space):
    noise = torch.rand(1, *space.shape, generator=torch.Generator().manual_seed(0))
    found = singular_values(noise, space.affine[:3, :3])
    assert float(found[0].min()) > 1e-4
    assert float(found[1:].max()) < 1e-6


def test_bytes_of_noise_on_a_sheared_grid_give_what_numpy_says():
    shape, steps = (21, 6, 7), np.array([[2.0, 0.3, 0.1], [-0.4, 1.5, 0.2], [0.0, 0.5, -2.5]])
    draw = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 256, (5, *shape), dtype=torch.uint8, generator=draw)
    g = np.stack([np.gradient(channel.astype(float)) for channel in noise.numpy()])  # (C, 3, ...)
    J = np.moveaxis(g, (0, 1), (-2, -1)) @ np.linalg.inv(steps)
    wanted = np.linalg.svd(J, compute_uv=False)
    found = singular_values(noise, torch.from_numpy(steps))
    np.testing.assert_allclose(found.permute(1, 2, 3, 0), wanted, rtol=1e-5, atol=1e-5)


def test_rounding_alone_stays_below_its_bound(space):
    # the worst that rounding can do: neighbours but one are half a unit off, to opposite sides
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in space.shape), indexing="ij"))
    off = 0.5 * (1 - 2 * ((index.sum(dim=0) // 2) % 2)).double()
    steps = space.affine[:3, :3]
    found = singular_values(off.expand(4, *space.shape), steps)[0, 2:-2, 2:-2, 2:-2]
    bound = rounding_bound(4, steps, 1.0)
    assert 0.5 * bound < float(found.max()) <= bound * (1 + 1e-6)
