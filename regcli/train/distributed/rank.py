"""Rank: which of the processes that torchrun started this one is; known without torch."""

import os
from dataclasses import dataclass

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True)
class Rank:
    """A process among those that train together.

    Attributes:
        number: From 0.
        count: How many there are.
        local: The number among those of this machine, which is that of its GPU.
        beside: How many there are on this machine.
    """

    number: int = 0
    count: int = 1
    local: int = 0
    beside: int = 1

    @property
    def first(self) -> bool:
        """Whether it decides, writes and speaks; the others lend it a hand."""
        return self.number == 0


def rank() -> Rank:
    """This process's, as torchrun's variables say; without all of them it is alone."""
    values = [os.environ.get(name, "") for name in _NUMBERS]
    if "MASTER_ADDR" not in os.environ or not all(value.isdecimal() for value in values):
        return Rank()
    number, count, local, beside, _ = map(int, values)
    return Rank(number, count, local, beside)
