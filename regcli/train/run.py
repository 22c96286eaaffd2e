"""train_files: from files to weights: checked before, resumable after any kill."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from regcli.errors import InputError, OutputError, RecipeError
from regcli.io.cases import Cohort
from regcli.io.weights import find
from regcli.machine import choose_device, cores, fast_half, keep_memory, settings
from regcli.recipe import RegisterRecipe
from regcli.registration.features.model import COARSEST_MM, FINEST_MM
from regcli.train.checkpoint import read_facts, write_text
from regcli.train.data.subjects import Subjects, read_data
from regcli.train.distributed.rank import rank
from regcli.train.distributed.team import Team, joined
from regcli.train.gradients import Learner
from regcli.train.loop import BEST, LAST, LOG, Callbacks, train
from regcli.train.plan import MOST_VOXELS, TrainPlan, check_limits
from regcli.train.recipe import TrainRecipe
from regcli.train.record import RECORD, alone_in, continued, copy_state, ending, read_record
from regcli.train.report import card, draw_losses, environment
from regcli.train.training import refuse_ignored, training_of

CARD, PICTURE = "card.md", "loss.png"
_SEEDS = 1 << 63


@dataclass(frozen=True)
class TrainJob:
    """A training and where its files are.

    Attributes:
        data: Folder, CSV or Learn2Reg JSON.
        run: Folder of the result.
        plan: What to do; its shape (0, 0, 0) means one that suits the data, its steps of learning
            types 0 if there are no labels, its batch 0 what the run was begun with, or else one
            sample for each process.
        epochs: Steps through registrations, in rounds of all training cases; 0: as planned.
        synth: Images are drawn from label maps, where the recipe names no collections.
        recipe: Collections of DATA, and what is told apart in them; its settings are in the plan.
        validation: Names of cases to hold out; empty for a fifth.
        resume: Go on with the run that is in the folder.
        finish: Another run, of which a copy is to end: its rate falls to 0 in `plan.cool` steps.
        max_time: Seconds after which training stops, resumably; 0 for none.
        threads: Of each process; 0 for all cores, or its part of them.
        deterministic: Whether to use only algorithms that repeat bit by bit.
        command: As the user gave it.
    """

    data: Path
    run: Path
    plan: TrainPlan = field(default_factory=TrainPlan)
    epochs: int = 0
    synth: bool = False
    recipe: TrainRecipe = field(default_factory=TrainRecipe)
    validation: tuple[str, ...] = ()
    resume: bool = False
    finish: Path | None = None
    max_time: float = 0.0
    threads: int = 0
    deterministic: bool = False
    command: tuple[str, ...] = ()


def train_files(
    job: TrainJob, progress: Callable[[str, float], None], tell: Callable[[str], None]
) -> Path:
    """Train, and leave weights, their card, a log and a picture of it.

    All processes that torchrun started call this; the first one alone writes and tells.

    Args:
        job: What to do.
        progress: Called with an objective and the share of it that is done.
        tell: Takes a line about every validation.

    Returns:
        The best weights' path.

    Raises:
        RegcliError: Of the kind that fits, before any computing.
    """
    own = rank()
    keep_memory()
    # torchrun gives each process one thread unless it is told otherwise
    threads = job.threads or (max(1, cores() // own.beside) if own.count > 1 else 0)
    recipe = RegisterRecipe(threads=threads, deterministic=job.deterministic)
    with (
        settings(recipe),
        torch.enable_grad(),
        joined(own, job.plan.device) as team,  # first: whose peer ends from here on ends, too
    ):
        if own.first:
            return _train(job, team, progress, tell)
        _help(job, team, progress)
        return job.run / BEST


def _help(job: TrainJob, team: Team, progress: Callable[[str, float], None]) -> None:
    """The part of every process but the first."""
    cohort, subjects = _read(job, progress)
    plan, seen = team.told()
    if seen != _seen(cohort, subjects):
        raise InputError(
            f"{job.data} holds other cases for process {team.rank.number} than for the first.",
            "Give all machines the same data.",
        )
    training = training_of(plan.model)
    net = training.make_network(plan, subjects).to(plan.torch_device)
    Learner(training.objectives(plan, subjects), net, plan, team).help(progress)


def _train(
    job: TrainJob,
    team: Team,
    progress: Callable[[str, float], None],
    tell: Callable[[str], None],
) -> Path:
    began = time.monotonic()
    _check(job)
    begun = read_record(job.run) if job.resume else None
    if job.finish is not None:
        begun = ending(job.finish, job.plan)
    end = {} if begun is None else begun.get("end", {})
    plan = dataclasses.replace(job.plan, batch=_batch(job, begun, team.rank.count), **end)
    job = dataclasses.replace(job, plan=plan)
    cohort, subjects = _read(job, progress)
    training = training_of(job.plan.model)
    plan, weights = training.started(_completed(job, subjects), subjects)
    facts = training.facts(plan, subjects) | {"start": _origin(plan)}
    record = _record(job, plan, team) | _seen(cohort, subjects)
    record |= {"recipe": facts.get("recipe")}
    if begun is not None:
        record = continued(job.finish or job.run, begun, record)
    with alone_in(job.run):
        if job.finish is not None:
            copy_state(job.finish, job.run)
        if record != begun or job.finish is not None:  # what a run was begun with stays on record
            write_text(job.run / RECORD, json.dumps(record, indent=1))
        deadline = began + job.max_time if job.max_time else math.inf

        def told(line: str) -> None:
            tell(line)
            _show(job.run, record)

        callbacks = Callbacks(lambda: time.monotonic() < deadline, told, progress)
        objectives = training.objectives(plan, subjects)
        team.told((plan, _seen(cohort, subjects)))
        try:
            best = train(
                objectives,
                lambda: training.make_network(plan, subjects),
                facts,
                plan,
                job.run,
                callbacks,
                weights,
                team,
            )
            _show(job.run, record)
        except OSError as error:  # all that is read has been read
            raise OutputError(
                f"{job.run} cannot be written: {error.strerror}.",
                "Free some space, or mend the folder; then go on with --resume.",
            ) from error
        if not best.exists():
            raise InputError(
                f"{job.run} has no weights yet: the time ended before the first validation.",
                "Go on with --resume, or validate more often with --validate-every.",
            )
        return best


def _show(run: Path, record: dict[str, Any]) -> None:
    """Write what people look at: a picture of the losses, and the card of the best weights."""
    draw_losses(run / LOG, run / PICTURE)
    if (run / BEST).exists():
        write_text(run / CARD, card(record, read_facts(run / BEST)))


def _check(job: TrainJob) -> None:
    plan = job.plan
    if plan.seed >= _SEEDS:
        raise RecipeError(f"--seed {plan.seed} is too large.", f"Give one below {_SEEDS}.")
    if not FINEST_MM < plan.spacing_mm < COARSEST_MM:
        raise RecipeError(
            f"--spacing {plan.spacing_mm:g} is not between {FINEST_MM:g} and {COARSEST_MM:g} mm.",
            "2 is normal for a brain.",
        )
    check_limits(plan)
    training, usual = training_of(plan.model), TrainPlan()
    usual = dataclasses.replace(usual, **training.defaults)
    # a recipe for several models may hold others that one of them ignores
    chosen = {name: getattr(plan, name) for name in ("adjoint", "muted")}
    refuse_ignored(plan.model, {k: v for k, v in chosen.items() if v != getattr(usual, k)})
    training.check(plan)
    if job.run.exists() and not job.run.is_dir():
        raise OutputError(f"{job.run} is not a folder.", "Name another one with -o.")
    for name in (RECORD, LAST, BEST, LOG, CARD, PICTURE):
        if (job.run / name).is_dir():
            raise OutputError(f"{job.run / name} is a folder.", "Move it, or name another -o.")
    if job.finish is not None and job.finish.resolve() == job.run.resolve():
        raise RecipeError(f"--finish: {job.run} is the run itself.", "Name another folder by -o.")
    there = any((job.run / name).exists() for name in (RECORD, LAST, BEST))
    if there and not job.resume:
        raise OutputError(f"{job.run} holds a training.", "Give --resume, or another folder by -o.")
    for name in (RECORD, LAST, LOG):
        if job.finish is not None and not (job.finish / name).is_file():
            raise InputError(
                f"{job.finish} holds no training to finish: {name} is missing.",
                "Name the folder of one.",
            )
    if job.resume and not there:
        raise InputError(f"{job.run} holds no training to go on with.", "Leave --resume out.")
    if job.resume and (job.run / BEST).exists() and not (job.run / LAST).exists():
        raise InputError(
            f"{job.run / LAST} is missing; beginning again would overwrite {BEST}.",
            f"Put it back, or take {BEST} elsewhere to begin again.",
        )


def _completed(job: TrainJob, subjects: Subjects) -> TrainPlan:
    """The plan with what depends on the machine and the data filled in."""
    device = choose_device(job.plan.device)
    precision = job.plan.precision
    if precision == "auto":
        precision = "bf16" if fast_half(device) else "fp32"
    plan = dataclasses.replace(job.plan, device=str(device), precision=precision)
    if job.epochs:
        steps = math.ceil(job.epochs * len(subjects.training) / plan.batch)
        plan = dataclasses.replace(plan, steps=steps)
    plan = training_of(plan.model).completed(plan, subjects)
    if not any(plan.shape):
        plan = plan.holding(subjects.usual_mm)
    if not 0 < math.prod(plan.shape) <= MOST_VOXELS:
        raise InputError(
            f"Training volumes of more than {MOST_VOXELS:,} voxels take too much memory.",
            "Give a larger --spacing, or a smaller --shape.",
        )
    return plan


def _batch(job: TrainJob, begun: dict[str, Any] | None, count: int) -> int:
    """Samples a step: as asked for, as the run was begun with, or one for each process."""
    batch = job.plan.batch or (count if begun is None else begun["plan"]["batch"])
    if batch < count:
        raise RecipeError(
            f"{count} processes cannot share a --batch of {batch}.",
            f"Start {batch} of them, or give a new run a larger --batch.",
        )
    return batch


def _read(job: TrainJob, progress: Callable[[str, float], None]) -> tuple[Cohort, Subjects]:
    return read_data(
        job.data,
        job.recipe,
        synth=job.synth,
        validation=job.validation,
        progress=progress,
    )


def _seen(cohort: Cohort, subjects: Subjects) -> dict[str, Any]:
    """Cases and codes of the data, equal in all processes of a run and when it is resumed."""
    return {
        "training": [case.name for case in cohort.training],
        "validation": [case.name for case in cohort.validation],
        "codes": list(subjects.vocabulary.codes),
    }


def _record(job: TrainJob, plan: TrainPlan, team: Team) -> dict[str, Any]:
    return {
        "command": list(job.command),
        "data": str(job.data),
        "synth": job.synth or any(part.synth for part in job.recipe.collections),
        "collections": [dataclasses.asdict(part) for part in job.recipe.collections],
        "types": None if job.recipe.types is None else job.recipe.types.listed(),
        "plan": dataclasses.asdict(plan),
        "drawing": dataclasses.asdict(plan.drawing),
        "environment": environment() | {"processes": str(team.rank.count)},
    }


def _origin(plan: TrainPlan) -> str:
    """The origin of the weights, as their header states it."""
    if not plan.start:
        return ""
    file = find(plan.start)
    return f"{file.name} (sha256 {file.sha256[:16]})"
