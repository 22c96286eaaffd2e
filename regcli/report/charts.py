"""Lines as SVG: how each level converged, how volumes changed, the deformed grid."""

import math
from typing import Any

import numpy as np

from regcli.report.markup import Markup, element, joined
from regcli.report.pictures import OCTAVES, Histogram

_WIDTH, _HEIGHT = 220, 110  # of the chart of a level
_MOST = 300  # points of a curve
_FLAT = 0.01  # of the highest value: what varies less is drawn flat
_MEASURES = {"energy x": "energy", "relative residual": "relative residual"}
_ENDS = {"steps": "the limit", "time": "out of time"}
_WIDE, _TALL, _FOOT, _LEFT = 420, 170, 24, 8  # of the histogram


def grid_lines(lines: list[np.ndarray]) -> Markup:
    """Lines in pixels as one path, to a tenth of a pixel."""
    d = "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line.round(1).tolist()) for line in lines
    )
    return element("path", {"d": d, "class": "grid"})


def level_chart(level: dict[str, Any]) -> Markup:
    """The residual of a level by step, from the first at the top left.

    Args:
        level: An entry of regcli.json's `solver`.
    """
    steps = [(n, r) for n, r in enumerate(level["residuals"]) if math.isfinite(r)]
    steps = steps[:-1][:: max(1, len(steps) // _MOST)] + steps[-1:]
    values = [r for _, r in steps] or [0.0]
    # relative residuals fall by powers of ten, energies do not
    log = level["measure"] == "relative residual" and min(values) > 0
    shown = [math.log10(v) for v in values] if log else values
    high = max(shown)
    low = min(*shown, high - _FLAT * abs(high))
    last = max((n for n, _ in steps), default=0)
    points = " ".join(
        f"{6 + (_WIDTH - 12) * n / max(last, 1):.1f},"
        f"{6 + (_HEIGHT - 12) * (high - v) / ((high - low) or 1):.1f}"
        for (n, _), v in zip(steps, shown, strict=False)
    )
    grid = "x".join(map(str, level["shape"]))
    name = f"{level['stage']}, level {level['level'] + 1}, {grid}"
    told = (
        f"{level['steps']} steps, {_ENDS.get(level['stopped'], level['stopped'])}; "
        f"{_MEASURES[level['measure']]} {values[0]:.4g} to {values[-1]:.4g}"
        + (" (log scale)" if log else "")
    )
    frame = {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img", "aria-label": f"{name}. {told}"}
    inside = [
        element("rect", {"width": _WIDTH, "height": _HEIGHT, "class": "panel"}),
        element("polyline", {"points": points, "class": "curve"}),
    ]
    caption = joined([element("b", None, name), element("br"), told])
    return element(
        "figure",
        {"class": "level"},
        element("svg", frame, *inside),
        element("figcaption", None, caption),
    )


def histogram_chart(histogram: Histogram) -> Markup:
    """Determinants on an axis of octaves; voxels on a logarithmic one. Folds stand to the left."""
    counts, folds = histogram.counts, histogram.folds
    top = math.log10(max(*counts, folds, 1) + 1)
    room = 62.0  # of the bar of folds
    step = (_WIDE - room - _LEFT) / len(counts)

    def bar(x: float, width: float, count: int, name: str) -> Markup:
        height = (_TALL - _FOOT - 16) * math.log10(count + 1) / top
        place = {"x": f"{x:.1f}", "y": f"{_TALL - _FOOT - height:.1f}", "width": f"{width:.1f}"}
        return element("rect", place | {"height": f"{height:.1f}", "class": name})

    def label(x: float, y: float, text: str, anchor: str = "middle") -> Markup:
        return element("text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}, text)

    base = {"x1": 0, "x2": _WIDE, "y1": _TALL - _FOOT, "y2": _TALL - _FOOT, "class": "axis"}
    parts = [bar(room + n * step, max(step - 1, 0.5), c, "bar") for n, c in enumerate(counts)]
    parts += [bar(_LEFT, 30, folds, "bar fold"), element("line", base)]
    parts.append(label(_LEFT + 15, _TALL - 7, "folds"))
    parts.append(label(_LEFT + 15, 11, f"{folds}"))
    for octave in range(-int(OCTAVES), int(OCTAVES) + 1):
        x = room + (octave + OCTAVES) / (2 * OCTAVES) * step * len(counts)
        text = f"1/{2**-octave}" if octave < 0 else f"{2**octave}"
        ends = {-OCTAVES: "≤ ", OCTAVES: "≥ "}
        anchor = {-OCTAVES: "start", OCTAVES: "end"}.get(octave, "middle")
        parts.append(label(x, _TALL - 7, ends.get(octave, "") + text, anchor))
    told = f"Histogram of the Jacobian determinant; {folds} of {sum(counts) + folds} voxels folded."
    frame = {"viewBox": f"0 0 {_WIDE} {_TALL}", "role": "img", "aria-label": told}
    return element("svg", frame, *parts)
