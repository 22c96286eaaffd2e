"""The verdict: PASS, WARN or FAIL, and why in words, from the numbers of a registration.

Bounds come from runs at 2 mm and 1 mm on real brains and heads (`benchmarks/verdicts.py`): what is
as it should be passes all of them, and what was broken on purpose fails one at least.
"""

import math
from collections.abc import Iterator
from typing import Any

_TIE = 0.02  # a fall of the similarity that may mean nothing
# likewise for labels and points: resampling alone changes as much, where images match already
_TIE_DICE, _TIE_MM = 0.005, 0.1
_ALIKE = 0.9  # local correlation, or nats, of images that were aligned already
_FOLDS = 0.1  # per cent; learned registrations without a guarantee have 0.1 to 1
_HALF = 50.0  # per cent of the fixed foreground
_COVERED, _INSIDE = 95.0, 85.0  # per cent; fixed images are often cut closer
_OVERLAP, _OVERLAP_LINEAR = 87.0, 75.0  # per cent, of foregrounds: a linear map leaves more aside
_COUNTED = 10.0  # per cent of the foreground: less decides nothing about the rest
_TURN = 30.0  # degrees: more than heads are tilted in scanners
_SCALES = (0.7, 1.4)  # children's and large adults' brains lie between
_MIRRORED = 0.005  # by how much a mirrored pair must be more alike; of ties, one is always ahead
_ONE_CONTRAST = ("ssd", "ncc", "lncc")  # metrics that know no other
# Share by which another measure may get worse: interpolation alone changes a per cent or two. Right
# maps of real pairs gained 15 % at least by both; lncc across T1 and T2 lost half and doubled it.
_CONTRADICTED = 0.05
_SDLOGJ = 1.0  # of brains .4 to .7
_ROUND_TRIP = 0.3  # voxels
_RESIDUAL, _FALLING = 0.02, 0.01  # of a further step; of energy, by each of the last steps


def verdict(report: dict[str, Any], *, foldless: bool) -> dict[str, Any]:
    """PASS, WARN or FAIL, and why, from the numbers of a report.

    Args:
        report: What regcli.json holds.
        foldless: Whether a fold is a failure: the family of maps has none.
    """
    failures = [*_worse(report), *_broken(report, foldless=foldless)]
    doubts = [
        *_useless(report),
        *_mismatched(report),
        *_misplaced(report),
        *_contradicted(report),
        *_unfinished(report),
        *_distorted(report, foldless=foldless),
    ]
    status = "FAIL" if failures else "WARN" if doubts else "PASS"
    return {"status": status, "reasons": failures + doubts}


def _worse(report: dict[str, Any]) -> Iterator[str]:
    """Measures that got worse."""
    similarity, points = report["similarity"], report["points"]
    dice = report["labels"] and report["labels"]["dice"]
    if similarity["after"] < similarity["before"] - _TIE:
        yield "The images are less alike after the registration than before it."
    elif similarity["after"] < similarity["linear"] - _TIE:
        yield "The images are less alike than after the linear stage."
    if dice and 0 < dice["after"] < dice["before"] - _TIE_DICE:
        yield "Labels overlap less after the registration than before it."
    if points and points["tre_mm"]["after"] > points["tre_mm"]["before"] + _TIE_MM:
        yield "Points lie further apart after the registration than before it."


def _broken(report: dict[str, Any], *, foldless: bool) -> Iterator[str]:
    """Reasons to FAIL."""
    covered, jacobian = report["similarity"]["coverage_percent"], report["jacobian"]
    if covered < _HALF:
        yield f"Only {covered:.0f} % of the fixed foreground lies inside the moving image."
    if jacobian is not None and foldless and jacobian["folds_anywhere"]:
        yield f"The map folds at {jacobian['folds_anywhere']} voxels."


def _useless(report: dict[str, Any]) -> Iterator[str]:
    """Measures that did not improve."""
    similarity = report["similarity"]
    before, linear, after = (similarity[k] for k in ("before", "linear", "after"))
    # a linear map is its own linear stage
    best = before if report["jacobian"] is None else max(before, linear)
    worse = after < max(before, linear) - _TIE
    if after <= best < _ALIKE and not worse:
        start = "before it" if best == before else "after its linear stage"
        yield f"The images are no more alike after the registration than {start}."
    dice = report["labels"] and report["labels"]["dice"]
    if dice and dice["after"] == 0:
        yield "The labels do not overlap at all; they may not belong to the images."


def _mismatched(report: dict[str, Any]) -> Iterator[str]:
    """Signs of a pair that does not belong together."""
    shown, trust = report["foreground"], report["trust"]
    covered = report["similarity"]["coverage_percent"]
    if _HALF <= covered < _COVERED:
        yield f"{100 - covered:.0f} % of the fixed foreground lies outside the moving image."
    if shown["moving_inside_percent"] < _INSIDE:
        outside = 100 - shown["moving_inside_percent"]
        yield f"{outside:.0f} % of the moving foreground lies outside the fixed image."
    if shown["counted_percent"] < _COUNTED:
        yield f"The masks count {shown['counted_percent']:.1f} % of the fixed foreground alone."
    if shown["overlap_percent"] < (_OVERLAP if report["jacobian"] else _OVERLAP_LINEAR):
        yield (
            f"The foregrounds overlap by {shown['overlap_percent']:.0f} % (Dice): one shows more "
            "than the other (a skull, a bright background), or they are not aligned."
        )
    if trust and trust["used"] and min(trust["fixed"], trust["moving"]) < 1:
        yield "The images are not like those that the weights were trained on."
    elif trust and (trust["fixed"] < 1) != (trust["moving"] < 1):
        odd = "fixed" if trust["fixed"] < 1 else "moving"
        yield f"The {odd} image alone is not like those that the weights were trained on."


def _misplaced(report: dict[str, Any]) -> Iterator[str]:
    """Signs of a wrong orientation or size in a header."""
    turn, scales = (report["alignment"][k] for k in ("rotation_degrees", "scales"))
    hands = report["handedness"]
    # who gives a start knows how far it turns
    if turn > _TURN and report["recipe"]["init"] in ("auto", "header", "moments"):
        yield (
            f"The images are turned by {turn:.0f} degrees against each other: "
            "is the orientation right?"
        )
    if not _SCALES[0] <= min(scales) <= max(scales) <= _SCALES[1]:
        odd = max(scales, key=lambda s: abs(math.log(s)))
        yield f"One image was scaled by {odd:.2f}: are the voxel sizes right?"
    if hands["mirrored"] > hands["as_is"] + _MIRRORED:
        yield "The images would be more alike with one mirrored: are left and right right?"


def _contradicted(report: dict[str, Any]) -> Iterator[str]:
    """Measures inside the images that disagree with the metric that found the map."""
    inside = report.get("agreement")
    if inside is None:
        return
    names = [spec.partition(":")[0] for spec in report["metric"]]
    told = [name for name in names if name in _ONE_CONTRAST]
    if told and not inside["same_contrast"]:
        yield (
            "Aligned by mind, the images show different contrasts inside (local correlation "
            f"{inside['correlation']:.2f}), which {told[0]} does not know: consider --metric mind."
        )
    for key, name, sign in (("information", "mutual information", 1), ("mismatch", "mind", -1)):
        linear, after = inside[key]["linear"], inside[key]["after"]
        if sign * (after - linear) < -_CONTRADICTED * linear:
            yield (
                f"Inside, the images are less alike than after the linear stage by {name}, though "
                f"not by {' + '.join(names)}."
            )


def _unfinished(report: dict[str, Any]) -> Iterator[str]:
    """Solvers that did not come to an end of their own."""
    if report["stopped"] == "time":
        yield "The time limit stopped the registration early."
    if any(level["stopped"] == "diverged" for level in report["solver"]):
        yield "The learned steps diverged."
    last = report["solver"][-1] if report["solver"] else None
    if last is None or last["stopped"] not in ("steps", "plateau"):
        return
    residuals = last["residuals"]
    if last["measure"] == "relative residual":
        if residuals[-1] > _RESIDUAL:
            share = f"{residuals[-1]:.0%}"
            yield f"The learned steps had not settled: one more changes the map by {share}."
    elif len(residuals) > 3:
        fall = (residuals[-4] - residuals[-1]) / 3
        if fall > _FALLING * abs(residuals[-1]):
            yield "The energy was still falling when the steps ended: allow more --iterations."


def _distorted(report: dict[str, Any], *, foldless: bool) -> Iterator[str]:
    """Deformations that anatomy hardly explains, and inverses that do not invert."""
    jacobian, inverse = report["jacobian"], report["inverse"]
    if jacobian is not None:
        if not foldless and jacobian["folds_percent"] > _FOLDS:
            yield f"{jacobian['folds_percent']:.2f} % of the voxels are folded."
        elif jacobian["sdlogj"] > _SDLOGJ:
            span = f"{jacobian['min']:.3f} to {jacobian['max']:.0f}"
            yield f"The deformation is extreme: volumes change by factors of {span}."
    if inverse["max_mm"] > 1:
        yield f"The inverse is off by up to {inverse['max_mm']:.2f} mm."
    gap, spacing = inverse["round_trip_mean_mm"], report["fixed"]["spacing"]
    if gap > _ROUND_TRIP * math.prod(spacing) ** (1 / 3):
        yield f"There and back ends {gap:.2f} mm from where it started, on average."
