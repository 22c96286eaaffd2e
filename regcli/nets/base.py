"""FeatureNet: what turns one image into features, and the parts that such networks share.

All grids are corner-aligned, as everywhere in regcli: a level of factor f has a voxel at every f-th
voxel of the image's grid, exactly. Strided convolutions keep that (their kernels are odd, and
centred on the voxel that stays), and so does linear interpolation; pooling of pairs would not.

Layers compute in the type of what they are given (float32 or bfloat16; their weights are float32).
On a processor volumes lie in memory with their channels last: oneDNN's convolutions then need no
copies, and run at twice to three times the speed.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Corner = tuple[int, int, int]
_LAST = torch.channels_last_3d
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
    def forward(self, image: Tensor, shown: Tensor, finest: Corner | None = None) -> list[Tensor]:
        """Scores of the image's voxels, without a final activation.

        Args:
            image: (B, 1, I, J, K), foreground in [0, 1]; sizes as `fitting` gives them.
            shown: (B, 1, I, J, K), 1 where the image shows something, else 0: statistics are
                taken there, so that they do not depend on how much background there is.
            finest: Of the finest level only every second voxel along each axis is wanted, from
                this one on; None for all of them.

        Returns:
            (B, C, i, j, k) of levels 4, 2 and 1: every 4th, every 2nd and every voxel.
        """


def fitting(n: int, multiple: int) -> int:
    """The least size of an axis, at least n, that a network takes: 1, or a multiple plus one."""
    return 1 + -(-(n - 1) // multiple) * multiple


def every_other(volume: Tensor, first: Corner = (0, 0, 0)) -> Tensor:
    """(B, C, I, J, K) at every second voxel from the first on, a view."""
    i, j, k = first
    return volume[..., i::2, j::2, k::2]


def picked(levels: list[Tensor], finest: Corner | None) -> list[Tensor]:
    """Levels as `FeatureNet` returns them, from all their voxels."""
    return levels if finest is None else [*levels[:-1], every_other(levels[-1], finest)]


def upsample(coarse: Tensor) -> Tensor:
    """Linear interpolation onto the grid with a voxel between every two."""
    shape = [2 * n - 1 for n in coarse.shape[2:]]
    return F.interpolate(coarse, shape, mode="trilinear", align_corners=True)


def rectified(x: Tensor) -> Tensor:
    """The leaky rectifier, in the same memory."""
    return F.leaky_relu(x, _SLOPE, inplace=True)


class ForegroundNorm(nn.Module):
    """Instance normalization by the mean and variance of the voxels that show something.

    A leaky rectifier may follow; together they take fewer passes over memory.
    """

    def __init__(self, channels: int, slope: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.slope = slope

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """Normalize x, (B, C, I, J, K), over `share`, (B, 1, I, J, K) of sum 1 per image."""
        return _Normalize.apply(x, share, self.scale, self.shift, self.slope)


class _Normalize(torch.autograd.Function):
    """z = scale y + shift with y = (x - mean) / deviation, weighted; then the rectifier.

    In closed form the derivative takes half the time: with dz that of the loss by z,
    dx = scale / deviation (dz - w (sum(dz) + y sum(dz y))).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, share: Tensor, scale: Tensor, shift: Tensor, slope: float
    ) -> Tensor:
        share = share.to(x.dtype)
        y = x - _weighted_sum(x, share)
        rate = (_weighted_sum(y * y, share) + _EPS).rsqrt()
        y *= rate
        scale, shift = (t.to(x.dtype).view(1, -1, 1, 1, 1) for t in (scale, shift))
        z = torch.addcmul(shift, y, scale)
        if slope != 1:
            z = F.leaky_relu_(z, slope)
        ctx.save_for_backward(y, share, rate * scale, z)
        ctx.slope = slope
        return z

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (dz,), (y, share, rate, z) = grad_outputs, ctx.saved_tensors
        if ctx.slope != 1:
            dz = torch.where(z < 0, ctx.slope * dz, dz)
        pulls, wide = (dz * y, dz), _wide(dz.dtype)
        by_scale, by_shift = (t.sum(dim=(2, 3, 4), keepdim=True, dtype=wide) for t in pulls)
        dx = torch.addcmul(by_shift.to(y.dtype), y, by_scale.to(y.dtype))
        dx = dx.mul_(share).neg_().add_(dz).mul_(rate)
        return dx, None, by_scale.sum(dim=0).flatten(), by_shift.sum(dim=0).flatten(), None


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type for sums of many numbers."""
    return torch.promote_types(dtype, torch.float32)


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
        return channels_last(self.inside(F.pad(input, sides, "replicate")))

    def inside(self, x: Tensor, stride: int | None = None) -> Tensor:
        """The convolution at the voxels that have all neighbours, from the first of them on."""
        weight, bias = self.weight.to(x.dtype), self.bias
        bias = None if bias is None else bias.to(x.dtype)
        size, stride = self.kernel_size[0], stride or self.stride[0]
        rows = (x.shape[2] - size) // stride + 1
        if not _is_slow(x) or rows == 1:
            return F.conv3d(x, weight, bias, stride)
        half = -(-rows // 2)
        last = stride * (rows - half)
        length = stride * (half - 1) + size
        x = torch.cat([x[:, :, :length], x[:, :, last : last + length]])
        one, other = F.conv3d(x, weight, bias, stride).split(1)
        return torch.cat([one, other[:, :, 2 * half - rows :]], dim=2)


def channels_last(x: Tensor) -> Tensor:
    """A volume as the processor's convolutions read it; a copy only if it lies otherwise."""
    return x.contiguous(memory_format=_LAST) if x.device.type == "cpu" else x


def _is_slow(x: Tensor) -> bool:
    """Whether torch keeps a volume from oneDNN, whose convolutions take a fifth of the time.

    It does so with small ones in a batch of one; their halves, as a batch of two, are let in.
    """
    few = len(x) == 1 and x[..., 0].numel() <= 20_480
    return x.device.type == "cpu" and x.dtype != torch.bfloat16 and few


class Convolution(nn.Module):
    """A 3^3 convolution, normalized, then a leaky rectifier."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.weights = Kernel(inputs, outputs, stride, bias=False)
        self.norm = ForegroundNorm(outputs, _SLOPE)

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """(B, inputs, I, J, K) to (B, outputs, ...); share: of the voxels of the output."""
        return self.norm(self.weights(x), share)


class Pointwise(nn.Module):
    """A convolution of single voxels, as one product of matrices."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs, 1))
        nn.init.kaiming_uniform_(self.weights, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, I, J, K) to (B, outputs, I, J, K)."""
        weights, bias = self.weights.to(x.dtype), self.bias.to(x.dtype)
        if x.is_contiguous(memory_format=_LAST):
            rows = F.linear(x.permute(0, 2, 3, 4, 1), weights, bias[:, 0])
            return rows.permute(0, 4, 1, 2, 3)
        out = torch.matmul(weights, x.flatten(2)).add_(bias)
        return out.view(x.shape[0], -1, *x.shape[2:])


def shares(shown: Tensor, count: int) -> list[Tensor]:
    """The weight of each voxel in the statistics of `count` grids, from the finest to the coarsest.

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
