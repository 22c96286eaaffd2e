"""The numbers of a registration as plain values, and the user's own gate."""

import math
import re
from typing import Any

import torch
from torch import Tensor

from regcli.errors import GateError, RecipeError
from regcli.evaluate.metrics import dice, hd95, lncc, mutual_information, ncc, tre
from regcli.image import Image
from regcli.warp import Warp

Stages = dict[str, Warp]  # "before", "linear", "after"

# What --fail-on may name, where regcli.json has it, and the unit that may be written.
GATES = {
    "folds": (("jacobian", "folds_percent"), "%"),
    "ndv": (("jacobian", "ndv_percent"), "%"),
    "sdlogj": (("jacobian", "sdlogj"), ""),
    "inverse": (("inverse", "max_mm"), "mm"),
    "round_trip": (("inverse", "round_trip_mean_mm"), "mm"),
    "similarity": (("similarity", "after"), ""),
    "ncc": (("similarity", "ncc", "after"), ""),
    "dice": (("labels", "dice", "after"), ""),
    "hd95": (("labels", "hd95_mm", "after"), "mm"),
    "tre": (("points", "tre_mm", "after"), "mm"),
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_GATE = re.compile(rf"\s*(\w+)\s*(<=|>=|<|>)\s*({_NUMBER})\s*(%|mm)?\s*", re.IGNORECASE)


def similarity_report(
    fixed: Image, moving: Image, stages: Stages, mask: Tensor, covered: Tensor, *, cross: bool
) -> dict[str, Any]:
    """Likeness over the mask before, after the linear stage and at the end.

    Args:
        fixed: One channel.
        moving: One channel.
        stages: A warp for each of "before", "linear", "after".
        mask: (I, J, K) bool on the fixed grid.
        covered: (I, J, K) bool, where the moving image has voxels; the correlation of the whole
            images is taken there.
        cross: Whether contrasts differ: mutual information is then reported, else the mean
            squared correlation in windows of 9 voxels.
    """
    out: dict[str, Any] = {"name": "mi" if cross else "lncc", "ncc": {}}
    f = fixed.data[0].to(torch.float32)
    for stage, warp in stages.items():
        m = warp.apply(moving, fixed.space, "linear").data[0]
        out[stage] = mutual_information(f, m, mask) if cross else lncc(f, m, mask, 4)
        out["ncc"][stage] = ncc(f, m, covered)
    return out


def labels_report(
    fixed: Image, moving: Image, stages: Stages, codes: list[int] | None = None
) -> dict[str, Any]:
    """Dice and HD95 (mm) of label maps at each stage, means over the labels, and each.

    Args:
        fixed: Integers.
        moving: Integers.
        stages: A warp for each.
        codes: Labels that count; default those of both images.
    """
    f = fixed.data[0]
    if codes is None:
        codes = sorted(set(f.unique().tolist()) & set(moving.data.unique().tolist()) - {0})
    out: dict[str, Any] = {"dice": {}, "hd95_mm": {}}
    for stage, warp in stages.items():
        moved = warp.apply(moving, fixed.space, "label").data[0]
        overlap = dice(f, moved, codes)
        distance = hd95(f, moved, fixed.space.spacing, codes)
        out["dice"][stage] = _mean(overlap)
        out["hd95_mm"][stage] = _mean(distance)
        key = "per_label" if stage == "after" else f"per_label_{stage}"
        out["dice"][key] = {str(code): finite(v) for code, v in overlap.items()}
        out["hd95_mm"][key] = {str(code): finite(v) for code, v in distance.items()}
    return out


def points_report(fixed: Tensor, moving: Tensor, stages: Stages) -> dict[str, Any]:
    """Mean distance (mm) between moving points and fixed points carried by each stage's map."""
    return {"tre_mm": {s: float(tre(warp(fixed), moving).mean()) for s, warp in stages.items()}}


def parse_gate(text: str) -> tuple[str, str, float]:
    """Name, comparison and bound of a gate such as "folds>0.1%".

    Raises:
        RecipeError: If it is not of that form or names nothing known.
    """
    match = _GATE.fullmatch(text)
    if match is None or match[1] not in GATES:
        raise RecipeError(
            f"--fail-on '{text}' is not understood.",
            f"Write it like 'folds>0.1%'; names are {', '.join(GATES)}.",
        )
    unit = GATES[match[1]][1]
    if match[4] not in (None, unit):
        raise RecipeError(
            f"--fail-on '{text}': {match[1]} is not in {match[4]}.",
            f"Write the number in {unit}." if unit else "Write the number alone.",
        )
    return match[1], match[2], float(match[3])


def check_gate(report: dict[str, Any], text: str) -> None:
    """Raise GateError if the report is as the gate says it must not be.

    Raises:
        GateError: If it is, or if the report lacks the number.
    """
    name, comparison, bound = parse_gate(text)
    value: Any = report
    for key in GATES[name][0]:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        raise GateError(
            f"Quality gate '{text}': {name} could not be measured.",
            "Whatever was written is there; look at it before using it.",
        )
    failed = {
        "<": value < bound,
        ">": value > bound,
        "<=": value <= bound,
        ">=": value >= bound,
    }[comparison]
    if failed:
        raise GateError(
            f"Quality gate: {name} is {value:.4g}, which is {comparison} {bound:g}.",
            "Whatever was written is there; look at it before using it.",
        )


def _mean(values: dict[int, float]) -> float | None:
    finite = [v for v in values.values() if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else None


def finite(value: float) -> float | None:
    """The number, or None for what JSON cannot hold."""
    return value if math.isfinite(value) else None
