"""LKU: a U-Net whose deeper stages look through kernels of several sizes at once."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regcli.nets.base import (
    Corner,
    FeatureNet,
    ForegroundNorm,
    Kernel,
    Pointwise,
    picked,
    shares,
    upsample,
)


class Rectifier(nn.PReLU):
    """A rectifier whose slope below zero is learned."""

    def forward(self, input: Tensor) -> Tensor:
        """Anything to the same shape."""
        return F.prelu(input, self.weight.to(input.dtype))


class Plain(nn.Module):
    """A 3^3 convolution, normalized, then a rectifier whose slope below zero is learned."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel = Kernel(inputs, outputs, stride, bias=False)
        self.norm = ForegroundNorm(outputs)
        self.rectify = Rectifier()

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """(B, inputs, I, J, K) to (B, outputs, ...); share: of the voxels of the output."""
        return self.rectify(self.norm(self.kernel(x), share))


class LargeKernel(nn.Module):
    """The sum of normalized convolutions of 1, 3 and 5 voxels, and of what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(
            [
                Pointwise(channels, channels),
                Kernel(channels, channels, bias=False),
                Kernel(channels, channels, size=5, bias=False),
            ]
        )
        self.norms = nn.ModuleList(ForegroundNorm(channels) for _ in self.kernels)
        self.rectify = Rectifier()

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """(B, channels, I, J, K), as it came."""
        out = x
        for kernel, norm in zip(self.kernels, self.norms, strict=True):
            out = out + norm(kernel(x), share)
        return self.rectify(out)


class _Rise(nn.Module):
    """To the next finer grid, beside what the encoder knew there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kernel = Kernel(channels, channels)
        self.rectify = Rectifier()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.cat([self.rectify(self.kernel(upsample(x))), skip], dim=1)


class LKU(FeatureNet):
    """Large-kernel U-Net; coarse heads read what the decoder is given, before its convolutions.

    Source: Jia et al., MLMI 2022; heads as in Jena et al., DIO, 2025.
    """

    def __init__(self, channels: int = 18, start: int = 8) -> None:
        super().__init__()
        c = start
        self.channels, self.multiple = channels, 16
        self.enter = nn.ModuleList([Plain(1, c), Plain(c, c)])
        widths = [(c, 2 * c), (2 * c, 4 * c), (4 * c, 8 * c), (8 * c, 8 * c)]
        self.down = nn.ModuleList(Plain(a, b, 2) for a, b in widths)
        self.wide = nn.ModuleList(LargeKernel(b) for _, b in widths)
        self.rise = nn.ModuleList(_Rise(n * c) for n in (8, 4, 2, 2))
        self.first = nn.ModuleList(
            Plain(a * c, b * c) for a, b in ((16, 8), (8, 4), (4, 4), (3, 2))
        )
        self.second = nn.ModuleList(
            Plain(a * c, b * c) for a, b in ((8, 4), (4, 2), (4, 2), (2, 2))
        )
        self.heads = nn.ModuleList(Kernel(n * c, channels, bias=False) for n in (8, 4, 2))

    def forward(self, image: Tensor, shown: Tensor, finest: Corner | None = None) -> list[Tensor]:
        """See FeatureNet."""
        share = shares(shown, 1 + len(self.down))
        x = image
        for layer in self.enter:
            x = layer(x, share[0])
        skips = [x]
        for n, (down, wide) in enumerate(zip(self.down, self.wide, strict=True), start=1):
            x = wide(down(x, share[n]), share[n])
            skips.append(x)
        scores = []
        decoder = zip(self.rise, self.first, self.second, (3, 2, 1, 0), strict=True)
        for rise, first, second, n in decoder:
            both = rise(x, skips[n])
            if n in (2, 1):
                scores.append(self.heads[2 - n](both))
            x = second(first(both, share[n]), share[n])
        return picked([*scores, self.heads[2](x)], finest)
