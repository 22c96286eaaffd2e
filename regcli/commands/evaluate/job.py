"""Evaluation: what to compare with what, and what of it makes no sense."""

from dataclasses import dataclass
from pathlib import Path

from regcli.errors import RecipeError
from regcli.evaluate.report import GATES, parse_gate
from regcli.io.points import PointSpace

SIDES = ("fixed", "moved", "moving")


@dataclass(frozen=True)
class Evaluation:
    """All options of an evaluation; see `regcli evaluate --help`.

    Attributes:
        transforms: A result folder, a regcli.json, or ITK files in ANTs order; it carries
            whatever is "moving", and its folds are counted.
        fixed_labels: Label map; the others are compared on its grid.
        moved_labels: Carried already.
        moving_labels: To be carried by the transforms.
        fixed_points: CSV or .fcsv.
        moved_points: Carried to the fixed side already.
        moving_points: What the transforms should carry the fixed points to.
        points_space: Of CSV points.
        codes: Labels to compare; empty for all.
        warp: Result folder or file whose folds are counted, instead of the transforms'.
        mask: Where they are counted, on the warp's grid.
        out: Folder for OUTPUTS, or None.
        force: Replace what is there.
        fail_on: Gates such as "dice<0.7".
        command: For the record.
    """

    transforms: tuple[Path, ...] = ()
    fixed_labels: Path | None = None
    moved_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_points: Path | None = None
    moved_points: Path | None = None
    moving_points: Path | None = None
    points_space: PointSpace = "ras"
    codes: tuple[int, ...] = ()
    warp: Path | None = None
    mask: Path | None = None
    out: Path | None = None
    force: bool = False
    fail_on: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def check(job: Evaluation) -> None:
    """Refuse what is incomplete, contradicts itself, or would have no effect.

    Raises:
        RecipeError: Naming the option.
    """
    for what in ("labels", "points"):
        fixed, moved, moving = (getattr(job, f"{side}_{what}") for side in SIDES)
        if moved and moving:
            raise RecipeError(
                f"--moved-{what} and --moving-{what} were both given.", "Give one of them."
            )
        if bool(fixed) != bool(moved or moving):
            raise RecipeError(
                f"--fixed-{what} has nothing to be compared with."
                if fixed
                else f"--fixed-{what} is missing.",
                f"Give --fixed-{what} and --moved-{what}, or with -t --moving-{what}.",
            )
        if moving and not job.transforms:
            raise RecipeError(
                f"--moving-{what} needs a map.",
                f"Give -t OUT, or --moved-{what} if it carried them already.",
            )
    points = [path for path in (job.fixed_points, job.moved_points, job.moving_points) if path]
    if job.points_space != "ras" and all(path.suffix.lower() == ".fcsv" for path in points):
        raise RecipeError("--points-space has no effect without CSV points.", "Leave it out.")
    if job.codes and not job.fixed_labels:
        raise RecipeError("--labels has no effect without label maps.", "Give --fixed-labels.")
    if not (job.fixed_labels or points or job.warp or job.transforms):
        raise RecipeError(
            "There is nothing to evaluate.",
            "Give --fixed-labels and --moved-labels, points, --warp, -t or --l2r.",
        )
    measured = {
        "labels": job.fixed_labels,
        "points": points,
        "jacobian": job.warp or job.transforms,
    }
    for gate in job.fail_on:
        name = parse_gate(gate)[0]
        if not measured.get(GATES[name][0][0]):
            raise RecipeError(
                f"--fail-on '{gate}': {name} is not measured here.",
                "Give the labels, points or warp that it is measured on.",
            )
