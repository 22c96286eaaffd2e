"""UNet: one network that goes down to see far and comes back to see sharply."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regcli.nets.base import (
    Convolution,
    Corner,
    FeatureNet,
    Kernel,
    Pointwise,
    channels_last,
    every_other,
    rectified,
    shares,
    upsample,
)


class UNet(FeatureNet):
    """Encoder and decoder with skips, from half the resolution down, and a light finest level.

    The first convolution halves the grid: there, on a processor, a network learns four times as
    much in an hour as at full resolution. The finest level takes what the decoder knows, and the
    image itself for its edges.

    Skips are added: joined as further channels they take half of the decoder's time more.

    Source: Ronneberger et al., MICCAI 2015; levels and heads as in Jena et al., DIO, 2025.
    """

    def __init__(
        self,
        channels: int = 18,
        widths: tuple[int, ...] = (32, 64, 96, 128),
        detail: int = 16,
    ) -> None:
        super().__init__()
        assert len(widths) >= 2, "the coarsest head needs a quarter of the resolution"
        self.channels, self.multiple = channels, 2 ** len(widths)
        below = (1, *widths[:-1])
        self.down = nn.ModuleList(Convolution(a, b, 2) for a, b in zip(below, widths, strict=True))
        self.encode = nn.ModuleList(Convolution(w, w) for w in widths)
        # projected before interpolation: the same numbers for an eighth of the work
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        self.project = nn.ModuleList(Pointwise(deep, w) for deep, w in pairs)
        self.decode = nn.ModuleList(Convolution(w, w) for w in widths[:-1])
        self.at_quarter = Pointwise(widths[1], channels)
        self.at_half = Pointwise(widths[0], channels)
        self.sharpen = Pointwise(widths[0], detail // 2 - 1)
        self.edges = Kernel(detail // 2, detail)
        self.at_whole = Pointwise(detail, channels)

    def forward(self, image: Tensor, shown: Tensor, finest: Corner | None = None) -> list[Tensor]:
        """See FeatureNet."""
        share = shares(every_other(shown), len(self.down))
        x, skips = image, []
        for down, encode, s in zip(self.down, self.encode, share, strict=True):
            x = encode(down(x, s), s)
            skips.append(x)
        coarser = []
        for n in reversed(range(len(self.decode))):
            x = self.decode[n](upsample(self.project[n](x)) + skips[n], share[n])
            coarser.append(x)
        quarter = coarser[-2] if len(coarser) > 1 else skips[1]
        seen = torch.cat([upsample(self.sharpen(x)), image], dim=1)
        fine = rectified(self.edges(seen) if finest is None else self._edges(seen, finest))
        return [self.at_quarter(quarter), self.at_half(x), self.at_whole(fine)]

    def _edges(self, seen: Tensor, first: Corner) -> Tensor:
        """The finest convolution at every second voxel from the first on."""
        i, j, k = first
        padded = F.pad(seen, (1,) * 6, "replicate")[..., i:, j:, k:]
        return channels_last(self.edges.inside(channels_last(padded), stride=2))
