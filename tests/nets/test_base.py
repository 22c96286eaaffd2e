import pytest
import torch
from torch.nn import functional as F

from regcli.nets.base import ForegroundNorm, Kernel, Pointwise, every_other, shares, upsample

DRAW = torch.Generator().manual_seed(0)


def test_the_norm_is_instance_normalization_where_everything_counts():
    x = 3 + 2 * torch.randn(2, 3, 4, 5, 6, generator=DRAW)
    norm = ForegroundNorm(3)
    found = norm(x, shares(torch.ones(2, 1, 4, 5, 6), 1)[0])
    torch.testing.assert_close(found, F.instance_norm(x), atol=1e-5, rtol=1e-4)


def test_background_does_not_change_the_norm_of_the_foreground():
    x = 3 + torch.randn(1, 3, 6, 5, 4, generator=DRAW)
    wide = F.pad(x, (0, 0, 0, 0, 7, 9), value=-50.0)
    shown = F.pad(torch.ones(1, 1, 6, 5, 4), (0, 0, 0, 0, 7, 9))
    norm = ForegroundNorm(3)
    whole = norm(wide, shares(shown, 1)[0])[:, :, 7:13]
    torch.testing.assert_close(whole, norm(x, shares(shown[:, :, 7:13], 1)[0]), atol=1e-5, rtol=0)


def test_the_gradient_of_the_norm_is_right():
    x = torch.randn(2, 3, 3, 4, 5, generator=DRAW, dtype=torch.float64, requires_grad=True)
    share = shares((torch.rand(2, 1, 3, 4, 5, generator=DRAW) > 0.3).float(), 1)[0].double()
    norm = ForegroundNorm(3).double()
    assert torch.autograd.gradcheck(lambda x: norm(x, share), (x,))


def test_shares_of_an_empty_level_count_all_its_voxels():
    shown = torch.zeros(1, 1, 5, 5, 5)
    shown[..., 1, 1, 1] = 1
    fine, coarse = shares(shown, 2)
    assert float(fine[..., 1, 1, 1]) == 1
    torch.testing.assert_close(coarse, torch.full((1, 1, 3, 3, 3), 1 / 27))


def test_upsampling_keeps_voxels_where_they_are_and_is_linear_between():
    ramp = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 1, 5, 3, 1).contiguous()
    up = upsample(ramp)
    assert up.shape == (1, 1, 9, 5, 1)
    torch.testing.assert_close(up[0, 0, :, 0, 0], torch.arange(9.0) / 2)
    torch.testing.assert_close(every_other(up), ramp)


def test_a_pointwise_product_is_a_convolution_of_one_voxel():
    x = torch.randn(2, 3, 4, 5, 6, generator=DRAW)
    layer = Pointwise(3, 7)
    layer.bias.data.normal_(generator=DRAW)
    wanted = F.conv3d(x, layer.weights.view(7, 3, 1, 1, 1), layer.bias[:, 0])
    torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(17, 9, 9), (8, 9, 5), (3, 5, 1), (2, 3, 4), (1, 6, 7)])
def test_small_volumes_are_convolved_like_large_ones(shape, stride):
    """Small ones go through oneDNN in two halves."""
    torch.manual_seed(0)
    layer = Kernel(3, 4, stride)
    x = torch.randn(1, 3, *shape)
    found, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
    padded = F.pad(wanted, (1,) * 6, "replicate")
    ours, plain = layer(found), F.conv3d(padded, layer.weight, layer.bias, stride)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    v = torch.randn_like(plain)
    gradients = []
    for out, image in ((ours, found), (plain, wanted)):
        layer.zero_grad()
        (out * v).sum().backward()
        gradients.append([image.grad, layer.weight.grad.clone(), layer.bias.grad.clone()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
