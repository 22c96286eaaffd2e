import numba
import numpy as np

from regcli.ops.backends.numba.prefetch import prefetch_cell
from regcli.ops.backends.numba.slabs import function


@function
def walk(flat, index, channels, step):
    total = 0.0
    for k in range(index.shape[0]):
        prefetch_cell(flat, index, k, channels, step, numba.uint64(1) << numba.uint64(40))
        total += flat[index[k] * channels]
    return total


def test_memory_is_asked_for_cells_and_no_harm_done_where_there_are_none():
    flat, index = np.arange(40, dtype=np.float32), np.array([3, 0, 9], np.int32)
    assert walk(flat, index, 4, np.uint64(8)) == 4 * (3 + 0 + 9)
    (compiled,) = walk.inspect_llvm().values()
    assert compiled.count("call void @llvm.prefetch") == 4  # one for each row of a cell
