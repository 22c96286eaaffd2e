"""Blocks are lent once at a time, lent again when dropped, and given back when asked for."""

from concurrent.futures import ThreadPoolExecutor

import torch

from regcli.ops import memory as ops
from regcli.ops.backends.numba import memory
from regcli.ops.backends.numba.memory import empty

SHAPE = (3, 70, 80, 90)


def test_a_dropped_block_is_lent_again_and_one_in_use_is_not():
    ops.release()
    one = empty(*SHAPE)
    place, part = one.data_ptr(), one[:, :1]
    del one
    other = empty(*SHAPE)
    assert other.data_ptr() != place  # `part` still looks at it
    del part
    assert empty(*SHAPE).data_ptr() == place


def test_what_is_lent_is_contiguous_and_of_its_shape():
    ops.release()
    large = empty(4, 70, 80, 90)
    del large
    smaller = empty(*SHAPE)  # from the same block
    assert smaller.shape == SHAPE
    assert smaller.is_contiguous()
    assert smaller.dtype == torch.float32
    smaller.fill_(1)
    array = smaller.numpy()
    del smaller
    again = empty(*SHAPE).fill_(2)
    assert float(array.max()) == 1
    assert float(again.min()) == 2


def test_threads_never_share_a_block():
    def work(number):
        for _ in range(200):
            block = empty(1 + number % 3, 70, 80, 90)
            block[:, 0].fill_(number)
            assert bool((block[:, 0] == number).all())

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result()


def test_blocks_go_back_to_the_system():
    block = empty(*SHAPE)
    del block
    assert memory._shelf
    ops.release()
    assert not memory._shelf
