import threading
import time
from itertools import islice

import pytest

from regcli.train.gradients import drawn


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_samples_come_in_order_and_once(threads):
    def draw(n):
        time.sleep(0.002 * (n % 3))
        return n, threading.current_thread() is threading.main_thread()

    found = list(drawn(draw, range(5, 25), threads))
    assert [n for n, _ in found] == list(range(5, 25))
    assert all(own == (threads == 0) for _, own in found)
    assert list(drawn(draw, range(3, 3), threads)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_the_next_samples_are_ready_before_they_are_asked_for(threads):
    seen, ready = [], threading.Event()

    def draw(n):
        seen.append(n)
        if n == threads:
            ready.set()
        return n

    samples = drawn(draw, range(100), threads)
    assert next(samples) == 0
    assert ready.wait(10)
    time.sleep(0.05)
    assert max(seen) == threads  # and no more than that are kept
    samples.close()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_closing_stops_drawing(threads):
    seen = []
    samples = drawn(seen.append, range(1000), threads)
    list(islice(samples, 2))
    samples.close()
    count = len(seen)
    assert count <= 2 + threads
    time.sleep(0.05)
    assert len(seen) == count
    assert not [t for t in threading.enumerate() if t.name.startswith("regcli-draw")]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_is_raised_in_its_turn(threads):
    samples = drawn(lambda n: 1 / (3 - n), range(10), threads)
    assert len(list(islice(samples, 3))) == 3
    with pytest.raises(ZeroDivisionError):
        next(samples)
