"""Which backend serves a call: numba on processors, Triton on GPUs, or the reference in torch."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from torch import Tensor


def backend(*tensors: Tensor | None) -> Literal["numba", "triton", "reference"]:
    """Compiled loops have no gradients: the reference has, and serves GPUs without Triton.

    Args:
        tensors: What the call works on; None counts for nothing.
    """
    given = [t for t in tensors if t is not None]
    if any(t.requires_grad for t in given):
        return "reference"
    if all(t.device.type == "cpu" for t in given):
        return "numba"
    return "triton" if given[0].is_cuda and _triton_is_there() else "reference"


@cache
def triton(name: str) -> Any:
    """The GPU's loops of one file, loaded at the first call: without a GPU, Triton never is."""
    return import_module(f"regcli.ops.backends.triton.{name}")


@cache
def _triton_is_there() -> bool:
    return find_spec("triton") is not None
