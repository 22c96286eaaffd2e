"""Networks of steps: what a displacement still lacks, as DEQReg's and VoxelMorph's say.

No normalization and no dropout: near its equilibrium a network must answer nothing, and the same
at every call. Grids are corner-aligned, as in `nets.base`.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regcli.nets.base import Kernel, Pointwise, upsample
from regcli.ops.filter import gaussian

_SLOPE = 0.2
_RATE = 3.0  # of steps that are then smoothed, at the start
_FIRST = 1e-5  # deviation of the last layer's weights at the start: no step at all


Memory = tuple[Tensor, ...]


class StepNet(nn.Module, ABC):
    """A network that is asked again and again what a displacement lacks.

    Attributes:
        multiple: Grids have a multiple of this many voxels, and one more, along each axis.
        sense: What it wants to see of the similarity: nothing, its slopes as numbers, its slopes
            so that gradients pass through them, or the step that Newton's method would take in
            each voxel alone.
    """

    multiple: int
    sense: ClassVar[Literal["none", "slopes", "derived", "newton"]] = "none"

    @abstractmethod
    def forward(self, seen: Tensor, level: int, memory: Memory) -> tuple[Tensor, Memory]:
        """A step.

        Args:
            seen: (B, C, I, J, K): fixed and moved image, displacement in voxels; and three more
                channels for those that want to see something of the similarity.
            level: 0 is the coarsest.
            memory: What the last step on this level gave; nothing before the first.

        Returns:
            (B, 3, I, J, K), voxels, and what to remember.
        """


class UpdateNet(StepNet):
    """A U-Net of VoxelMorph's depth and width whose finest features lie on half the resolution.

    So do its steps, which are interpolated: displacements are smoother than images. On a processor
    it costs a tenth of `FullUpdateNet`.

    Source: Zhang et al., DEQReg, MICCAI 2025; Balakrishnan et al., VoxelMorph, TMI 2019.
    """

    def __init__(self, inputs: int = 5, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        self.inputs, self.multiple = inputs, 2 ** len(widths)
        self.body = Hourglass(inputs, widths, stride=2)
        self.head = quiet(Kernel(widths[0], 3))

    def forward(self, seen: Tensor, level: int, memory: Memory) -> tuple[Tensor, Memory]:
        """See StepNet."""
        return upsample(self.head(self.body(seen[:, : self.inputs]))), ()


class GuidedNet(StepNet):
    """`UpdateNet` beside a classical step: Newton's of each voxel, smoothed, times a learned rate.

    Before it has learned anything it registers like demons on local correlation; what it learns is
    what that lacks. Untrained steps of `UpdateNet` lead nowhere: to see that an image must move
    towards where it is alike takes thousands of pairs.
    """

    sense: ClassVar[Literal["none", "slopes", "derived", "newton"]] = "newton"

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 64), sigma: float = 0.8) -> None:
        super().__init__()
        self.multiple, self.sigma = 2 ** len(widths), sigma
        self.rate = nn.Parameter(torch.tensor(_RATE))
        self.body = Hourglass(8, widths, stride=2)
        self.head = quiet(Kernel(widths[0], 3))

    def forward(self, seen: Tensor, level: int, memory: Memory) -> tuple[Tensor, Memory]:
        """See StepNet."""
        smooth = gaussian(seen[:, -3:].detach(), self.sigma)
        return upsample(self.head(self.body(seen))) + self.rate * smooth, ()


class FullUpdateNet(StepNet):
    """Nearest to the paper's U-Net: VoxelMorph's widths, at full resolution throughout.

    Strided convolutions and linear interpolation stand for pooling and for repeated voxels, which
    move features by half a voxel.

    Source: Zhang et al., DEQReg, MICCAI 2025; Balakrishnan et al., VoxelMorph, TMI 2019.
    """

    def __init__(
        self,
        inputs: int = 5,
        widths: tuple[int, ...] = (16, 32, 32, 32, 32),
        last: tuple[int, ...] = (32, 16, 16),
    ) -> None:
        super().__init__()
        self.inputs, self.multiple = inputs, 2 ** (len(widths) - 1)
        self.body = Hourglass(inputs, widths, stride=1)
        befores = (widths[0], *last[:-1])
        self.last = nn.ModuleList(Kernel(a, b) for a, b in zip(befores, last, strict=True))
        self.head = quiet(Kernel(last[-1], 3))

    def forward(self, seen: Tensor, level: int, memory: Memory) -> tuple[Tensor, Memory]:
        """See StepNet."""
        x = self.body(seen[:, : self.inputs])
        for layer in self.last:
            x = leaky(layer(x))
        return self.head(x), ()


class Hourglass(nn.Module):
    """Down by strided convolutions and back up by linear interpolation, with skips."""

    def __init__(self, inputs: int, widths: tuple[int, ...], stride: int) -> None:
        super().__init__()
        strides = (stride, *[2] * (len(widths) - 1))
        below = (inputs, *widths[:-1])
        self.down = nn.ModuleList(
            Kernel(a, b, s) for a, b, s in zip(below, widths, strides, strict=True)
        )
        self.turn = Kernel(widths[-1], widths[-1])
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        # projected before interpolation: the same numbers for an eighth of the work
        self.project = nn.ModuleList(Pointwise(deep, skip) for deep, skip in pairs)
        self.up = nn.ModuleList(Kernel(2 * skip, skip) for _, skip in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, I, J, K) to (B, widths[0], ...) at the first layer's stride."""
        skips = []
        for layer in self.down:
            x = leaky(layer(x))
            skips.append(x)
        x = leaky(self.turn(x))
        for n in reversed(range(len(self.up))):
            x = torch.cat([upsample(self.project[n](x)), skips[n]], dim=1)
            x = leaky(self.up[n](x))
        return x


def quiet(layer: Kernel) -> Kernel:
    """The layer with almost no weights: what it is the last layer of says almost nothing."""
    nn.init.normal_(layer.weight, std=_FIRST)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def leaky(x: Tensor) -> Tensor:
    """The leaky rectifier, in the same memory."""
    return F.leaky_relu(x, _SLOPE, inplace=True)
