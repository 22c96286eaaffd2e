"""Sums over whole volumes, with the same bits on any number of threads."""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends.choose import backend


def total(values: Tensor) -> Tensor:
    """() float64, on the device of the values, so that a GPU is not waited for.

    torch shares a long sum among its threads, and their number shows in its last bits; numpy
    always adds in the same order.
    """
    if backend(values) != "numba":
        return values.sum(dtype=torch.float64)
    return torch.tensor(float(np.sum(values.numpy(), dtype=np.float64)), dtype=torch.float64)


def mean(values: Tensor) -> Tensor:
    """() float64."""
    return total(values) / max(values.numel(), 1)
