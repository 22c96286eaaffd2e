import pytest
import torch
from torch.nn import functional as F

from regcli.ops.drawing import looked_up, shrunk
from regcli.ops.filter import gaussian, gaussian_taps
from regcli.ops.sample import resize, sample

DRAW = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(21, 17, 25), (9, 33, 5), (2, 3, 2)])
@pytest.mark.parametrize("knots", [(4, 3, 5), (2, 2, 2), (1, 4, 1)])
def test_codes_are_those_of_the_only_sampling(shape, knots):
    labels = torch.randint(1, 200, (1, 1, 19, 23, 16), generator=DRAW, dtype=torch.uint8)
    matrix = torch.eye(3, 4, dtype=torch.float64)
    matrix[:, :3] += 0.1 * torch.randn(3, 3, generator=DRAW, dtype=torch.float64)
    matrix[:, 3] = torch.tensor([0.3, -1.2, 2.1])
    u = torch.randn(1, 3, *knots, generator=DRAW)
    kept = torch.arange(512).to(torch.uint8)
    found = looked_up(labels[0, 0].numpy().astype("uint16"), kept, matrix, u, shape)
    wanted = sample(labels, resize(u, shape), matrix=matrix, interpolation="nearest", border=False)
    assert found.shape == wanted.shape
    # rounding decides between neighbours where a position is half-way
    assert float((found == wanted).float().mean()) > 0.995


def test_what_is_not_kept_is_nothing():
    packed = torch.tensor([3, 256 + 3, 7, 256 + 7]).view(1, 1, 4).numpy().astype("uint16")
    kept = torch.zeros(512, dtype=torch.uint8)
    kept[256 + 3], kept[7] = 5, 9
    still = torch.zeros(1, 3, 2, 2, 2)
    found = looked_up(packed, kept, torch.eye(3, 4, dtype=torch.float64), still, (1, 1, 4))
    assert found.flatten().tolist() == [0, 5, 9, 0]


@pytest.mark.parametrize("shape", [(21, 17, 25), (9, 1, 33), (3, 5, 3)])
@pytest.mark.parametrize("sigmas", [(0.4, 1.1, 2.0), (1.0, 0.0, 0.5)])
def test_an_average_is_a_gaussian_at_every_second_voxel(shape, sigmas):
    indices = torch.randint(0, 9, (1, 1, *shape), generator=DRAW, dtype=torch.uint8)
    means = torch.rand(9, generator=DRAW)
    taps = [gaussian_taps(sigma if n > 1 else 0.0) for sigma, n in zip(sigmas, shape, strict=True)]
    wanted = gaussian(means[indices.int()], sigmas)[..., ::2, ::2, ::2]
    torch.testing.assert_close(shrunk(indices, means, taps), wanted, atol=1e-5, rtol=1e-5)


def test_an_average_repeats_the_edge():
    indices = torch.ones(1, 1, 9, 9, 9, dtype=torch.uint8)
    taps = [gaussian_taps(2.0)] * 3
    found = shrunk(indices, torch.tensor([0.0, 0.7]), taps)
    torch.testing.assert_close(found, torch.full((1, 1, 5, 5, 5), 0.7))
    assert F.avg_pool3d(found, 5).item() == pytest.approx(0.7)
