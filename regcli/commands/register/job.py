"""Job: one pair of files and all that is asked of it, checked before anything is read."""

from dataclasses import dataclass, field
from pathlib import Path

from regcli.errors import OutputError, RecipeError
from regcli.evaluate.report import GATES, parse_gate
from regcli.io.points import PointSpace
from regcli.machine import check_threads
from regcli.recipe import INITS, RegisterRecipe
from regcli.registry import (
    FIXED_POINTS,
    REGULARIZERS,
    SIMILARITIES,
    TRANSFORMS,
    build,
)

NAMES = {
    "regcli": {
        "warped": "warped.nii.gz",
        "warp": "warp.nii.gz",
        "inverse_warp": "inverse_warp.nii.gz",
        "affine": "affine.mat",
        "composite": "composite.h5",
        "inverse_composite": "inverse_composite.h5",
        "jacobian": "jacobian.nii.gz",
        "inverse_warped": "inverse_warped.nii.gz",
        "log_jacobian": "log_jacobian.nii.gz",
        "learn2reg": "disp_learn2reg.nii.gz",
        "report": "report.html",
        "log": "regcli.log",
        "json": "regcli.json",
    }
}
NAMES["ants"] = NAMES["regcli"] | {
    "warped": "Warped.nii.gz",
    "warp": "1Warp.nii.gz",
    "inverse_warp": "1InverseWarp.nii.gz",
    "affine": "0GenericAffine.mat",
    "composite": "Composite.h5",
    "inverse_composite": "InverseComposite.h5",
    "inverse_warped": "InverseWarped.nii.gz",
}
EXTRAS = ("inverse_warped", "log_jacobian", "learn2reg")  # what --write may add
_DEFAULT = ("warped", "affine", "composite", "inverse_composite", "report", "log", "json")
_DEFORMABLE = ("warp", "inverse_warp", "jacobian")


@dataclass(frozen=True)
class Job:
    """One pair of files and all that is asked of it; the paths are checked by `register_files`.

    Attributes:
        fixed: Image.
        moving: Image.
        out: Folder of the result.
        recipe: What to do.
        fixed_mask: Image on the fixed grid, what counts in the loss; likewise moving_mask.
        moving_mask: See fixed_mask.
        smoothness_map: Image on the fixed grid, a factor of the regularization.
        fixed_labels: Label map on the fixed grid; with moving_labels, Dice and HD95 are reported.
        moving_labels: See fixed_labels.
        fixed_points: CSV; with moving_points, corresponding by row, the TRE is reported.
        moving_points: See fixed_points.
        points_space: Of both CSV files.
        frame: Which frame of 4-D images: a number from 0, or "mean".
        write: Of EXTRAS, what to write besides.
        naming: Of NAMES.
        force: Replace an earlier result.
        time_limit: Seconds after which the best map so far is taken; 0 for none.
        fail_on: Gates such as "folds>0.1%".
        log: Where regcli.log goes besides.
        command: As the user gave it, for regcli.json.
    """

    fixed: Path
    moving: Path
    out: Path
    recipe: RegisterRecipe = field(default_factory=RegisterRecipe)
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    smoothness_map: Path | None = None
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    points_space: PointSpace = "ras"
    frame: int | str | None = None
    write: tuple[str, ...] = ()
    naming: str = "regcli"
    force: bool = False
    time_limit: float = 0.0
    fail_on: tuple[str, ...] = ()
    log: Path | None = None
    command: tuple[str, ...] = ()

    def outputs(self) -> dict[str, str]:
        """File name of everything that will be written, by what it is."""
        kinds: list[str] = list(_DEFAULT)
        if not self.recipe.linear:
            kinds += _DEFORMABLE
        kinds += self.write
        return {kind: NAMES[self.naming][kind] for kind in NAMES[self.naming] if kind in kinds}


def check_options(job: Job) -> None:
    """Refuse options that do not exist, do not fit together or would have no effect.

    Raises:
        RecipeError: Naming what is allowed.
    """
    if job.naming not in NAMES:
        raise RecipeError(f"--naming '{job.naming}' does not exist.", f"Use {', '.join(NAMES)}.")
    for kind in job.write:
        if kind not in EXTRAS:
            raise RecipeError(
                f"--write '{kind}' does not exist.", f"Choose from {', '.join(EXTRAS)}."
            )
    for what in ("labels", "points"):
        given = [getattr(job, f"{side}_{what}") for side in ("fixed", "moving")]
        if any(given) and not all(given):
            raise RecipeError(
                f"Only one of --fixed-{what} and --moving-{what} was given.", "Give both or none."
            )
        if getattr(job.recipe, f"use_{what}") and not all(given):
            raise RecipeError(
                f"--use-{what} has no effect without {what}.",
                f"Give --fixed-{what} and --moving-{what}; a recipe of --config names no files.",
            )
    job.recipe.check_compatible(() if job.smoothness_map is None else ("smoothness_map",))
    points = [path for path in (job.fixed_points, job.moving_points) if path is not None]
    if job.points_space != "ras" and all(path.suffix.lower() == ".fcsv" for path in points):
        raise RecipeError(
            "--points-space has no effect without CSV points"
            + ("; .fcsv files say their own space." if points else "."),
            "Leave it out, or give --fixed-points and --moving-points as CSV.",
        )
    _check_recipe(job.recipe)
    if job.recipe.linear and "log_jacobian" in job.write:
        raise RecipeError(
            "--write log_jacobian: a linear transform has the same determinant everywhere.",
            "Leave it out, or choose a deformable one, such as diffeo.",
        )
    for gate in job.fail_on:
        _check_gate(gate, job)
    if job.log is not None:
        _check_log(job.log, job)


def _check_recipe(recipe: RegisterRecipe) -> None:
    """Build what the recipe names, so that a wrong option is found now."""
    build(TRANSFORMS, recipe.transform)
    build(FIXED_POINTS, recipe.solver)
    for spec in recipe.regularizers:
        build(REGULARIZERS, spec)
    for spec in recipe.metric:
        if spec != "auto":
            build(SIMILARITIES, spec)
    if recipe.linear and len(recipe.metric) > 1:
        raise RecipeError(
            f"--transform {recipe.transform} compares by one metric, not {len(recipe.metric)}.",
            "Give --metric once.",
        )
    if recipe.init not in INITS and not Path(recipe.init).exists():
        raise RecipeError(
            f"--init '{recipe.init}' is neither a file nor {', '.join(INITS)}.",
            "Check the spelling.",
        )
    check_threads(recipe.threads)


def _check_log(log: Path, job: Job) -> None:
    if not log.parent.is_dir() and log.parent != job.out:
        raise RecipeError(f"--log: there is no folder {log.parent}.", "Create it first.")
    if log.resolve() in {(job.out / name).resolve() for name in job.outputs().values()}:
        raise RecipeError(f"--log: {log} is written anyway.", "Leave it out, or name another file.")
    if log.exists() and not log.is_file():
        raise RecipeError(f"--log: {log} is not a file.", "Name another one.")
    if log.exists() and not job.force:
        raise OutputError(f"{log} exists already.", "Give --force, or another file by --log.")


def _check_gate(gate: str, job: Job) -> None:
    name = parse_gate(gate)[0]
    part = GATES[name][0][0]
    if part in ("labels", "points") and not getattr(job, f"fixed_{part}"):
        raise RecipeError(
            f"--fail-on '{gate}': {name} is not known without {part}.",
            f"Give --fixed-{part} and --moving-{part}.",
        )
    if part == "jacobian" and job.recipe.linear:
        raise RecipeError(
            f"--fail-on '{gate}': a linear transform has no {name}.",
            "Leave it out, or choose a deformable one, such as diffeo.",
        )
