"""regcli train."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from regcli.cli.common import (
    Verbosity,
    folder,
    listed,
    option,
    print_paths,
    progress,
    weights_name,
)
from regcli.errors import RecipeError
from regcli.train.distributed.rank import rank

EXAMPLES = """Examples:

  regcli train labels/ --synth -o run/

  regcli train labels/ --synth --model deq -o run/ --max-time 3600

  regcli train OASIS_dataset.json -o run/ --resume

  regcli train scans/ --recipe examples/recipes/dio-brain.toml -o run/

  torchrun --nproc-per-node 4 -m regcli train labels/ --synth -o run/

Models take options: --model deq:steps=48,levels=1,sigma=0,jacobian=0 and so on.

DATA is a folder of images with labels/, keypoints/ and masks/ beside it,
a CSV (image,labels,points,mask,split,name), or a Learn2Reg *_dataset.json.

Files in RUN: last and best.safetensors, card.md, train.csv, train.json,
loss.png. A run that was killed goes on with --resume, as if nothing had been."""

NetworkName = Literal["unet", "lku", "unet-e", "lku-e"]
Precision = Literal["auto", "fp32", "bf16"]
_WHAT, _HOW, _RUN = "What to learn", "How to learn", "How to run"


def train(
    data: Annotated[
        Path, typer.Argument(help="A folder, a CSV or a Learn2Reg JSON.", metavar="DATA")
    ],
    out: Annotated[Path, option("Folder, created.", "RUN", "-o", "--out", parser=folder)],
    synth: Annotated[
        bool, option("Draw images from the label maps.", "", "--synth", panel=_WHAT)
    ] = False,
    recipe: Annotated[
        Path | None,
        option("Settings, collections and types; flags win.", "FILE.toml", panel=_WHAT),
    ] = None,
    model: Annotated[
        str | None,
        option("dio (default), deq, unroll, voxelmorph, gradirn or riir.", "NAME", panel=_WHAT),
    ] = None,
    network: Annotated[
        NetworkName | None,
        option("Of dio: unet (default), lku, unet-e or lku-e.", "NAME", panel=_WHAT),
    ] = None,
    start: Annotated[
        str | None,
        option(
            "Weights to begin with: a name or a file.", "NAME", panel=_WHAT, parser=weights_name
        ),
    ] = None,
    spacing: Annotated[
        float | None, option("Voxel size to learn at, mm; default 2.", "X", panel=_WHAT)
    ] = None,
    shape: Annotated[
        str | None, option("Voxels of a sample, like 81x97x81.", "NxNxN", panel=_WHAT)
    ] = None,
    validation: Annotated[
        str | None, option("Cases to hold out; default a fifth.", "A,B", panel=_WHAT)
    ] = None,
    transform: Annotated[
        str | None, option("Of dio: diffeo (default) or freeform.", "NAME", panel=_HOW)
    ] = None,
    adjoint: Annotated[
        str | None,
        option("gn-ift (dio), phantom:steps=K,rate=X (deq), ift or jfb.", "NAME", panel=_HOW),
    ] = None,
    warm_steps: Annotated[
        int | None,
        option("Of dio: on the labels alone; default 6000.", "N", panel=_HOW, least=0),
    ] = None,
    steps: Annotated[
        int | None,
        option("Through registrations; default 600, or 3000 (not dio).", "N", panel=_HOW, least=0),
    ] = None,
    epochs: Annotated[
        int | None, option("The same, in rounds of all cases.", "N", panel=_HOW, least=1)
    ] = None,
    batch: Annotated[
        int | None, option("Samples a step; default 1 a process.", "N", panel=_HOW, least=1)
    ] = None,
    warm_lr: Annotated[
        float | None, option("Of --warm-steps; default 2e-2.", "X", panel=_HOW)
    ] = None,
    lr: Annotated[
        float | None, option("Of --steps; default 2e-4, or 3e-4 (not dio).", "X", panel=_HOW)
    ] = None,
    validate_every: Annotated[
        int | None, option("Steps; default 100.", "N", panel=_HOW, least=1)
    ] = None,
    cool: Annotated[
        int | None,
        option(
            "Steps in which the rate falls to 0 at the end; default 2000.",
            "N",
            panel=_HOW,
            least=1,
        ),
    ] = None,
    seed: Annotated[
        int | None, option("Of everything random; default 0.", "N", panel=_HOW, least=0)
    ] = None,
    max_time: Annotated[
        float, option("Seconds; then stop, resumably.", "S", panel=_RUN, least=0)
    ] = 0,
    resume: Annotated[bool, option("Go on with RUN.", "", "--resume", panel=_RUN)] = False,
    finish: Annotated[
        Path | None,
        option("A run: end a copy of it, in --cool steps.", "RUN", panel=_RUN, parser=folder),
    ] = None,
    device: Annotated[str, option("auto, cpu, cuda, cuda:N or mps.", "NAME", panel=_RUN)] = "auto",
    precision: Annotated[
        Precision | None, option("Of the network: auto, fp32 or bf16.", "NAME", panel=_RUN)
    ] = None,
    threads: Annotated[
        int | None, option("Default all cores, shared by processes.", "N", panel=_RUN, least=1)
    ] = None,
    deterministic: Annotated[
        bool, option("The same bits every time.", "", "--deterministic", panel=_RUN)
    ] = False,
    quiet: Annotated[bool, option("Errors only.", "", "-q", "--quiet", panel=_RUN)] = False,
    no_progress: Annotated[bool, option("No bars.", "", "--no-progress", panel=_RUN)] = False,
) -> None:
    """Train features or steps, and write weights that register --weights takes."""
    first = rank().first  # the others' work is told by it
    verbosity = Verbosity.of(quiet or not first, verbose=False)
    if steps is not None and epochs is not None:
        raise RecipeError("--steps and --epochs say the same.", "Give one of them.")
    if resume and finish is not None:
        raise RecipeError("--resume goes on with RUN, --finish ends a copy.", "Give one of them.")
    from regcli.train.recipe import TrainRecipe, read_train_recipe
    from regcli.train.training import refuse_ignored, training_of

    read = TrainRecipe() if recipe is None else read_train_recipe(recipe)
    _refuse_covered(read.collections, {"--synth": synth, "--validation": validation})
    model = model or str(read.settings.get("model", "dio"))
    training = training_of(model)
    of_dio: dict[str, Any] = {
        "network": network,
        "transform": transform,
        "warm_steps": warm_steps,
        "warm_rate": None if warm_lr is None else _positive("warm-lr", warm_lr),
    }
    defaults: dict[str, Any] = {"batch": 0, "shape": (0, 0, 0), "precision": "auto"}
    defaults |= training.defaults
    refuse_ignored(model, {k: v for k, v in of_dio.items() if v is not None})
    _refuse_idle(warm_steps, {"--warm-lr": warm_lr}, "--warm-steps 0")
    _refuse_idle(steps, {"--lr": lr, "--adjoint": adjoint, "--transform": transform}, "--steps 0")
    flags: dict[str, Any] = of_dio | {
        "start": start,
        "spacing_mm": None if spacing is None else _positive("spacing", spacing),
        "shape": None if shape is None else _shape(shape),
        "batch": batch,
        "seed": seed,
        "validate_every": validate_every,
        "cool": cool,
        "steps": steps,
        "adjoint": adjoint,
        "rate": None if lr is None else _positive("lr", lr),
        "precision": precision,
    }
    values: dict[str, Any] = (
        defaults | read.settings | {k: v for k, v in flags.items() if v is not None}
    )
    values |= {"model": model, "device": device}

    from regcli.train.plan import TrainPlan
    from regcli.train.run import TrainJob, train_files

    job = TrainJob(
        data=data,
        run=out,
        plan=TrainPlan(**values),
        epochs=epochs or 0,
        synth=synth,
        recipe=read,
        validation=listed("--validation", validation),
        resume=resume,
        finish=finish,
        max_time=max_time,
        threads=threads or 0,
        deterministic=deterministic,
        command=("regcli", *sys.argv[1:]),
    )
    with progress(verbosity, bars=not no_progress) as show:
        best = train_files(job, show, verbosity.say)
    if first:
        print_paths([str(best)])


def _refuse_covered(collections: tuple[Any, ...], flags: dict[str, Any]) -> None:
    """Refuse flags that say what the collections of a recipe say."""
    for flag, value in flags.items():
        if collections and value:
            raise RecipeError(
                f"{flag} has no effect where a recipe has collections.", "Say it there."
            )


def _refuse_idle(steps: int | None, of_steps: dict[str, Any], none: str) -> None:
    """Refuse options of steps of which there are to be none."""
    for flag, value in of_steps.items():
        if steps == 0 and value is not None:
            raise RecipeError(f"{flag} has no effect with {none}.", "Leave one of them out.")


def _positive(name: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise RecipeError(f"--{name} {value:g} is not a positive number.", "Give one above 0.")
    return value


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise RecipeError(f"--shape '{text}' is no shape.", "Write it like 81x97x81.")
    i, j, k = (int(part) for part in parts)
    return (i, j, k)
