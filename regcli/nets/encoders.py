"""One independent encoder per level: no level is told what another one knows."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from regcli.nets.base import Convolution, Corner, FeatureNet, Kernel, picked, shares
from regcli.nets.lku import LargeKernel, Plain

_LEVELS = (2, 1, 0)  # halvings before the head: levels 4, 2 and 1


class _Tower(nn.Module):
    """Pairs of layers, each pair but the first on a grid with half as many voxels; then a head."""

    def __init__(self, pairs: Sequence[tuple[nn.Module, nn.Module]], head: nn.Module) -> None:
        super().__init__()
        self.first = nn.ModuleList(a for a, _ in pairs)
        self.second = nn.ModuleList(b for _, b in pairs)
        self.head = head

    def forward(self, x: Tensor, share: list[Tensor]) -> Tensor:
        for first, second, s in zip(self.first, self.second, share, strict=False):
            x = second(first(x, s), s)
        return self.head(x)


class UNetEncoders(FeatureNet):
    """The encoder of a U-Net for every level, as deep as the level asks.

    Source: Jena et al., DIO, 2025.
    """

    def __init__(self, channels: int = 18, widths: tuple[int, int, int] = (8, 24, 48)) -> None:
        super().__init__()
        self.channels, self.multiple = channels, 4
        towers = []
        for depth in _LEVELS:
            used = (1, *widths[: depth + 1])
            pairs = [
                (Convolution(a, b, 1 if n == 0 else 2), Convolution(b, b))
                for n, (a, b) in enumerate(pairwise(used))
            ]
            towers.append(_Tower(pairs, Kernel(widths[depth], channels)))
        self.towers = nn.ModuleList(towers)

    def forward(self, image: Tensor, shown: Tensor, finest: Corner | None = None) -> list[Tensor]:
        """See FeatureNet."""
        share = shares(shown, 3)
        return picked([tower(image, share) for tower in self.towers], finest)


class LKUEncoders(FeatureNet):
    """The encoder of the large-kernel U-Net for every level.

    Source: Jena et al., DIO, 2025.
    """

    def __init__(self, channels: int = 18, start: int = 8) -> None:
        super().__init__()
        self.channels, self.multiple = channels, 4
        towers = []
        for depth in _LEVELS:
            widths = [1, *(start * 2**n for n in range(depth + 1))]
            pairs = [
                (Plain(a, b, 1 if n == 0 else 2), LargeKernel(b))
                for n, (a, b) in enumerate(pairwise(widths))
            ]
            towers.append(_Tower(pairs, Kernel(widths[-1], channels, bias=False)))
        self.towers = nn.ModuleList(towers)

    def forward(self, image: Tensor, shown: Tensor, finest: Corner | None = None) -> list[Tensor]:
        """See FeatureNet."""
        share = shares(shown, 3)
        return picked([tower(image, share) for tower in self.towers], finest)
