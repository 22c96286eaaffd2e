"""Team: the processes of a training, of which the first decides and the others lend a hand.

Before every step they take the first one's weights, and after it their gradients are added to
its own. It alone has an optimizer, validates, writes, and knows when to stop: nothing needs to be
agreed on, and how many processes there are is no part of a training's state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from regcli.errors import InputError, RecipeError, RegcliError
from regcli.machine import choose_device
from regcli.train.distributed.rank import Rank

_PATIENCE = timedelta(days=7)  # while the first validates; one that has died is noticed at once
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Team:
    """Collective operations: all processes of a training call the same methods in turn.

    Attributes:
        rank: This process.
    """

    rank: Rank

    def told(self, value: Any = None) -> Any:
        """Broadcast the first process's value, which can be pickled."""
        if self.rank.count == 1:
            return value
        box = [value]
        with _together():
            dist.broadcast_object_list(box, 0, device=_CPU)
        return box[0]

    def equalize(self, net: nn.Module) -> None:
        """Make everybody's weights those of the first process.

        Args:
            net: Of the same shape everywhere.
        """
        if self.rank.count == 1:
            return
        assert not list(net.buffers())
        own = [p.detach() for p in net.parameters()]
        flat = torch.cat([p.flatten() for p in own])
        with _together():
            dist.broadcast(flat, 0)
        if not self.rank.first:
            for p, values in zip(own, flat.split([p.numel() for p in own]), strict=True):
                p.copy_(values.view_as(p))

    def summed(self, net: nn.Module, loss: Tensor) -> Tensor:
        """Make the gradients of the first process, and its loss, the sum of everybody's.

        Args:
            net: With gradients; those of weights that nobody's samples reach stay None.
            loss: (), on the network's device.

        Returns:
            (): the sum in the first process, and of no meaning in others.
        """
        if self.rank.count == 1:
            return loss
        own = list(net.parameters())
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
        reached = torch.tensor([p.grad is not None for p in own]).to(loss)
        flat = torch.cat([*(part.flatten() for part in parts), reached, loss[None]])
        with _together():
            dist.reduce(flat, 0)
        if not self.rank.first:
            return loss
        *sums, reached, loss = flat.split([*(p.numel() for p in own), len(own), 1])
        for p, grad, count in zip(own, sums, reached.tolist(), strict=True):
            p.grad = grad.view_as(p) if count else None
        return loss[0]


ALONE = Team(Rank())


@contextmanager
def joined(rank: Rank, device: str) -> Iterator[Team]:
    """The team of this process, which waits for the others; without others there is none to wait.

    Args:
        rank: This process.
        device: As in a plan; "cuda" means the process's own from here on.

    Raises:
        RecipeError: If the device cannot be everybody's.
        InputError: If there are fewer GPUs than processes.
        RegcliError: If the processes do not find each other.
    """
    if rank.count == 1:
        yield ALONE
        return
    backend = _backend(rank, device)
    with _together():
        dist.init_process_group(backend, timeout=_PATIENCE)
    yield Team(rank)
    dist.destroy_process_group()  # if nothing went wrong: others may not answer any more


def _backend(rank: Rank, device: str) -> str:
    """The communication backend, once each process has its own GPU."""
    if device not in ("auto", "cpu", "cuda"):
        raise RecipeError(
            f"--device {device} is one device, for {rank.count} processes.",
            "Use auto, cpu, or cuda: a GPU for each process.",
        )
    if choose_device(device).type == "cpu":
        return "gloo"
    gpus = torch.cuda.device_count()
    if rank.beside > gpus:
        raise InputError(
            f"{rank.beside} processes are more than the {gpus} GPUs of this machine.",
            f"Use --nproc-per-node {gpus}, or --device cpu.",
        )
    torch.cuda.set_device(rank.local)
    return "cpu:gloo,cuda:nccl"  # words through one, weights and gradients through the other


@contextmanager
def _together() -> Iterator[None]:
    """Something that fails if a process is no longer there.

    Raises:
        RegcliError: If so.
    """
    try:
        yield
    except RuntimeError as error:
        raise RegcliError(
            "Another process of this training has ended, or cannot be reached.",
            "See what it said; then go on with --resume.",
        ) from error
