"""Crews: who does the rows of a batch, processes of this machine or a Dask cluster."""

import importlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from regcli.batch import pool
from regcli.batch.worker import Outcome, run_row
from regcli.commands.register.job import Job
from regcli.errors import InputError, RecipeError
from regcli.machine import cores, free_memory

_WAIT_S = 30  # for a scheduler to answer, and for its first worker
_LOCAL = "local:"


@dataclass(frozen=True)
class Crew:
    """Workers.

    Attributes:
        executor: What calls are submitted to.
        row: What is called there for a row, with its job and the number of threads.
        size: How many rows may be under way, at this moment.
        threads: Of each worker; 0 for as many as Dask reserved for it.
        memory: Bytes that all workers may take together; None if that is not known.
    """

    executor: Executor
    row: Callable[[Job, int], Outcome]
    size: Callable[[], int]
    threads: int
    memory: int | None


def check_dask(spec: str) -> None:
    """Refuse what names no Dask cluster, or Dask where it is not installed.

    Raises:
        RecipeError: If so.
    """
    count = spec.removeprefix(_LOCAL)
    fine = count.isdigit() and int(count) > 0 if spec.startswith(_LOCAL) else "://" in spec
    if not fine:
        raise RecipeError(
            f"--dask '{spec}' is no scheduler.", "Write it like tcp://host:8786 or local:4."
        )
    _distributed()


def _distributed() -> Any:
    """The package of Dask that knows clusters, which regcli does without otherwise."""
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise RecipeError(
            "--dask needs Dask, which is not installed.", "Run pip install 'regcli[dask]'."
        ) from None


@contextmanager
def local_crew(count: int) -> Iterator[Crew]:
    """Processes of this machine, which share its cores.

    Args:
        count: How many; cores that are not there are not counted.
    """
    count = min(count, cores())
    executor = pool.LocalPool(count)
    try:
        crew = Crew(executor, _local_row, lambda: count, cores() // count, free_memory())
        yield crew
    finally:  # whoever leaves early does not wait for rows under way
        executor.shutdown(cancel_futures=True)


@contextmanager
def dask_crew(spec: str) -> Iterator[Crew]:
    """The workers of a Dask scheduler, or a Dask cluster on this machine.

    Args:
        spec: Address of a scheduler whose workers see the same files, or "local:N".

    Raises:
        InputError: If no scheduler answers, or it has no workers.
    """
    distributed = _distributed()
    count = int(spec.removeprefix(_LOCAL)) if spec.startswith(_LOCAL) else 0
    with ExitStack() as opened:
        try:
            cluster = opened.enter_context(closing(_local_cluster(count))) if count else None
            client = distributed.Client(cluster or spec, timeout=_WAIT_S)
            opened.callback(client.close)
            client.wait_for_workers(1, timeout=_WAIT_S)
        except (OSError, ValueError) as error:
            raise InputError(
                f"No Dask workers at {spec}: {error}.", "Check the address, and start workers."
            ) from None
        yield Crew(
            client.get_executor(pure=False, retries=0),
            _dask_row,
            lambda: len(client.scheduler_info(n_workers=-1)["workers"]),
            max(1, cores() // count) if count else 0,
            free_memory() if count else None,
        )


def _local_cluster(count: int) -> Any:
    distributed = _distributed()
    # a row that takes its worker with it is tried again by us, and alone
    importlib.import_module("dask").config.set({"distributed.scheduler.allowed-failures": 0})
    return distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=None,  # rows are chosen by what they need
        dashboard_address=None,
        silence_logs=logging.ERROR,
        host="127.0.0.1",
    )


def _local_row(job: Job, threads: int) -> Outcome:
    return run_row(job, threads, pool.place(), pool.check)


def _dask_row(job: Job, threads: int) -> Outcome:
    worker = _distributed().get_worker()
    name = str(worker.name)
    place = int(name) if name.isdigit() else 0
    return run_row(job, threads or worker.state.nthreads, place, _go_on)


def _go_on() -> None:
    """A row on a cluster cannot be stopped half-way; what it leaves is whole."""
