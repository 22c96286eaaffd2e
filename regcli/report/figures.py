"""The parts of a report that are looked at: the viewer, and rows of planes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from regcli.image import Space
from regcli.report.charts import grid_lines, histogram_chart, level_chart
from regcli.report.markup import Markup, element, joined
from regcli.report.pictures import FOLD, SHRUNK_GROWN, Pictures, View
from regcli.report.planes import obliqueness
from regcli.report.png import GREYS, blend, data_uri

_LAYERS = {
    "fixed": "fixed image",
    "before": "moving image before the registration",
    "linear": "moving image after the linear stage",
    "after": "moving image after the registration",
}
_OBLIQUE = 1.0  # degrees that are not worth a word


def orientation(report: dict[str, Any], pictures: Pictures) -> Markup:
    """How to read the pictures, in words."""
    fixed = report["fixed"]
    i, j, k = fixed["shape"]
    space = Space((i, j, k), torch.tensor(fixed["affine"], dtype=torch.float64))
    text = "Neurological: the subject's left is on the left."
    if all(view.plane.normal == 0 for view in pictures.views):
        text = "The subject's front is on the right."
    text += " Planes of the fixed image's grid through the middle of what it shows"
    angle = obliqueness(space)
    text += f", which is turned by {angle:.0f}° to the scanner's axes." if angle > _OBLIQUE else "."
    return element("p", {"class": "note"}, text)


def choices(pictures: Pictures) -> Markup:
    """The overlays of the fixed image, as radio buttons."""
    parts = []
    for key, name in enumerate(pictures.views[0].layers, start=1):
        given = {"type": "radio", "name": "top", "value": name, "checked": name == "after"}
        hint = element("kbd", {"aria-hidden": "true"}, key)
        parts.append(element("label", None, element("input", given), f" {name} ", hint))
    return joined(parts)


def viewer(pictures: Pictures) -> Markup:
    """The planes, every layer of each on top of the other."""

    def layers(view: View) -> Markup:
        images = [
            element(
                "div",
                {"class": f"layer {name}", "data-name": name},
                _image(view, uri, _LAYERS[name]),
            )
            for name, uri in view.layers.items()
        ]
        return joined([*images, element("span", {"class": "divider", "aria-hidden": "true"})])

    return _row(pictures, layers, stacked=True)


def checkerboard(pictures: Pictures) -> Markup:
    """Fixed and moved in turn."""
    return _row(pictures, lambda v: _image(v, v.checkerboard, "checkerboard of fixed and moved"))


def edges(pictures: Pictures) -> Markup:
    """Edges of the fixed image over the moved one."""
    return _row(pictures, lambda v: _image(v, v.edges, "edges of the fixed image over the moved"))


def deformation(report: dict[str, Any], pictures: Pictures) -> Markup:
    """The deformed grid, the Jacobian and its histogram."""
    assert pictures.histogram is not None
    jacobian = report["jacobian"]
    told = (
        f"Determinant {jacobian['min']:.3g} to {jacobian['max']:.3g} in the foreground or mask; "
        f"{jacobian['folds_percent']:.3g} % of the voxels folded; "
        f"{jacobian['ndv_percent']:.3g} % of the volume by the strict test, which finds folds at "
        f"{jacobian['folds_anywhere']} voxels of the whole grid; standard deviation of log J "
        f"{jacobian['sdlogj']:.3f}."
    )
    return element(
        "section",
        {"id": "deformation"},
        element("h2", None, "Deformation"),
        element("h3", None, "Deformed grid"),
        element("p", {"class": "note"}, "Over the moving image after its affine part alone."),
        _row(pictures, _grid),
        element("h3", None, "Jacobian determinant"),
        element(
            "p",
            {"class": "note"},
            "Above 1 the moving image is larger there than the fixed one. ",
            told,
        ),
        _legend(),
        _row(pictures, lambda v: _image(v, v.jacobian or "", "Jacobian determinant")),
        element("h3", None, "Histogram"),
        element(
            "p", {"class": "note"}, "Voxels of the foreground or mask, on a logarithmic scale."
        ),
        element("div", {"class": "histogram"}, histogram_chart(pictures.histogram)),
    )


def convergence(report: dict[str, Any]) -> Markup:
    """A chart per level."""
    charts = [level_chart(level) for level in report["solver"]]
    if not charts:
        return element("p", None, "Nothing was solved.")
    return element("div", {"class": "levels"}, *charts)


def _legend() -> Markup:
    ramp = data_uri(np.arange(GREYS, dtype=np.uint8)[None], blend(SHRUNK_GROWN))
    colours = {"src": ramp, "alt": "from blue over white to red", "width": GREYS, "height": 1}
    square = {"width": 10, "height": 10, "fill": f"rgb{FOLD}", "stroke": "currentColor"}
    return element(
        "p",
        {"class": "legend"},
        "≤ 1/8 ",
        element("img", colours),
        " ≥ 8, white 1; ",
        element("svg", {"viewBox": "0 0 10 10"}, element("rect", square)),
        " folds (≤ 0)",
    )


def _grid(view: View) -> Markup:
    width, height = view.plane.size
    told = f"{view.plane.name} plane, deformed grid"
    frame = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": told}
    under = {"href": view.affine, "width": width, "height": height, "class": "under"}
    return element("svg", frame, element("image", under), grid_lines(view.grid))


def columns(pictures: Pictures) -> str:
    """Style: planes beside each other are drawn to the same scale."""
    millimetres = [v.plane.size[0] * v.plane.space.spacing[v.plane.axes[0]] for v in pictures.views]
    widths = " ".join(f"minmax(0, {width:.1f}fr)" for width in millimetres)
    rule = f".planes.of-3 {{ grid-template-columns: {widths}; }}"
    return f"@media (min-width: 40.01rem), print {{ main {rule} }}"


def _row(pictures: Pictures, content: Callable[[View], Markup], *, stacked: bool = False) -> Markup:
    """The same of every plane, with letters and a name."""
    parts = []
    for view in pictures.views:
        sides = zip(("left", "right", "bottom", "top"), view.plane.letters, strict=True)
        letters = [element("span", {"class": f"side {side}"}, text) for side, text in sides]
        frame = {"class": "stack" if stacked else "picture"}
        parts.append(
            element(
                "figure",
                {"class": "plane"},
                element("div", frame, content(view), *letters),
                element("figcaption", None, view.plane.name),
            )
        )
    return element("div", {"class": f"planes of-{len(parts)}"}, *parts)


def _image(view: View, uri: str, what: str) -> Markup:
    width, height = view.plane.size
    text = f"{view.plane.name} plane, {what}"
    return element("img", {"src": uri, "alt": text, "width": width, "height": height})
