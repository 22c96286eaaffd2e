"""The result of a registration, as a terminal shows it."""

from typing import Any

from regcli.cli.common import Verbosity


def tell(report: dict[str, Any], verbosity: Verbosity) -> None:
    """Say the result of a registration in a dozen lines.

    Args:
        report: What regcli.json holds.
        verbosity: Which of them are wanted.
    """
    for note in report["notes"]:
        verbosity.say(note)
    for level in report["solver"]:
        shape = "x".join(map(str, level["shape"]))
        end = "converged" if level["converged"] else "not converged"
        steps = f"{level['stage']} {shape}: {level['steps']} steps, {end}"
        verbosity.say(f"{steps}, {level['measure']} {level['residuals'][-1]:.4f}", level=2)
    similarity = report["similarity"]
    verbosity.say(
        f"{similarity['name']} {_steps(similarity)}, "
        f"ncc {similarity['ncc']['before']:.3f} -> {similarity['ncc']['after']:.3f}"
    )
    if report["jacobian"]:
        jacobian = report["jacobian"]
        verbosity.say(
            f"folds {jacobian['folds_percent']:.3g} %, ndv {jacobian['ndv_percent']:.3g} %, "
            f"determinant {jacobian['min']:.2f} to {jacobian['max']:.2f}, "
            f"sdlogj {jacobian['sdlogj']:.2f}"
        )
    if report["diagnosis"]:
        verbosity.say(_certificate(report["diagnosis"]))
    inverse = report["inverse"]
    verbosity.say(
        f"inverse error {inverse['mean_mm']:.2g} mm mean, {inverse['max_mm']:.2g} mm max; "
        f"there and back {inverse['round_trip_mean_mm']:.2g}, {inverse['round_trip_max_mm']:.2g}"
    )
    if report["labels"]:
        verbosity.say("Dice " + _steps(report["labels"]["dice"]))
        verbosity.say("HD95 " + _steps(report["labels"]["hd95_mm"], " mm"))
    if report["points"]:
        verbosity.say("TRE " + _steps(report["points"]["tre_mm"], " mm"))
    for warning in report["warnings"]:
        verbosity.say(f"warning: {warning}")
    verdict = report["verdict"]
    reasons = " ".join(verdict["reasons"])
    verbosity.say(f"{verdict['status']} in {report['seconds']['total']:.1f} s. {reasons}".rstrip())


def _steps(values: dict[str, Any], unit: str = "") -> str:
    """A number before, after the linear stage and at the end."""
    before, linear, after = (
        "?" if values[stage] is None else f"{values[stage]:.3f}"
        for stage in ("before", "linear", "after")
    )
    return f"{before} -> {linear} linear -> {after}{unit}"


def _certificate(diagnosis: dict[str, float]) -> str:
    return (
        f"spectral radius {diagnosis['spectral_radius']:.3f}, path independence "
        f"{diagnosis['path_independence_voxels']:.2g} voxels, residual "
        f"{diagnosis['residual_voxels']:.2g} (99 % below {diagnosis['p99_voxels']:.2g})"
    )
