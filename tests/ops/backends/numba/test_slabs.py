import threading

import numpy as np
import pytest
import torch

from regcli.ops.backends.numba.slabs import run, run_with_scratch

LARGE = (37, 64, 64)  # values enough to be shared among threads


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [LARGE, (1, 512, 512), (3, 4, 5)])
def test_every_plane_is_done_once(threads, shape):
    seen = np.zeros(shape)

    def loop(lo, hi, out):
        out[lo:hi] += 1

    run(loop, shape[0], seen)
    assert (seen == 1).all()


def test_no_two_share_their_scratch(threads):
    out, busy = np.zeros(LARGE), set()

    def loop(lo, hi, scratch, values):
        address = scratch.ctypes.data
        assert address not in busy
        busy.add(address)
        scratch[:] = lo
        values[lo:hi] += 1 + (scratch.min() != scratch.max())
        busy.remove(address)

    for _ in range(20):
        run_with_scratch(loop, LARGE[0], 1000, out)
    assert (out == 20).all()


def test_an_error_in_any_thread_is_raised_and_the_next_loop_runs(threads):
    names = set()

    def loop(lo, hi, out):
        names.add(threading.current_thread().name)
        if hi == LARGE[0]:
            raise KeyError("the last slab")

    for _ in range(10):
        with pytest.raises(KeyError, match="the last slab"):
            run(loop, LARGE[0], np.zeros(LARGE))
    run(lambda lo, hi, out: None, LARGE[0], np.zeros(LARGE))
    assert len(names) <= threads
