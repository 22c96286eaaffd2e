"""Which body of a loop serves a call: the processor's, the GPU's, or plain torch."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from torch import Tensor


def body(*tensors: Tensor | None) -> Literal["cpu", "cuda", "torch"]:
    """Compiled loops know no gradients; torch serves them, and GPUs without Triton.

    Args:
        tensors: What the call works on; None counts for nothing.
    """
    given = [t for t in tensors if t is not None]
    if any(t.requires_grad for t in given):
        return "torch"
    if all(t.device.type == "cpu" for t in given):
        return "cpu"
    return "cuda" if given[0].is_cuda and _triton_is_there() else "torch"


@cache
def cuda(name: str) -> Any:
    """The GPU's loops of one file, loaded at the first call: without a GPU, Triton never is."""
    return import_module(f"regcli.ops.backends.triton.{name}")


@cache
def _triton_is_there() -> bool:
    return find_spec("triton") is not None
