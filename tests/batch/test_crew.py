"""Who does the rows; Dask is a stand-in here: to start a real cluster takes ten seconds."""

import sys
from types import SimpleNamespace

import pytest
from batches import Inline

from regcli.batch import crew
from regcli.errors import InputError


@pytest.fixture
def dask(monkeypatch):
    """A stand-in for the package; what was asked of it."""
    asked = []

    class Client:
        def __init__(self, address, timeout):
            asked.append(address)
            if address == "tcp://nobody:1":
                raise OSError("timed out")

        def wait_for_workers(self, count, timeout):
            asked.append(count)

        def get_executor(self, **options):
            asked.append(options)
            return Inline()

        def scheduler_info(self, n_workers):
            return {"workers": {"one": {}, "two": {}, "three": {}}}

        def close(self):
            asked.append("closed")

    worker = SimpleNamespace(name=5, state=SimpleNamespace(nthreads=7))
    package = SimpleNamespace(Client=Client, get_worker=lambda: worker)
    monkeypatch.setitem(sys.modules, "distributed", package)
    return asked


def test_workers_of_dask_do_rows_with_the_threads_reserved_for_them(dask, monkeypatch):
    seen = []
    monkeypatch.setattr(
        crew, "run_row", lambda job, threads, place, check: seen.append((job, threads, place))
    )
    with crew.dask_crew("tcp://host:8786") as found:
        assert (found.size(), found.memory) == (3, None)
        found.executor.submit(found.row, "job", found.threads).result()
    assert seen == [("job", 7, 5)]
    assert dask == ["tcp://host:8786", 1, {"pure": False, "retries": 0}, "closed"]


def test_a_scheduler_that_does_not_answer_is_named(dask):
    with pytest.raises(InputError, match="tcp://nobody:1"), crew.dask_crew("tcp://nobody:1"):
        pass


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr(crew, "cores", lambda: 8)
    for count, wanted in ((1, (1, 8)), (3, (3, 2)), (8, (8, 1)), (99, (8, 1))):
        with crew.local_crew(count) as found:  # processes are started when they are needed
            assert (found.size(), found.threads) == wanted
