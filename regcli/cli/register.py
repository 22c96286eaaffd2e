"""regcli register."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from regcli import recipe as recipes
from regcli.cli.common import Verbosity, make_recipe, parse_frame, print_paths, progress
from regcli.errors import InputError, RecipeError

EXAMPLES = """Examples:

  regcli register fixed.nii.gz moving.nii.gz -o out/

  regcli register t1.nii.gz t2.nii.gz --transform rigid -o rigid/

  regcli register a.nii.gz b.nii.gz --transform freeform --smoothness 2 --fail-on "folds>0.1%"

Files in OUT: warped, warp, inverse_warp, jacobian (.nii.gz), affine.mat, composite.h5,
inverse_composite.h5, regcli.json, regcli.log. Exit codes: 2 usage, 3 input, 4 output exists,
5 memory, 6 --fail-on, 130 interrupted."""

PointSpaceName = Literal["ras", "lps", "voxel"]
Naming = Literal["regcli", "ants"]
InterpolationName = Literal["auto", "linear", "nearest", "label", "cubic"]
_WHAT, _HOW, _IN, _RUN = "What to do", "How to do it", "What is known", "How to run"


def register(
    fixed: Annotated[Path, typer.Argument(help="The image that stays: NIfTI, MHA, NRRD or MGZ.")],
    moving: Annotated[Path, typer.Argument(help="The image that is carried onto it.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder, created. Default MOVING_to_FIXED/."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="auto or classical.", rich_help_panel=_WHAT)
    ] = None,
    transform: Annotated[
        str | None,
        typer.Option(
            help="diffeo (default), freeform, affine, similarity, rigid or translation.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="auto, none (aligned already: no linear stage), header, moments, or a file.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, lncc, ssd, ncc, mi or mind, as NAME:option=value; repeat it to add some.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    regularizer: Annotated[
        str | None, typer.Option(help="diffusion[:weight=X].", rich_help_panel=_WHAT)
    ] = None,
    smoothness: Annotated[
        float | None,
        typer.Option(help="Factor of the regularization; 1 is normal.", rich_help_panel=_WHAT),
    ] = None,
    iterations: Annotated[
        str | None,
        typer.Option(help="Most steps per level, like 100x50x20.", rich_help_panel=_HOW),
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="Shrink factors, like 4x2x1.", rich_help_panel=_HOW)
    ] = None,
    tol: Annotated[
        float | None,
        typer.Option(help="Stop when a step gains less, relatively.", rich_help_panel=_HOW),
    ] = None,
    interp: Annotated[
        InterpolationName | None,
        typer.Option(help="Of warped: label for codes, else linear.", rich_help_panel=_HOW),
    ] = None,
    fixed_mask: Annotated[
        Path | None,
        typer.Option(help="What counts in the loss, on FIXED's grid.", rich_help_panel=_IN),
    ] = None,
    moving_mask: Annotated[
        Path | None, typer.Option(help="Likewise, on MOVING's grid.", rich_help_panel=_IN)
    ] = None,
    fixed_labels: Annotated[
        Path | None,
        typer.Option(help="Label map; with both, Dice and HD95 are given.", rich_help_panel=_IN),
    ] = None,
    moving_labels: Annotated[
        Path | None, typer.Option(help="Label map.", rich_help_panel=_IN)
    ] = None,
    fixed_points: Annotated[
        Path | None,
        typer.Option(help="CSV x,y,z in mm; with both, the TRE is given.", rich_help_panel=_IN),
    ] = None,
    moving_points: Annotated[
        Path | None, typer.Option(help="CSV, rows as in --fixed-points.", rich_help_panel=_IN)
    ] = None,
    points_space: Annotated[
        PointSpaceName, typer.Option(help="Of the points.", rich_help_panel=_IN)
    ] = "ras",
    frame: Annotated[
        str | None,
        typer.Option(help="Of 4-D images: a number from 0, or mean.", rich_help_panel=_IN),
    ] = None,
    write: Annotated[
        str | None,
        typer.Option(help="Besides: inverse_warped,log_jacobian,learn2reg.", rich_help_panel=_RUN),
    ] = None,
    naming: Annotated[
        Naming, typer.Option(help="ants: 1Warp.nii.gz and so on.", rich_help_panel=_RUN)
    ] = "regcli",
    config: Annotated[
        Path | None,
        typer.Option(help="Recipe: TOML, or an earlier regcli.json.", rich_help_panel=_RUN),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(recipes.PRESETS)}.", rich_help_panel=_RUN),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_RUN)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Default all cores.", rich_help_panel=_RUN)
    ] = None,
    seed: Annotated[int | None, typer.Option(rich_help_panel=_RUN)] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option("--deterministic", help="The same bits every time.", rich_help_panel=_RUN),
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=0, help="Seconds; then the best so far.", rich_help_panel=_RUN)
    ] = 0,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help="Exit 6 if so, like 'folds>0.1%'.", rich_help_panel=_RUN),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier result.", rich_help_panel=_RUN)
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print regcli.json.", rich_help_panel=_RUN)
    ] = False,
    log: Annotated[
        Path | None, typer.Option(help="Write the log here too.", rich_help_panel=_RUN)
    ] = None,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Errors only.", rich_help_panel=_RUN)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Every level.", rich_help_panel=_RUN)
    ] = False,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="No bars.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Find the map that carries MOVING onto FIXED, and write it with the warped image."""
    verbosity = Verbosity.of(quiet, verbose)
    flags = {
        "model": model,
        "transform": transform,
        "init": init,
        "metric": None if metric is None else tuple(metric),
        "regularizer": regularizer,
        "smoothness": smoothness,
        "iterations": None if iterations is None else recipes.numbers("iterations", iterations),
        "levels": None if levels is None else recipes.numbers("levels", levels),
        "tol": tol,
        "interpolation": interp,
        "device": device,
        "threads": threads,
        "seed": seed,
        "deterministic": deterministic,
    }
    recipe = make_recipe(config, preset, flags)
    for path in (fixed, moving):
        if not path.exists():
            raise InputError(f"{path} does not exist.", "Check the spelling of the path.")
    if log is not None and not log.parent.is_dir():
        raise RecipeError(f"--log: there is no folder {log.parent}.", "Create it first.")

    from regcli.job import Job
    from regcli.runs import register_files

    job = Job(
        fixed=fixed,
        moving=moving,
        out=out or Path(f"{_stem(moving)}_to_{_stem(fixed)}"),
        recipe=recipe,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        fixed_points=fixed_points,
        moving_points=moving_points,
        points_space=points_space,
        frame=parse_frame(frame),
        write=tuple(filter(None, (write or "").split(","))),
        naming=naming,
        force=force,
        time_limit=time_limit,
        fail_on=tuple(fail_on or ()),
        command=("regcli", *sys.argv[1:]),
    )
    verbosity.say(f"moving {moving} -> fixed {fixed}")
    with progress(verbosity, bars=not no_progress) as show:
        report = register_files(job, show)
    if log is not None:
        log.write_text(
            (job.out / job.outputs()["log"]).read_text(encoding="utf-8"), encoding="utf-8"
        )
    _tell(report, verbosity)
    if json_output:
        typer.echo(json.dumps(report, indent=1))
    else:
        print_paths(list(report["outputs"].values()))


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".nii.gz", ".mgh.gz"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return path.stem


def _tell(report: dict[str, Any], verbosity: Verbosity) -> None:
    """The result in a dozen lines."""
    for note in report["notes"]:
        verbosity.say(note)
    for level in report["solver"]:
        shape = "x".join(map(str, level["shape"]))
        end = "converged" if level["converged"] else "not converged"
        steps = f"{level['stage']} {shape}: {level['steps']} steps, {end}"
        verbosity.say(f"{steps}, energy x {level['residuals'][-1]:.4f}", level=2)
    similarity = report["similarity"]
    verbosity.say(
        "{name} {before:.3f} -> {linear:.3f} linear -> {after:.3f}".format(**similarity)
        + f", ncc {similarity['ncc']['before']:.3f} -> {similarity['ncc']['after']:.3f}"
    )
    if report["jacobian"]:
        jacobian = report["jacobian"]
        verbosity.say(
            f"folds {jacobian['folds_percent']:.3g} %, ndv {jacobian['ndv_percent']:.3g} %, "
            f"determinant {jacobian['min']:.2f} to {jacobian['max']:.2f}, "
            f"sdlogj {jacobian['sdlogj']:.2f}"
        )
    inverse = report["inverse"]
    verbosity.say(f"inverse error {inverse['mean_mm']:.3g} mm mean, {inverse['max_mm']:.3g} mm max")
    if report["labels"]:
        verbosity.say(
            "Dice {before:.3f} -> {linear:.3f} -> {after:.3f}".format(**report["labels"]["dice"])
        )
    if report["points"]:
        verbosity.say(
            "TRE {before:.2f} -> {linear:.2f} -> {after:.2f} mm".format(
                **report["points"]["tre_mm"]
            )
        )
    for warning in report["warnings"]:
        verbosity.say(f"warning: {warning}")
    verdict = report["verdict"]
    reasons = " ".join(verdict["reasons"])
    verbosity.say(f"{verdict['status']} in {report['seconds']['total']:.1f} s. {reasons}".rstrip())
