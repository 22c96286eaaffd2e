"""FeatureNet: what turns one image into features, and the parts that such networks share.

All grids are corner-aligned, as everywhere in regcli: a level of factor f has a voxel at every f-th
voxel of the image's grid, exactly. Strided convolutions keep that (their kernels are odd, and
centred on the voxel that stays), and so does linear interpolation; pooling of pairs would not.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SLOPE = 0.01
_EPS = 1e-5


class FeatureNet(nn.Module, ABC):
    """A network that sees each image alone and describes its voxels at several levels.

    Attributes:
        channels: C, of every level.
        multiple: Grids have a multiple of this many voxels, and one more, along each axis.
    """

    channels: int
    multiple: int

    @abstractmethod
    def forward(self, image: Tensor, shown: Tensor) -> list[Tensor]:
        """Scores of the image's voxels, without a final activation.

        Args:
            image: (B, 1, I, J, K), foreground in [0, 1]; sizes as `fitting` gives them.
            shown: (B, 1, I, J, K), 1 where the image shows something, else 0: statistics are
                taken there, so that they do not depend on how much background there is.

        Returns:
            (B, C, i, j, k) of levels 4, 2 and 1: every 4th, every 2nd and every voxel.
        """


def fitting(n: int, multiple: int) -> int:
    """The least size of an axis, at least n, that a network takes: 1, or a multiple plus one."""
    return 1 + -(-(n - 1) // multiple) * multiple


def every_other(volume: Tensor) -> Tensor:
    """(B, C, I, J, K) at every second voxel, a view."""
    return volume[..., ::2, ::2, ::2]


def upsample(coarse: Tensor) -> Tensor:
    """Linear interpolation onto the grid with a voxel between every two."""
    shape = [2 * n - 1 for n in coarse.shape[2:]]
    return F.interpolate(coarse, shape, mode="trilinear", align_corners=True)


def rectified(x: Tensor) -> Tensor:
    """The leaky rectifier, in the same memory."""
    return F.leaky_relu(x, _SLOPE, inplace=True)


class ForegroundNorm(nn.Module):
    """Instance normalization by the mean and variance of the voxels that show something."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """Normalize x, (B, C, I, J, K), over `share`, (B, 1, I, J, K) of sum 1 per image."""
        scale, shift = (t.view(1, -1, 1, 1, 1) for t in (self.scale, self.shift))
        return torch.addcmul(shift, _Standardize.apply(x, share), scale)


class _Standardize(torch.autograd.Function):
    """(x - mean) / deviation, weighted; in closed form its derivative takes half the time.

    With y the result: dx = (dy - w sum(dy) - w y sum(dy y)) / deviation.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Tensor) -> Tensor:
        mean = _weighted_sum(x, share)
        y = x - mean
        rate = (_weighted_sum(y * y, share) + _EPS).rsqrt()
        y *= rate
        ctx.save_for_backward(y, share, rate)
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (dy,), (y, share, rate) = grad_outputs, ctx.saved_tensors
        pull = (dy * y).sum(dim=(2, 3, 4), keepdim=True)
        dx = torch.addcmul(dy.sum(dim=(2, 3, 4), keepdim=True), y, pull)
        return dx.mul_(share).neg_().add_(dy).mul_(rate), None


def _weighted_sum(x: Tensor, share: Tensor) -> Tensor:
    """(B, C, 1, 1, 1) of (B, C, I, J, K) and weights (B, 1, I, J, K)."""
    return torch.bmm(x.flatten(2), share.flatten(1).unsqueeze(2)).view(*x.shape[:2], 1, 1, 1)


class Kernel(nn.Conv3d):
    """A convolution of odd size; the edge is repeated outside, so background goes on as it is.

    With zeros outside, features would depend on how far away the edge of the grid is.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, *, size: int = 3, bias: bool = True
    ) -> None:
        super().__init__(
            inputs, outputs, size, stride, size // 2, bias=bias, padding_mode="replicate"
        )

    def forward(self, input: Tensor) -> Tensor:
        """(B, inputs, I, J, K) to (B, outputs, ...)."""
        sides = [size // 2 for size in self.kernel_size for _ in range(2)]
        x = F.pad(input, sides, "replicate")
        size, stride = self.kernel_size[0], self.stride[0]
        rows = (x.shape[2] - size) // stride + 1
        if not _is_slow(x) or rows == 1:
            return F.conv3d(x, self.weight, self.bias, self.stride)
        half = -(-rows // 2)
        last = stride * (rows - half)
        length = stride * (half - 1) + size
        x = torch.cat([x[:, :, :length], x[:, :, last : last + length]])
        one, other = F.conv3d(x, self.weight, self.bias, self.stride).split(1)
        return torch.cat([one, other[:, :, 2 * half - rows :]], dim=2)


def _is_slow(x: Tensor) -> bool:
    """Whether torch keeps a volume from oneDNN, whose convolutions take a fifth of the time.

    It does so with small ones in a batch of one; their halves, as a batch of two, are let in.
    """
    return x.device.type == "cpu" and len(x) == 1 and x[..., 0].numel() <= 20_480


class Convolution(nn.Module):
    """A 3^3 convolution, normalized, then a leaky rectifier."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.weights = Kernel(inputs, outputs, stride, bias=False)
        self.norm = ForegroundNorm(outputs)

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """(B, inputs, I, J, K) to (B, outputs, ...); share: of the voxels of the output."""
        return rectified(self.norm(self.weights(x), share))


class Pointwise(nn.Module):
    """A convolution of single voxels, as one product of matrices."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs, 1))
        nn.init.kaiming_uniform_(self.weights, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, I, J, K) to (B, outputs, I, J, K)."""
        out = torch.matmul(self.weights, x.flatten(2)).add_(self.bias)
        return out.view(x.shape[0], -1, *x.shape[2:])


def shares(shown: Tensor, count: int) -> list[Tensor]:
    """What each voxel counts in the statistics of `count` grids, from the image's to the coarsest.

    Args:
        shown: (B, 1, I, J, K).
        count: How many grids, each with every second voxel of the one before.
    """
    out = []
    for _ in range(count):
        weight = shown.to(torch.float32)
        total = weight.sum(dim=(2, 3, 4), keepdim=True)
        # a grid too coarse to show anything counts all its voxels
        out.append(torch.where(total > 0, weight, 1.0))
        out[-1] = out[-1] / out[-1].sum(dim=(2, 3, 4), keepdim=True)
        shown = every_other(shown)
    return out
