"""Ask the memory for a cell of features some voxels before it is needed.

A map leads from row to row as it goes along, so the processor cannot foresee what is read next, and
waits for most cells.
"""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from regcli.ops.backends.numba.slabs import inline

_U = numba.uint64
_AHEAD = 8  # voxels: long enough before for the memory, shortly enough for the caches
_READ, _KEEP, _DATA = 0, 3, 1  # as LLVM numbers what a prefetch is for


def _instruction(typing: Any, flat: Any, n: Any) -> tuple[Any, Callable[..., Any]]:
    """Bring flat[n] into the caches; numba has no word for it, LLVM has. No n is an error."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        place = builder.bitcast(builder.gep(view.data, [arguments[1]]), byte)
        builder.call(prefetch, [place, *(ir.Constant(number, f) for f in (_READ, _KEEP, _DATA))])
        return context.get_dummy_value()

    return types.void(flat, n), code


_prefetch: Any = intrinsic(_instruction)


@inline
def prefetch_cell(flat, index, k, channels, s0, s1):
    """The four rows of a cell that is read soon; its first voxel is flat[index * channels].

    index (K,): of a row's cells, of which number k is read now; s0, s1: as `steps_of` gives them.
    """
    n = _U(index[min(k + _AHEAD, index.shape[0] - 1)]) * _U(channels)
    _prefetch(flat, n)
    _prefetch(flat, n + s1)
    _prefetch(flat, n + s0)
    _prefetch(flat, n + s0 + s1)
