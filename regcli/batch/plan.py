"""The plan of a batch: a task for each row, checked before anything is computed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regcli.batch.fingerprint import input_paths, weights_digest
from regcli.batch.journal import Part
from regcli.batch.table import Row
from regcli.commands.register.job import Job
from regcli.commands.register.run import checked, memory_needed
from regcli.errors import InputError, OutputError, RecipeError, RegcliError, WeightsError
from regcli.io.files import open_input
from regcli.io.images import read_header
from regcli.registration.model_choice import resolve_model

_MANY_LABELS = 100  # where it is not known how many drive a registration
_PROCESS_BYTES = 500 << 20  # of Python, torch and compiled loops
_OWN = ("journal", "summary")  # files of a batch, beside the rows' folders


@dataclass(frozen=True)
class Batch:
    """Many registrations, and how to go about them.

    Attributes:
        rows: Of the table.
        common: What they share; its folder is to hold theirs, its images are not used.
        part: Do rows I, I + N, ... alone; None for all.
        resume: Leave rows alone that are done already.
    """

    rows: Sequence[Row]
    common: Job
    part: Part | None = None
    resume: bool = False

    @property
    def out(self) -> Path:
        """Folder of the batch."""
        return self.common.out


@dataclass(frozen=True)
class Task:
    """A row to do.

    Attributes:
        row: Its number.
        name: Of its folder: relative to the batch's if it lies there.
        job: What to do.
        problem: Why it cannot be done, if that is known already.
        memory: Bytes that it may take.
    """

    row: int
    name: str
    job: Job
    problem: RegcliError | None = None
    memory: int = 0


def make_plan(batch: Batch) -> list[Task]:
    """A task for every row of the batch's part.

    Rows that cannot be done are found here, as far as that can be without computing.

    Raises:
        RecipeError: If rows would be written to one folder or to a wrong one, or if no row can be
            done with the options.
        WeightsError: If the weights cannot be used.
        OutputError: If a row would overwrite what another one reads.
    """
    common = replace(batch.common, recipe=resolve_model(batch.common.recipe))
    weights_digest(common)  # they are there, and whole
    tasks = [_task(row, common) for row in batch.rows]
    _check_folders(tasks)
    _check_nested(tasks)
    _check_inputs(tasks)
    first, step = batch.part or (1, 1)
    tasks = [_examined(task) for task in tasks[first - 1 :: step]]
    _check_faults([task.problem for task in tasks])
    return tasks


def _check_faults(problems: list[RegcliError | None]) -> None:
    """Raise what is wrong with the options, where no row whose files are there can be done."""
    own = [p for p in problems if not isinstance(p, InputError) or isinstance(p, WeightsError)]
    if own and all(isinstance(problem, RecipeError | WeightsError) for problem in own):
        assert own[0] is not None
        raise own[0]


def _task(row: Row, common: Job) -> Task:
    folder, out = _normal(common.out), _normal(common.out / row.out)
    inside = out.is_relative_to(folder)
    if not inside and not Path(row.out).is_absolute():
        raise RecipeError(
            f"Row {row.number} would be written to {out}, outside of {folder}.",
            "Give an absolute path in column out if that is meant.",
        )
    name = out.relative_to(folder).as_posix() if inside else str(out)
    if name == "." or (name.startswith(_OWN) and "." in name):
        raise RecipeError(
            f"Row {row.number} would be written to {out}, where files of the batch are.",
            "Name another folder in column out.",
        )
    problem = InputError(row.problem, "Correct the row.") if row.problem else None
    return Task(row.number, name, replace(common, **row.files, out=out), problem)


def _normal(path: Path) -> Path:
    """The path without '.' and '..'; links are left as they are."""
    return Path(os.path.normpath(path.absolute()))


def _check_folders(tasks: list[Task]) -> None:
    owners: dict[Path, int] = {}
    for task in tasks:
        owner = owners.setdefault(task.job.out.resolve(), task.row)
        if owner != task.row:
            raise RecipeError(
                f"Rows {owner} and {task.row} would both be written to {task.job.out}.",
                "Give each row a folder of its own in column out.",
            )


def _check_nested(tasks: list[Task]) -> None:
    """Refuse a folder within another row's: replacing the outer one would touch the inner one."""
    owners = {task.job.out.resolve(): task.row for task in tasks}
    for path, row in owners.items():
        for above in path.parents:
            if above in owners:
                raise RecipeError(
                    f"Row {row} would be written to {path}, within the folder of row "
                    f"{owners[above]}.",
                    "Give rows folders beside each other in column out.",
                )


def _check_inputs(tasks: list[Task]) -> None:
    """Refuse to write in one row what another one reads."""
    read = {path.resolve(): task.row for task in tasks for path in input_paths(task.job).values()}
    for task in tasks:
        for name in task.job.outputs().values():
            path = (task.job.out / name).resolve()
            if path in read and read[path] != task.row:
                raise OutputError(
                    f"Row {task.row} would overwrite {path}, which row {read[path]} reads.",
                    "Name another folder in column out.",
                )


def _examined(task: Task) -> Task:
    """The task with its needs, or with what is wrong with it."""
    if task.problem is not None:
        return task
    try:
        for path in input_paths(task.job).values():
            open_input(path).close()
        job = checked(task.job)
        voxels = [read_header(path).space.shape for path in (job.fixed, job.moving)]
    except RegcliError as error:
        return replace(task, problem=error)
    (i, j, k), (p, q, r) = voxels
    memory = memory_needed(i * j * k, p * q * r, job.recipe, _MANY_LABELS) + _PROCESS_BYTES
    return replace(task, job=job, memory=memory)
