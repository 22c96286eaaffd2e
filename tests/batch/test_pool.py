"""Real worker processes."""

import os
import signal
import time
from concurrent.futures import wait

import pytest

from regcli.batch.pool import LocalPool, WorkerLostError, check, place


def end(code):
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def divide(by):
    return 1 / by


def work_until_told_to_stop(begun, ended):
    begun.touch()
    try:
        while True:
            time.sleep(0.01)
            check()
    finally:
        ended.touch()


def test_a_worker_that_dies_costs_one_call_and_errors_cost_nobody():
    with LocalPool(2) as pool:
        deaths = [pool.submit(end, code) for code in (-9, 3, -11)]
        calls = [pool.submit(os.getpid) for _ in range(4)]
        for death, code in zip(deaths, (-9, 3, -11), strict=True):
            with pytest.raises(WorkerLostError) as lost:
                death.result(60)
            assert lost.value.code == code
        workers = {call.result(60) for call in calls}
        assert 0 < len(workers) <= 2 and os.getpid() not in workers
        with pytest.raises(ZeroDivisionError):
            pool.submit(divide, 0).result(60)
        places = {pool.submit(place).result(60) for _ in range(4)}
        assert places <= {0, 1}
    assert not any(_alive(worker) for worker in workers)


def test_workers_that_are_busy_stop_cleanly_and_ctrl_c_alone_does_not_reach_them(tmp_path):
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    pool = LocalPool(1)
    worker = pool.submit(os.getpid).result(60)
    busy = pool.submit(work_until_told_to_stop, begun, ended)
    waiting = pool.submit(os.getpid)
    while not begun.exists():
        time.sleep(0.01)
    os.kill(worker, signal.SIGINT)
    time.sleep(0.1)
    assert not ended.exists()
    pool.shutdown(cancel_futures=True)
    assert ended.exists()
    assert not _alive(worker)
    wait([busy], 10)
    assert isinstance(busy.exception(), WorkerLostError)
    assert waiting.cancelled() or isinstance(waiting.exception(), WorkerLostError)


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
