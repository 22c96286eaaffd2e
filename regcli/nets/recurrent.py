"""Networks of steps that see the similarity's slopes: GraDIRN's, and RIIR's, which remember."""

from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from regcli.nets.base import Kernel, every_other, upsample
from regcli.nets.update import Memory, StepNet, leaky, quiet

_SEEN = 8  # channels: two images, a displacement, slopes
_RATE = 0.1  # of gradient descent, at the start


class GradientNet(StepNet):
    """Gradient descent on the similarity at a learned rate, and a learned regularizer.

    u <- u - rate dSim/du - R(u, fixed, moved), with a rate and an R of its own on every level.

    Source: Qiu et al., GraDIRN, MICCAI 2022.
    """

    sense: ClassVar[Literal["none", "slopes", "derived", "newton"]] = "derived"

    def __init__(self, levels: int = 3, width: int = 32, layers: int = 5) -> None:
        super().__init__()
        self.multiple = 1
        self.rates = nn.Parameter(torch.full((levels,), _RATE))
        self.regularizers = nn.ModuleList(Chain(width, layers) for _ in range(levels))

    def forward(self, seen: Tensor, level: int, memory: Memory) -> tuple[Tensor, Memory]:
        """See StepNet."""
        x, slopes = seen[:, :-3], seen[:, -3:]
        regularizer = self.regularizers[level]
        return -self.rates[level] * slopes - regularizer(x), ()


class Chain(nn.Module):
    """Convolutions of one width, the last of them to a displacement."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        widths = [_SEEN - 3, *[width] * (layers - 1)]
        self.hidden = nn.ModuleList(Kernel(a, b) for a, b in pairwise(widths))
        self.last = quiet(Kernel(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5, I, J, K) to (B, 3, I, J, K)."""
        for layer in self.hidden:
            x = leaky(layer(x))
        return self.last(x)


class RecurrentNet(StepNet):
    """Two gated recurrent units, at the grid's resolution and at half of it.

    Source: Zhang et al., RIIR, 2024. Sizes that the paper leaves out are our own.
    """

    sense: ClassVar[Literal["none", "slopes", "derived", "newton"]] = "slopes"

    def __init__(self, fine: int = 16, coarse: int = 32) -> None:
        super().__init__()
        self.multiple = 2
        self.take = Kernel(_SEEN, fine)
        self.down = Kernel(fine, coarse, 2)
        self.coarse, self.fine = Gated(coarse, coarse), Gated(fine + coarse, fine)
        self.head = quiet(Kernel(fine, 3))

    def forward(self, seen: Tensor, level: int, memory: Memory) -> tuple[Tensor, Memory]:
        """See StepNet."""
        x = leaky(self.take(seen))
        if not memory:
            half = every_other(x)
            wide = x.new_zeros(len(x), self.coarse.width, *half.shape[2:])
            memory = (torch.zeros_like(x), wide)
        coarse = self.coarse(leaky(self.down(x)), memory[1])
        fine = self.fine(torch.cat([x, upsample(coarse)], dim=1), memory[0])
        return self.head(fine), (fine, coarse)


class Gated(nn.Module):
    """A convolutional gated recurrent unit.

    Source: Ballas et al., ICLR 2016.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.gates = Kernel(inputs + width, 2 * width)
        self.candidate = Kernel(inputs + width, width)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """The state after x."""
        update, reset = torch.sigmoid(self.gates(torch.cat([x, state], dim=1))).chunk(2, dim=1)
        new = torch.tanh(self.candidate(torch.cat([x, reset * state], dim=1)))
        return torch.lerp(state, new, update)
