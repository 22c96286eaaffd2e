"""sweep_files: one pair registered once per value of a recipe field, and what that trades."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import regcli
from regcli.commands.record import spare_result
from regcli.commands.register.inputs import Inputs, read_inputs
from regcli.commands.register.job import Job
from regcli.commands.register.run import check_room, checked, register_files, spare_inputs
from regcli.commands.sweep.picture import draw_tradeoff
from regcli.commands.sweep.table import write_table
from regcli.errors import GateError, RecipeError, RegcliError
from regcli.evaluate.report import check_gate
from regcli.io.outputs import open_outputs
from regcli.machine import choose_device
from regcli.recipe import RegisterRecipe
from regcli.registration.checks import check_pair
from regcli.registration.model_choice import resolve_method
from regcli.registration.priors import Priors

FILES = {"csv": "sweep.csv", "png": "sweep.png", "json": "sweep.json"}
_UNSAFE = re.compile(r"[^\w.=+-]")  # in the name of a folder
# Keys of a registration's record that the record of the sweep repeats.
_KEPT = (
    *("metric", "weights", "similarity", "jacobian", "inverse", "labels", "points"),
    *("seconds", "stopped", "warnings", "verdict"),
)

Shown = Callable[[str], AbstractContextManager[Callable[[str, float], None]]]


@dataclass(frozen=True)
class Sweep:
    """Registrations of one pair that differ in one field of their recipes.

    Attributes:
        job: What they share; its folder is to hold theirs, its recipe is not used.
        field: Of RegisterRecipe.
        recipes: By the value, as it was written.
    """

    job: Job
    field: str
    recipes: dict[str, RegisterRecipe]

    def jobs(self) -> dict[str, Job]:
        """Each registration, in a folder of its own.

        Raises:
            RecipeError: If two values would have the same folder.
        """
        jobs: dict[str, Job] = {}
        for value, recipe in self.recipes.items():
            out = self.job.out / _UNSAFE.sub("_", f"{self.field}={value}")
            if out in [job.out for job in jobs.values()]:
                raise RecipeError(
                    f"Two values of --sweep {self.field} would be written to {out}.",
                    "Leave one of them out, or rename the file that it names.",
                )
            jobs[value] = replace(self.job, out=out, recipe=recipe)
        return jobs


@dataclass(frozen=True)
class Swept:
    """The outcome of a sweep.

    Attributes:
        record: What sweep.json holds.
        reports: What regcli.json holds, by value.
        errors: Of the values whose registration came to nothing.
    """

    record: dict[str, Any]
    reports: dict[str, dict[str, Any]]
    errors: dict[str, RegcliError]


def sweep_files(sweep: Sweep, shown: Shown) -> Swept:
    """Register a pair once per value and write each result, then the table and its picture.

    A registration that fails does not keep the others from being done; see `check_sweep`.

    Args:
        sweep: What to do.
        shown: Called with each value; where its progress goes, while it is registered.

    Returns:
        What was found.

    Raises:
        RegcliError: Of the kind that fits, if something cannot be done with one of the values,
            before the first is registered; or if every registration failed.
    """
    jobs = _checked(sweep)
    out, force = sweep.job.out, sweep.job.force
    with open_outputs(out, FILES.values(), force=force) as folder:
        for job in jobs.values():
            with open_outputs(job.out, job.outputs().values(), force=force):
                pass
        inputs = read_inputs(next(iter(jobs.values())))
        for value, job in jobs.items():
            with _naming(sweep.field, value):
                _check(replace(job, out=out), inputs, len(jobs))
        for name in FILES.values():  # of an earlier sweep, whose results go one by one
            (out / name).unlink(missing_ok=True)
        found = _registered(sweep, jobs, inputs, shown)
        write_table(found.record, folder.stage(FILES["csv"]))
        draw_tradeoff(found.record, folder.stage(FILES["png"]))
        text = json.dumps(found.record, indent=1)
        folder.stage(FILES["json"]).write_text(text, encoding="utf-8")
        folder.commit(list(FILES.values()))
    return found


def check_sweep(swept: Swept) -> None:
    """Raise what went wrong with single values of a sweep that was written.

    Raises:
        RegcliError: The first error of a registration.
        GateError: If a result is as a gate says it must not be.
    """
    field = swept.record["field"]
    for value, error in swept.errors.items():
        with _naming(field, value):
            raise error
    failed = [row for row in swept.record["rows"] if row["gates"]]
    if failed:
        what = "; ".join(f"{field}={row['name']}: {' '.join(row['gates'])}" for row in failed)
        raise GateError(
            f"{len(failed)} of {len(swept.record['rows'])} values failed. {what}",
            "The files were written; look at them before using them.",
        )


def _registered(sweep: Sweep, jobs: dict[str, Job], inputs: Inputs, shown: Shown) -> Swept:
    """Every registration done, or the first error if none could be."""
    reports: dict[str, dict[str, Any]] = {}
    errors: dict[str, RegcliError] = {}
    for value, job in jobs.items():
        with shown(value) as progress:
            try:
                # its gates would hide the report
                reports[value] = register_files(replace(job, fail_on=()), progress, inputs)
            except RegcliError as error:
                errors[value] = error
    if not reports:
        raise next(iter(errors.values()))
    first = next(iter(reports.values()))
    record = {
        "version": regcli.__version__,
        "command": shlex.join(sweep.job.command),
        "field": sweep.field,
        "fixed": first["fixed"],
        "moving": first["moving"],
        "outputs": {kind: str(sweep.job.out / name) for kind, name in FILES.items()},
        "rows": [
            {"name": value, "value": job.recipe.to_dict()[sweep.field]}
            | (_row(job, reports[value]) if value in reports else _failure(errors[value]))
            for value, job in jobs.items()
        ],
    }
    return Swept(record, reports, errors)


def _row(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """The row of a registration."""
    gates = []
    for gate in job.fail_on:
        try:
            check_gate(report, gate)
        except GateError as error:
            gates.append(error.cause)
    kept = {key: report[key] for key in _KEPT}
    return {"folder": str(job.out)} | kept | {"gates": gates, "error": None}


def _failure(error: RegcliError) -> dict[str, Any]:
    """The row of a registration that failed."""
    verdict = {"status": "FAIL", "reasons": [error.cause]}
    empty: dict[str, Any] = dict.fromkeys(("folder", *_KEPT))
    return empty | {"warnings": [], "verdict": verdict, "gates": [], "error": error.cause}


def _checked(sweep: Sweep) -> dict[str, Job]:
    """The registrations, once their options and the names they write are in order."""
    if sweep.job.log is not None:
        raise RecipeError(
            "--log takes one registration, and --sweep makes several.",
            "Leave it out: each folder has a regcli.log.",
        )
    jobs: dict[str, Job] = {}
    for value, job in sweep.jobs().items():
        with _naming(sweep.field, value):
            jobs[value] = checked(job)
    spare_inputs(replace(next(iter(jobs.values())), out=sweep.job.out), FILES.values())
    spare_result(sweep.job.out)
    return jobs


def _check(job: Job, inputs: Inputs, results: int) -> None:
    """Refuse now what `register` would refuse: weights, device, images or room that do not fit."""
    fixed, moving, recipe = inputs.fixed.image, inputs.moving.image, job.recipe
    check_pair(fixed, moving, inputs.masks, recipe.init)
    rigidity = None if inputs.rigidity is None else inputs.rigidity.image.data
    priors = Priors(prompts=inputs.prompts(recipe), rigidity=rigidity)
    resolve_method(recipe, priors, fixed.space, choose_device(recipe.device))
    check_room(job, inputs, results)


@contextmanager
def _naming(field: str, value: str) -> Iterator[None]:
    """Errors that say with which value they came."""
    try:
        yield
    except RegcliError as error:
        raise type(error)(f"--sweep {field}={value}: {error.cause}", error.remedy) from error
