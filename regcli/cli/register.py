"""regcli register."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from regcli import recipe as recipes
from regcli.cli.common import (
    Verbosity,
    emit,
    folder,
    make_recipe,
    option,
    print_paths,
    progress,
    weights_name,
)
from regcli.cli.jobs import make_job, recipe_flags
from regcli.cli.summary import tell
from regcli.cli.sweep import run_sweep, swept
from regcli.errors import GateError
from regcli.io.files import default_name, open_input

if TYPE_CHECKING:
    from regcli.commands.register.job import Job

EXAMPLES = """Examples:

  regcli register fixed.nii.gz moving.nii.gz -o out/

  regcli register t1.nii.gz t2.nii.gz --transform rigid -o rigid/

  regcli register a.nii.gz b.nii.gz --smoothness 2 --fail-on "folds>0.1%"

  regcli register a.nii.gz b.nii.gz --sweep smoothness=0.3,1,3 -o sweep/

Files in DIR: warped, warp, inverse_warp, jacobian (.nii.gz), affine.mat,
composite.h5, inverse_composite.h5, report.html, regcli.json, regcli.log.

Exit codes: 0 done, 2 usage, 3 input, 4 output exists, 5 memory, 6 --fail-on,
130 interrupted."""

PointSpaceName = Literal["ras", "lps", "voxel"]
Naming = Literal["regcli", "ants"]
InterpolationName = Literal["auto", "linear", "nearest", "label", "cubic"]
_WHAT, _HOW, _IN, _RUN = "What to do", "How to do it", "What is known", "How to run"


def register(
    fixed: Annotated[
        Path, typer.Argument(help="The image that stays: NIfTI, MHA, NRRD or MGZ.", metavar="FIXED")
    ],
    moving: Annotated[
        Path, typer.Argument(help="The image that is carried onto it.", metavar="MOVING")
    ],
    out: Annotated[
        Path | None,
        option(
            "Folder, created. Default MOVING_to_FIXED/.",
            "DIR",
            "-o",
            "--out",
            panel=_WHAT,
            parser=folder,
        ),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "auto, classical, dio (learned features) or deq (learned steps).", "NAME", panel=_WHAT
        ),
    ] = None,
    weights: Annotated[
        str | None,
        option(
            "Of dio or deq: a name (regcli weights list) or a file.",
            "NAME",
            panel=_WHAT,
            parser=weights_name,
        ),
    ] = None,
    transform: Annotated[
        str | None,
        option(
            "diffeo (default), freeform, svf, geodesic, bspline, affine, similarity, rigid or "
            "translation.",
            "NAME",
            panel=_WHAT,
        ),
    ] = None,
    symmetric: Annotated[
        bool | None,
        option(
            "Move both images, to half-way; swapped ones give the inverse.",
            "",
            "--symmetric",
            panel=_WHAT,
        ),
    ] = None,
    init: Annotated[
        str | None,
        option(
            "auto, none (aligned already: no linear stage), header, moments, or a file: affine, "
            "warp, composite, or an earlier DIR.",
            "NAME",
            panel=_WHAT,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        option(
            "auto, lncc, ssd, ncc, mi, mind or module:Class; NAME:weight=X; repeat it to add some.",
            "NAME",
            panel=_WHAT,
        ),
    ] = None,
    regularizer: Annotated[
        list[str] | None,
        option(
            "auto (weak diffusion and volume; deq: its own), diffusion, bending, elastic, tv, "
            "volume, folding or module:Class; NAME:weight=X; repeat it to add some.",
            "NAME",
            panel=_WHAT,
        ),
    ] = None,
    smoothness: Annotated[
        float | None, option("Factor of the regularization; 1 is normal.", "X", panel=_WHAT)
    ] = None,
    smoothness_map: Annotated[
        Path | None, option("A further factor at each voxel of FIXED.", "FILE", panel=_WHAT)
    ] = None,
    restrict: Annotated[
        str | None,
        option("Axes of FIXED to deform along, like 1x1x0.", "NxNxN", panel=_WHAT),
    ] = None,
    iterations: Annotated[
        str | None, option("Most steps per level, like 100x50x20; deq: one.", "NxN", panel=_HOW)
    ] = None,
    levels: Annotated[str | None, option("Shrink factors, like 4x2x1.", "NxN", panel=_HOW)] = None,
    tol: Annotated[
        float | None,
        option("Stop when steps gain less, relatively; 0: automatic.", "X", panel=_HOW),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        option("Once per value, like smoothness=0.3,1,3.", "FIELD=V,V", panel=_HOW),
    ] = None,
    solver: Annotated[
        str | None,
        option("Of deq: picard (default), anderson or broyden.", "NAME", panel=_HOW),
    ] = None,
    diagnose: Annotated[
        bool | None,
        option("Of deq: say whether it ends in an equilibrium.", "", "--diagnose", panel=_HOW),
    ] = None,
    interp: Annotated[
        InterpolationName | None,
        option(
            "Of warped: auto (label for codes, else linear), linear, nearest, label, cubic.",
            "NAME",
            panel=_HOW,
        ),
    ] = None,
    fixed_mask: Annotated[
        Path | None, option("What counts in the loss, on FIXED's grid.", "FILE", panel=_IN)
    ] = None,
    moving_mask: Annotated[
        Path | None, option("Likewise, on MOVING's grid.", "FILE", panel=_IN)
    ] = None,
    fixed_labels: Annotated[
        Path | None, option("Label map; with both, Dice and HD95 are given.", "FILE", panel=_IN)
    ] = None,
    moving_labels: Annotated[Path | None, option("Label map.", "FILE", panel=_IN)] = None,
    fixed_points: Annotated[
        Path | None,
        option("CSV x,y,z or .fcsv; with both, the TRE is given.", "FILE", panel=_IN),
    ] = None,
    moving_points: Annotated[
        Path | None, option("Rows as in --fixed-points.", "FILE", panel=_IN)
    ] = None,
    use_labels: Annotated[
        bool | None, option("Labels drive the registration too.", "", "--use-labels", panel=_IN)
    ] = None,
    use_points: Annotated[
        bool | None, option("Points drive the registration too.", "", "--use-points", panel=_IN)
    ] = None,
    points_space: Annotated[
        PointSpaceName, option("Of CSV points: ras, lps (mm) or voxel.", "NAME", panel=_IN)
    ] = "ras",
    frame: Annotated[
        str | None, option("Of 4-D images: a number from 0, or mean.", "N", panel=_IN)
    ] = None,
    write: Annotated[
        str | None,
        option("Besides: inverse_warped, log_jacobian, learn2reg.", "A,B", panel=_RUN),
    ] = None,
    naming: Annotated[
        Naming, option("regcli, or ants: 1Warp.nii.gz and so on.", "NAME", panel=_RUN)
    ] = "regcli",
    config: Annotated[
        Path | None, option("Recipe: TOML, or an earlier regcli.json.", "FILE", panel=_RUN)
    ] = None,
    preset: Annotated[
        str | None, option(f"{', '.join(recipes.PRESETS)}.", "NAME", panel=_RUN)
    ] = None,
    device: Annotated[
        str | None, option("auto, cpu, cuda, cuda:N or mps.", "NAME", panel=_RUN)
    ] = None,
    threads: Annotated[int | None, option("Default all cores.", "N", panel=_RUN, least=1)] = None,
    seed: Annotated[int | None, option("Of everything random.", "N", panel=_RUN)] = None,
    deterministic: Annotated[
        bool | None, option("The same bits every time.", "", "--deterministic", panel=_RUN)
    ] = None,
    time_limit: Annotated[
        float, option("Seconds; then the best so far. Default none.", "S", panel=_RUN, least=0)
    ] = 0,
    fail_on: Annotated[
        list[str] | None, option("Exit 6 if so, like 'folds>0.1%'.", "GATE", panel=_RUN)
    ] = None,
    force: Annotated[bool, option("Replace an earlier result.", "", "--force", panel=_RUN)] = False,
    json_output: Annotated[bool, option("Print regcli.json.", "", "--json", panel=_RUN)] = False,
    log: Annotated[Path | None, option("Write the log here too.", "FILE", panel=_RUN)] = None,
    quiet: Annotated[bool, option("Errors only.", "", "-q", "--quiet", panel=_RUN)] = False,
    verbose: Annotated[bool, option("Every level.", "", "-v", "--verbose", panel=_RUN)] = False,
    no_progress: Annotated[bool, option("No bars.", "", "--no-progress", panel=_RUN)] = False,
) -> None:
    """Find the map that carries MOVING onto FIXED, and write it with the warped image."""
    asked = dict(locals())  # by parameter, as other commands that register give them
    verbosity = Verbosity.of(quiet, verbose)
    flags = recipe_flags(asked)
    field, choices = swept(sweep, config, preset, flags) if sweep else ("", {})
    recipe = next(iter(choices.values())) if choices else make_recipe(config, preset, flags)
    for path in (fixed, moving):
        open_input(path).close()

    from regcli.commands.register.run import register_files

    out = out or Path(default_name(fixed, moving))
    job = make_job(asked, recipe, fixed=fixed, moving=moving, out=out)
    if choices:
        run_sweep(job, field, choices, verbosity, bars=not no_progress, as_json=json_output)
        return
    failed = None
    with progress(verbosity, bars=not no_progress) as show:
        try:
            report = register_files(job, _announced(show, job, verbosity))
        except GateError as error:  # the result is there all the same
            failed = error
            report = json.loads((job.out / job.outputs()["json"]).read_text(encoding="utf-8"))
    tell(report, verbosity)
    if json_output:
        emit(json.dumps(report, indent=1))
    else:
        print_paths(list(report["outputs"].values()))
    if failed:
        raise failed


def _announced(
    show: Callable[[str, float], None], job: "Job", verbosity: Verbosity
) -> Callable[[str, float], None]:
    """Progress that first says what is registered, once all inputs are known to be good."""
    said = False

    def report(stage: str, share: float) -> None:
        nonlocal said
        if not said and stage != "read":
            said = True
            verbosity.say(f"moving {job.moving} -> fixed {job.fixed}")
        show(stage, share)

    return report
