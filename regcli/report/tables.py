"""The parts of a report that are read: numbers before and after, and what ran."""

from collections.abc import Iterable
from typing import Any

from regcli.report.markup import Markup, element, joined, number, table

_STAGES = ("before", "linear", "after")
_NAMES = {"lncc": "local correlation (LNCC)", "mi": "mutual information, nats"}


def summary(report: dict[str, Any]) -> str:
    """The outcome of the registration, in a sentence."""
    similarity = report["similarity"]
    text = (
        f"{_NAMES[similarity['name']].capitalize().replace('(lncc)', '(LNCC)')} "
        f"{similarity['before']:.3f} before, {similarity['after']:.3f} after"
    )
    labels, points = report["labels"], report["points"]
    if labels:
        dice = labels["dice"]
        text += f"; Dice {number(dice['before'])} → {number(dice['after'])}"
    if points:
        distance = points["tre_mm"]
        text += f"; TRE {number(distance['before'], 2)} → {number(distance['after'], 2)} mm"
    return f"{text}; {report['seconds']['total']:.1f} s."


def numbers(report: dict[str, Any]) -> Markup:
    """Likeness, labels and points before, after the linear stage and at the end."""
    similarity, labels, points = report["similarity"], report["labels"], report["points"]
    rows = [
        (_NAMES[similarity["name"]], *_stages(similarity)),
        ("correlation (NCC)", *_stages(similarity["ncc"])),
    ]
    if labels:
        rows.append(("Dice, mean", *_stages(labels["dice"])))
        rows.append(("HD95, mean, mm", *_stages(labels["hd95_mm"], 2)))
    if points:
        rows.append(("TRE, mean, mm", *_stages(points["tre_mm"], 2)))
    parts = [table("Before and after", ("measure", "before", "linear", "after"), rows)]
    inverse = report["inverse"]
    parts.append(
        element(
            "p",
            {"class": "note"},
            f"{similarity['coverage_percent']:.0f} % of the fixed foreground or mask lies inside "
            f"the moving image. {_plausible(report)} "
            f"The inverse is off by {inverse['mean_mm']:.2g} mm on average, "
            f"{inverse['max_mm']:.2g} mm at most.",
        )
    )
    if report["agreement"]:
        parts.append(element("p", {"class": "note"}, _inside(report["agreement"])))
    if labels:
        parts.append(_labels(labels))
    return joined(parts)


def _inside(agreement: dict[str, Any]) -> str:
    """The verdict of measures that took no part in the registration, in words."""
    information, mismatch = agreement["information"], agreement["mismatch"]
    kind = "one contrast" if agreement["same_contrast"] else "different contrasts, or none surely"
    return (
        "Deep inside both images, mutual information goes from "
        f"{information['linear']:.3f} nats after the linear stage to {information['after']:.3f}, "
        f"and the mismatch of MIND from {mismatch['linear']:.3f} to {mismatch['after']:.3f}. "
        f"Aligned by MIND, the images correlate locally by {agreement['correlation']:.2f}: {kind}."
    )


def _plausible(report: dict[str, Any]) -> str:
    """Signs that the pair belongs together, in words."""
    turned, hands = report["alignment"], report["handedness"]
    scales = turned["scales"]
    return (
        f"The foregrounds overlap by {report['foreground']['overlap_percent']:.0f} % (Dice). "
        f"The linear part turns by {turned['rotation_degrees']:.1f} degrees and scales by "
        f"{min(scales):.2f} to {max(scales):.2f}; after it, local correlation is "
        f"{hands['as_is']:.3f}, and would be {hands['mirrored']:.3f} with one image mirrored."
    )


def _labels(labels: dict[str, Any]) -> Markup:
    dice, distance = labels["dice"], labels["hd95_mm"]
    codes = sorted(dice["per_label"], key=int)
    rows = [
        (
            code,
            *(number(dice[key].get(code)) for key in _per_label()),
            *(number(distance[key].get(code), 2) for key in _per_label()),
        )
        for code in codes
    ]
    head = ("label", *(f"Dice {s}" for s in _STAGES), *(f"HD95 {s}, mm" for s in _STAGES))
    return element(
        "details",
        {"open": len(rows) <= 12},
        element("summary", None, f"Each of {len(rows)} labels"),
        table("Labels", head, rows),
    )


def provenance(report: dict[str, Any], versions: str) -> Markup:
    """The run: machine, recipe, inputs and times."""
    weights = report["weights"]
    rows: list[tuple[str, Any]] = [
        ("command", element("code", None, report["command"])),
        ("versions", versions),
        ("weights", f"{weights['name']}, SHA-256 {weights['sha256']}" if weights else "none"),
        ("metric", " + ".join(report["metric"])),
        ("regularizer", " + ".join(report["regularizer"] or ["none"])),
        ("device", f"{report['device']}, {report['threads']} threads, seed {report['seed']}"),
        ("seconds", ", ".join(f"{k} {v:.2f}" for k, v in report["seconds"].items())),
        ("memory", _memory(report["peak_memory_mb"])),
    ]
    rows += [(f"{side} image", _file(report[side])) for side in ("fixed", "moving")]
    parts = [table("Command, versions and files", (), rows)]
    if report["notes"]:
        notes = [element("li", None, note) for note in report["notes"]]
        parts += [element("h3", None, "Decisions"), element("ul", None, *notes)]
    recipe = [(key, _plain(value)) for key, value in report["recipe"].items()]
    parts.append(
        element(
            "details",
            None,
            element("summary", None, "Recipe"),
            table("Recipe", ("option", "value"), recipe),
        )
    )
    return joined(parts)


def _stages(values: dict[str, Any], digits: int = 3) -> list[str]:
    return [number(values[stage], digits) for stage in _STAGES]


def _per_label() -> Iterable[str]:
    return ("per_label_before", "per_label_linear", "per_label")


def _file(side: dict[str, Any]) -> Markup:
    shape = " x ".join(map(str, side["shape"]))
    spacing = " x ".join(f"{h:.4g}" for h in side["spacing"])
    return joined(
        [
            element("code", None, side["path"]),
            element("br"),
            f"{shape} voxels of {spacing} mm",
            element("br"),
            "SHA-256 ",
            element("code", None, side["sha256"]),
        ]
    )


def _memory(peak: dict[str, float]) -> str:
    text = f"{peak['cpu']} MiB at most"
    return text + (f", {peak['cuda']} MiB on the GPU" if peak["cuda"] else "")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "automatic"
    return str(value) if value != "" else "automatic"
