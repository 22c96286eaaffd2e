"""A picture of a sweep: how well the images match against how uneven the map is, by value."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from regcli.commands.sweep.table import Row, likeness, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_DECADE = 10.0  # numbers that span as much are shown on a logarithmic axis
_APART = 0.06  # of an axis: numbers that are nearer than that run into each other
_LONG = 50  # names with as many letters together stand beside each other no more
_PLAIN, _FOLDED = "C0", "C3"


# Candidate offsets of a name from its mark, in points to the right and up, the nearest first.
_PLACES = [
    (right * reach, up * rise)
    for reach, rise in ((7, 2), (16, 14), (30, 28), (16, 50), (45, 50), (16, 80), (16, 110))
    for right, up in ((1, -1), (-1, 1), (1, 1), (-1, -1))
]


@dataclass(frozen=True)
class Point:
    """A value where it stands.

    Attributes:
        x: Cost.
        y: Quality.
        text: What it is.
        colour: Of both.
    """

    x: float
    y: float
    text: str
    colour: str


@dataclass(frozen=True)
class Measure:
    """One number of every row.

    Attributes:
        title: What it is.
        values: By row; None where it is not known.
        before: Without a registration, if it exists then.
        rising: Whether more is better.
    """

    title: str
    values: list[float | None]
    before: float | None
    rising: bool

    @property
    def known(self) -> bool:
        """Whether any row has it."""
        return any(value is not None for value in self.values)


def draw_tradeoff(record: dict[str, Any], path: Path) -> None:
    """Draw a sweep.

    Args:
        record: What sweep.json holds.
        path: PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = record["rows"]
    if _ordered(rows):
        rows = sorted(rows, key=lambda row: row["value"])
        record = record | {"rows": rows}
    quality = [measure for measure in _qualities(rows) if measure.known]
    folds, spread = _cost(rows, "folds_percent", "folds, %"), _cost(rows, "sdlogj", "sdlogj")
    costs = [spread] if spread.known else []
    if any(folds.values):
        costs.append(folds)
    small = [*quality, *costs]
    figure = Figure(figsize=(11, max(4.5, 1.6 * len(small) + 0.8)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_escaped(f"{_pair(record)}, {record['field']} varied"))
    if costs:
        grid = figure.add_gridspec(len(small), 2, width_ratios=(1.35, 1))
        large = figure.add_subplot(grid[:, 0])
        points = _draw_points(large, record, quality[-1], spread, folds)
        panels = [figure.add_subplot(grid[n, 1]) for n in range(len(small))]
    else:
        large, points = None, []
        panels = list(figure.subplots(len(small), 1, squeeze=False)[:, 0])
    for axes, measure in zip(panels, small, strict=True):
        _draw_measure(axes, record, measure, last=axes is panels[-1])
    if large:
        figure.draw_without_rendering()
        _draw_names(large, points, joined=_ordered(rows))
    figure.savefig(path, format="png", dpi=100)


def _qualities(rows: list[Row]) -> list[Measure]:
    """Measures of the match, the most telling one last."""
    name, column = likeness(rows)
    return [
        _stages(rows, column, f"similarity ({name})", rising=True),
        _stages(rows, "tre_mm", "TRE, mm", rising=False),
        _stages(rows, "dice", "Dice", rising=True),
    ]


def _stages(rows: list[Row], column: str, title: str, *, rising: bool) -> Measure:
    before = [number(row, f"{column}_before") for row in rows]
    values = [number(row, f"{column}_after") for row in rows]
    return Measure(title, values, next((b for b in before if b is not None), None), rising)


def _cost(rows: list[Row], column: str, title: str) -> Measure:
    """A number of the deformation, which is none with a linear map."""
    known = any(row["jacobian"] for row in rows)
    values = [None if row["error"] or not known else number(row, column) or 0.0 for row in rows]
    return Measure(title, values, None, rising=False)


def _draw_points(
    axes: "Axes", record: dict[str, Any], quality: Measure, spread: Measure, folds: Measure
) -> list[Point]:
    """One point per value: the better the further up, the smoother the further left."""
    ordered = _ordered(record["rows"])
    points = []
    for x, y, row, fold in zip(
        spread.values, quality.values, record["rows"], folds.values, strict=True
    ):
        if x is not None and y is not None:
            name = f"{record['field']} {row['name']}" if ordered else row["name"]
            text = _escaped(name) + (f"\n{fold:.2g} % folds" if fold else "")
            points.append(Point(x, y, text, _FOLDED if fold else _PLAIN))
    if ordered:
        axes.plot([p.x for p in points], [p.y for p in points], color="0.7", zorder=1)
    for point in points:
        axes.scatter(point.x, point.y, color=point.colour, zorder=2)
    axes.margins(0.15)
    if not quality.rising:
        axes.invert_yaxis()
    axes.set_title("The further up the better matched, the further left the smoother", fontsize=10)
    axes.set(xlabel="sdlogj: how unevenly the map changes volumes", ylabel=quality.title)
    axes.ticklabel_format(useOffset=False)
    axes.grid(alpha=0.3)
    return points


def _draw_names(axes: "Axes", points: list[Point], *, joined: bool) -> None:
    """Name every point where nothing else is, as far as there is room; the layout is final."""
    from matplotlib.transforms import Bbox

    at = axes.transData.transform([(p.x, p.y) for p in points])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in at]
    for (x, y), (x1, y1) in pairwise(at) if joined else ():
        shares = [n / 30 for n in range(30)]
        taken += [Bbox.from_bounds(x + s * (x1 - x), y + s * (y1 - y), 1, 1) for s in shares]
    for point in points:
        for place in _PLACES:
            name, box = _name(axes, point, place)
            inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            if inside and not box.count_overlaps(taken):
                break
            name.remove()
        else:
            _, box = _name(axes, point, _PLACES[0])
        taken.append(box)


def _name(axes: "Axes", point: Point, place: tuple[int, int]) -> tuple["Annotation", "Bbox"]:
    """A point's name, with a line to it, and the pixels that the text takes."""
    from matplotlib.text import Text

    right, up = place
    name = axes.annotate(
        point.text,
        (point.x, point.y),
        xytext=place,
        textcoords="offset points",
        ha="left" if right > 0 else "right",
        va="bottom" if up > 0 else "top",
        color=point.colour,
        fontsize=9,
        arrowprops={"arrowstyle": "-", "color": point.colour, "linewidth": 0.5},
    )
    name.get_window_extent()  # puts it there; that extent holds the line, too
    return name, Text.get_window_extent(name)


def _draw_measure(axes: "Axes", record: dict[str, Any], measure: Measure, *, last: bool) -> None:
    """One measure over the values."""
    rows = record["rows"]
    ordered = _ordered(rows)
    positions, scale = _positions([row["value"] for row in rows]) if ordered else (None, "linear")
    even = positions is None
    positions = positions or [float(n) for n in range(len(rows))]
    points = [(x, y) for x, y in zip(positions, measure.values, strict=True) if y is not None]
    line = "-" if ordered else ""
    axes.plot(*zip(*points, strict=True), linestyle=line, marker="o", markersize=5, color="0.25")
    axes.margins(0.08, 0.2)
    axes.set_xscale(scale)
    if even:  # also those where nothing is known
        axes.set_xlim(-0.3, len(rows) - 0.7)
    axes.set_xticks(positions, [_escaped(row["name"]) for row in rows])
    axes.minorticks_off()
    if sum(len(row["name"]) for row in rows) > _LONG:
        axes.tick_params(axis="x", rotation=20)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.3)
    better = "more is better" if measure.rising else "less is better"
    before = "" if measure.before is None else f", {measure.before:.3g} before"
    axes.set_title(f"{measure.title}: {better}{before}", loc="left", fontsize=9)
    if last:
        axes.set_xlabel(record["field"])
    else:
        axes.tick_params(labelbottom=False)


def _positions(values: list[float]) -> tuple[list[float] | None, Literal["linear", "log"]]:
    """Positions of rising numbers on an axis, None to space them evenly; and the axis's scale."""
    if values[0] <= 0:  # a tolerance of 0 is no number, but automatic
        return None, "linear"
    scale = "log" if values[-1] >= _DECADE * values[0] else "linear"
    at = [math.log(value) for value in values] if scale == "log" else values
    apart = min(b - a for a, b in pairwise(at)) >= _APART * (at[-1] - at[0])
    return (values, scale) if apart else (None, "linear")


def _ordered(rows: list[Row]) -> bool:
    """Whether the values are numbers, which have an order; names have none."""
    return all(isinstance(row["value"], float) for row in rows)


def _pair(record: dict[str, Any]) -> str:
    return " -> ".join(Path(record[side]["path"]).name for side in ("moving", "fixed"))


def _escaped(text: str) -> str:
    """Text as it is: between dollars matplotlib would read a formula."""
    return text.replace("$", r"\$")
