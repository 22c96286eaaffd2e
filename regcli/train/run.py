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
from regcli.io.cases import Cohort, read_cohort
from regcli.io.weights import facts as header
from regcli.io.weights import find, tensors
from regcli.machine import choose_device, settings
from regcli.models.weights import COARSEST_MM, FINEST_MM, Learned, assemble, network
from regcli.nets.base import fitting
from regcli.recipe import RegisterRecipe
from regcli.registry import ADJOINTS, NETWORKS, TRANSFORMS, build, parse
from regcli.train.card import card, environment
from regcli.train.loop import BEST, LAST, LOG, Watch, train
from regcli.train.pairs import Pairs
from regcli.train.picture import draw_losses
from regcli.train.plan import MOST_VOXELS, TrainPlan
from regcli.train.state import read_facts, write_text
from regcli.train.subjects import Subjects, read_subjects
from regcli.train.task import Task
from regcli.train.types import Types

RECORD, CARD, PICTURE = "train.json", "card.md", "loss.png"
_DENSE = ("diffeo", "freeform")
_CHANNELS = 16  # of features that no labels name
_SEEDS = 1 << 63


@dataclass(frozen=True)
class TrainJob:
    """A training and where its files are.

    Attributes:
        data: Folder, CSV or Learn2Reg JSON.
        run: Folder of the result.
        plan: What to do; its shape (0, 0, 0) means one that suits the data, its steps of learning
            types 0 if there are no labels.
        epochs: Steps through registrations, in rounds of all training cases; 0: as planned.
        synth: Images are drawn from label maps.
        validation: Names of cases to hold out; empty for a fifth.
        resume: Go on with the run that is in the folder.
        max_time: Seconds after which training stops, resumably; 0 for none.
        threads: 0 for all cores.
        deterministic: Whether to use only algorithms that repeat bit by bit.
        command: As the user gave it.
    """

    data: Path
    run: Path
    plan: TrainPlan = field(default_factory=TrainPlan)
    epochs: int = 0
    synth: bool = False
    validation: tuple[str, ...] = ()
    resume: bool = False
    max_time: float = 0.0
    threads: int = 0
    deterministic: bool = False
    command: tuple[str, ...] = ()


def train_files(
    job: TrainJob, progress: Callable[[str, float], None], tell: Callable[[str], None]
) -> Path:
    """Train, and leave weights, their card, a log and a picture of it.

    Args:
        job: What to do.
        progress: Called with a task and the share of it that is done.
        tell: Takes a line about every validation.

    Returns:
        The best weights' path.

    Raises:
        RegcliError: Of the kind that fits, before any computing.
    """
    _check(job)
    recipe = RegisterRecipe(threads=job.threads, deterministic=job.deterministic)
    with settings(recipe), torch.enable_grad():
        return _train(job, progress, tell)


def _train(
    job: TrainJob, progress: Callable[[str, float], None], tell: Callable[[str], None]
) -> Path:
    began = time.monotonic()
    if job.run.exists() and not job.run.is_dir():
        raise OutputError(f"{job.run} is not a folder.", "Name another one with -o.")
    cohort = read_cohort(
        job.data, validation=job.validation, share=0.2, least=2, labels_only=job.synth
    )
    subjects = read_subjects(cohort, synth=job.synth, progress=lambda s: progress("read", s))
    plan = _suited(job, subjects)
    start = _start(plan, _facts(plan, subjects))
    if start is not None:  # what suits those features
        plan = dataclasses.replace(plan, gains=start.gains, smoothness=start.smoothness)
    tasks, facts = _tasks(subjects, plan), _facts(plan, subjects)
    record = _record(job, cohort, plan) | {"codes": facts["codes"]}
    if job.resume:
        record = _begun(job.run, record)
    try:
        job.run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{job.run} cannot be made: {error.strerror}.", "Name another folder with -o."
        ) from error
    if not job.resume:  # what a run was begun with stays on record
        write_text(job.run / RECORD, json.dumps(record, indent=1))
    deadline = began + job.max_time if job.max_time else math.inf

    def finish() -> None:
        draw_losses(job.run / LOG, job.run / PICTURE)
        if (job.run / BEST).exists():
            write_text(job.run / CARD, card(record, read_facts(job.run / BEST)))

    def told(line: str) -> None:
        tell(line)
        finish()

    watch = Watch(lambda: time.monotonic() < deadline, told, progress)
    weights = None if start is None else start.net.state_dict()
    try:
        best = train(tasks, facts, plan, job.run, watch, weights)
        finish()
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


def _check(job: TrainJob) -> None:
    plan = job.plan
    if plan.seed >= _SEEDS:
        raise RecipeError(f"--seed {plan.seed} is too large.", f"Give one below {_SEEDS}.")
    parse(NETWORKS, plan.network)
    build(ADJOINTS, plan.adjoint)
    build(TRANSFORMS, plan.transform)
    if plan.transform.partition(":")[0] not in _DENSE:
        raise RecipeError(
            f"--transform {plan.transform}: features are trained with dense maps.",
            f"Use {' or '.join(_DENSE)}; registrations may use any other.",
        )
    if plan.adjoint.partition(":")[0] == "unroll":
        raise RecipeError(
            "--adjoint unroll does not differentiate the solver that registers.",
            "Use gn-ift, ift, phantom:steps=K or jfb; benchmarks/adjoints.py compares unroll.",
        )
    if not FINEST_MM < plan.spacing_mm < COARSEST_MM:
        raise RecipeError(
            f"--spacing {plan.spacing_mm:g} is not between {FINEST_MM:g} and {COARSEST_MM:g} mm.",
            "2 is normal for a brain.",
        )
    multiple = network(plan.network, 2).multiple
    fits = tuple(max(fitting(n, multiple), multiple + 1) for n in plan.shape)
    if any(plan.shape) and fits != plan.shape:
        raise RecipeError(
            f"--shape {'x'.join(map(str, plan.shape))} does not suit the network.",
            f"Use {'x'.join(map(str, fits))}: multiples of {multiple} and one more.",
        )
    for name in (RECORD, LAST, BEST, LOG, CARD, PICTURE):
        if (job.run / name).is_dir():
            raise OutputError(f"{job.run / name} is a folder.", "Move it, or name another -o.")
    there = any((job.run / name).exists() for name in (RECORD, LAST, BEST))
    if there and not job.resume:
        raise OutputError(f"{job.run} holds a training.", "Give --resume, or another folder by -o.")
    if job.resume and not there:
        raise InputError(f"{job.run} holds no training to go on with.", "Leave --resume out.")
    if job.resume and (job.run / BEST).exists() and not (job.run / LAST).exists():
        raise InputError(
            f"{job.run / LAST} is missing; beginning again would overwrite {BEST}.",
            f"Put it back, or take {BEST} elsewhere to begin again.",
        )


def _suited(job: TrainJob, subjects: Subjects) -> TrainPlan:
    """The plan with what depends on the machine and the data filled in."""
    device = choose_device(job.plan.device)
    precision = job.plan.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    plan = dataclasses.replace(job.plan, device=str(device), precision=precision)
    if job.epochs:
        steps = math.ceil(job.epochs * len(subjects.training) / plan.batch)
        plan = dataclasses.replace(plan, steps=steps)
    if subjects.words.count == 1:
        plan = dataclasses.replace(plan, warm_steps=0)
    if plan.warm_steps + plan.steps == 0:
        cause = "Without labels there is nothing to warm up with, and of other steps there are 0."
        if subjects.words.count > 1:
            cause = "With --warm-steps 0 and --steps 0 nothing is learned."
        raise InputError(cause, "Give --steps.")
    if plan.warm_steps and not subjects.validation:
        raise InputError("There is no case to validate with.", "Name some with --validation.")
    if plan.steps and not subjects.pairs:
        raise InputError(
            "There is no pair of cases to validate registrations with.",
            "Hold out two or more with --validation, or give --steps 0.",
        )
    if plan.steps and len(subjects.training) < 2:
        raise InputError("Registrations need two cases to train on.", "Add some.")
    if not any(plan.shape):
        plan = plan.holding(subjects.usual_mm)
    if not 0 < math.prod(plan.shape) <= MOST_VOXELS:
        raise InputError(
            f"Training volumes of more than {MOST_VOXELS:,} voxels take too much memory.",
            "Give a larger --spacing, or a smaller --shape.",
        )
    return plan


def _tasks(subjects: Subjects, plan: TrainPlan) -> list[Task[Any]]:
    tasks: list[Task[Any]] = []
    if plan.warm_steps:
        tasks.append(Types(subjects, plan))
    if plan.steps:
        tasks.append(Pairs(subjects, plan))
    return tasks


def _facts(plan: TrainPlan, subjects: Subjects) -> dict[str, Any]:
    """What a file of weights says about them at the start; see `models.weights.assemble`."""
    words = subjects.words
    return {
        "model": "dio",
        "network": plan.network,
        "channels": words.count if words.count > 1 else _CHANNELS,
        "spacing_mm": plan.spacing_mm,
        "gains": list(plan.gains),
        "smoothness": plan.smoothness,
        "codes": dict(zip(map(str, words.codes), words.types, strict=True)),
    }


def _start(plan: TrainPlan, facts: dict[str, Any]) -> Learned | None:
    """The weights to begin with."""
    if not plan.start:
        return None
    file = find(plan.start)
    begun = header(file.path)
    for key in ("network", "channels", "codes"):
        if begun.get(key) != facts[key]:
            raise InputError(
                f"--start {plan.start}: its {key} differ from what the data asks for.",
                "Leave --start out, or train on data with the same labels.",
            )
    return assemble(file.name, file.sha256, begun, tensors(file.path))


def _record(job: TrainJob, cohort: Cohort, plan: TrainPlan) -> dict[str, Any]:
    return {
        "command": list(job.command),
        "data": str(job.data),
        "synth": job.synth,
        "training": [case.name for case in cohort.training],
        "validation": [case.name for case in cohort.validation],
        "plan": dataclasses.asdict(plan),
        "drawing": dataclasses.asdict(plan.drawing),
        "environment": environment(),
    }


def _begun(run: Path, record: dict[str, Any]) -> dict[str, Any]:
    """What a run was begun with; going on with anything else is refused."""
    try:
        begun = json.loads((run / RECORD).read_text(encoding="utf-8"))
        plan = dict(begun["plan"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{run / RECORD} cannot be read.", "Train in another folder.") from error
    now = json.loads(json.dumps(record))
    if plan.keys() != now["plan"].keys() or begun.get("drawing") != now["drawing"]:
        begin = f" with --start {run / BEST}" if (run / BEST).exists() else ""
        raise InputError(
            f"{run} was begun by another version of regcli, which planned or drew other things.",
            f"Go on with that version, or train in another folder{begin}.",
        )
    for key in ("synth", "training", "validation", "codes", "plan"):
        if key in begun and begun[key] != now[key]:
            changed = key
            if key == "plan":
                changed = ", ".join(k for k in now[key] if plan.get(k) != now[key][k])
            raise RecipeError(
                f"--resume: {changed} differs from what {run} was begun with.",
                "Give the options of the first run (train.json has them), or another folder.",
            )
    return begun
