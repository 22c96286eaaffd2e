"""run_batch: every row done, or known why not, on any executor; what was done before is left."""

import signal
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from regcli.batch.crew import Crew
from regcli.batch.fingerprint import digests, fingerprint
from regcli.batch.journal import (
    History,
    Journal,
    open_journal,
    overlapping,
    read_history,
    suffix,
)
from regcli.batch.plan import Batch, Task, make_plan
from regcli.batch.pool import WorkerLostError
from regcli.batch.summary import write_summary
from regcli.batch.worker import Outcome, failure
from regcli.commands.record import spare_result
from regcli.commands.register.job import NAMES
from regcli.errors import BatchError, MemoryShortageError, OutputError, RegcliError
from regcli.io.outputs import SIDECAR, open_outputs, sweep
from regcli.machine import cores


@dataclass(frozen=True)
class Finished:
    """A row that nothing more is done with.

    Attributes:
        task: The row.
        outcome: What became of it.
        earlier: Whether that was so before this run.
    """

    task: Task
    outcome: Outcome
    earlier: bool


Watch = Callable[[Finished], None]


def run_batch(
    batch: Batch, crew: Callable[[], AbstractContextManager[Crew]], watch: Watch
) -> dict[str, Any]:
    """Register the rows of a batch, and write summary.csv and summary.html.

    Args:
        batch: What to do.
        crew: Opens the workers, once all is checked; leaving it ends them.
        watch: Called with each row that is finished.

    Returns:
        What `regcli batch --json` prints.

    Raises:
        RegcliError: Of the kind that fits, before anything is computed; see `check_batch` for what
            becomes of single rows.
    """
    tasks = make_plan(batch)
    _check_fresh(batch)
    spare_result(batch.out)
    names = [f"summary{suffix(batch.part)}{ending}" for ending in (".csv", ".html")]
    with (
        open_outputs(batch.out, names, force=batch.resume or batch.common.force) as folder,
        open_journal(batch.out, batch.part) as journal,
    ):
        for name in names:  # of an earlier run, whose results go one by one
            (batch.out / name).unlink(missing_ok=True)
        run = _Run(batch, journal, read_history(batch.out), watch)
        todo = run.sift(tasks)
        if todo:
            with crew() as workers:
                run.work(todo, workers)
        finished = [(task, run.finished[task.row]) for task in tasks]
        record = write_summary(batch, finished, [folder.stage(name) for name in names])
        folder.commit(names)
    return record


def check_batch(record: dict[str, Any]) -> None:
    """Raise what went wrong with rows of a batch that was written.

    Raises:
        BatchError: If rows failed.
    """
    failed = [row for row in record["rows"] if row["exit_code"]]
    if failed:
        first = failed[0]
        raise BatchError(
            f"{len(failed)} of {len(record['rows'])} rows failed. Row {first['row']}: "
            f"{first['cause']}",
            f"See {record['outputs']['csv']}; mend them and run again with --resume.",
        )


def _check_fresh(batch: Batch) -> None:
    if overlapping(batch.out, batch.part) and not (batch.resume or batch.common.force):
        raise OutputError(
            f"{batch.out} holds a batch already.",
            "Give --resume to go on with it, --force to do it anew, or another folder with -o.",
        )


@dataclass(frozen=True)
class _Run:
    """The state of a running batch."""

    batch: Batch
    journal: Journal
    history: History
    watch: Watch
    finished: dict[int, Outcome] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)  # rows that are tried once more, alone

    def sift(self, tasks: list[Task]) -> list[Task]:
        """The rows that have to be done: neither impossible nor done before."""
        todo = []
        known: dict = {}  # images that rows share are read once
        with ThreadPoolExecutor(cores()) as pool:
            earlier = pool.map(lambda task: self._earlier(task, known), tasks)
            for task, outcome in zip(tasks, earlier, strict=True):
                if outcome is not None:
                    self._finish(task, outcome, earlier=True)
                elif task.problem is not None:
                    self._fail(task, failure(task.problem))
                else:
                    todo.append(self._owned(task))
        return todo

    def work(self, todo: list[Task], crew: Crew) -> None:
        """Do the rows, as many at a time as workers and memory allow."""
        running: dict[Future[Outcome], Task] = {}
        while todo or running:
            while task := self._next(todo, list(running.values()), crew):
                todo.remove(task)
                self.journal.write("begin", row=task.row, out=task.name)
                running[crew.executor.submit(crew.row, task.job, crew.threads)] = task
            ended, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in ended:
                task = running.pop(future)
                outcome, lost = _outcome(future)
                crowded = outcome.code == MemoryShortageError.code and bool(running)
                if lost:
                    sweep(task.job.out)
                if (lost or crowded) and task.row not in self.again:
                    self.again.add(task.row)
                    todo.append(self._retried(task))
                elif outcome.code:
                    self._fail(task, outcome)
                else:
                    self._done(task, outcome)

    def _next(self, todo: list[Task], running: list[Task], crew: Crew) -> Task | None:
        """A row that may begin now; one that is tried again does so alone."""
        if len(running) >= max(1, crew.size()) or any(t.row in self.again for t in running):
            return None
        used = sum(task.memory for task in running)
        for task in todo:
            alone = task.row in self.again
            if not running or (
                not alone and (crew.memory is None or used + task.memory <= crew.memory)
            ):
                return task
        return None

    def _earlier(self, task: Task, known: dict) -> Outcome | None:
        """The outcome of an earlier run, if it is complete and would be the same."""
        entry = self.history.done.get(task.name)
        if not self.batch.resume or task.problem is not None or entry is None:
            return None
        try:
            same = entry["key"] == fingerprint(task.job, known)
            whole = same and entry["files"] == digests(task.job)
            kept = {name: entry[name] for name in ("key", "files", "picture")}
            return Outcome(**kept) if whole else None
        except (RegcliError, KeyError):
            return None

    def _owned(self, task: Task) -> Task:
        """The task, which may replace what a batch left in its folder."""
        own = self.batch.resume and task.name in self.history.begun
        return _replacing(task) if own else task

    def _retried(self, task: Task) -> Task:
        """The task, which may replace what its worker left when it was lost."""
        return task if (task.job.out / SIDECAR).exists() else _replacing(task)

    def _done(self, task: Task, outcome: Outcome) -> None:
        kept = {"key": outcome.key, "files": outcome.files, "picture": outcome.picture}
        self.journal.write("done", row=task.row, out=task.name, **kept)
        self._finish(task, outcome, earlier=False)

    def _fail(self, task: Task, outcome: Outcome) -> None:
        said = {"code": outcome.code, "cause": outcome.cause, "remedy": outcome.remedy}
        self.journal.write("failed", row=task.row, out=task.name, **said, details=outcome.details)
        self._finish(task, outcome, earlier=False)

    def _finish(self, task: Task, outcome: Outcome, *, earlier: bool) -> None:
        self.finished[task.row] = outcome
        self.watch(Finished(task, outcome, earlier))


def _replacing(task: Task) -> Task:
    """The task, for a folder that a batch wrote to: what was cut short there is removed."""
    if not (task.job.out / SIDECAR).exists():
        for name in NAMES[task.job.naming].values():
            (task.job.out / name).unlink(missing_ok=True)
    return replace(task, job=replace(task.job, force=True))


def _outcome(future: Future[Outcome]) -> tuple[Outcome, bool]:
    """The outcome of a row, and whether its worker died."""
    try:
        return future.result(), False
    except WorkerLostError as error:
        return _loss(error.code), True
    except Exception as error:  # of Dask: the worker is gone, or cannot run regcli
        cause = f"The worker failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}."
        return Outcome(1, cause, "See what the workers print; all need the same regcli."), True


def _loss(code: int | None) -> Outcome:
    if code == -signal.SIGKILL:
        cause = "The worker was killed, as the system does when memory runs out."
        return Outcome(
            MemoryShortageError.code, cause, "Use fewer workers (-j), or crop the images."
        )
    how = f"by signal {-code}" if code and code < 0 else f"with exit code {code}"
    remedy = "Run the row by regcli register and report what it prints."
    return Outcome(1, f"The worker ended {how}.", remedy)
