"""HTML from parts: every text is escaped unless it is markup already."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

_EMPTY = frozenset({"br", "circle", "image", "img", "input", "line", "path", "polyline", "rect"})


class Markup(str):
    """HTML that was made here and stands as it is."""


def element(name: str, attributes: dict[str, Any] | None = None, *children: Any) -> Markup:
    """One element.

    Args:
        name: Of the tag.
        attributes: By name; None and False are left out, True has no value.
        children: Markup, or values whose text is escaped.
    """
    given = "".join(
        f" {key}" if value is True else f' {key}="{html.escape(str(value))}"'
        for key, value in (attributes or {}).items()
        if value is not None and value is not False
    )
    if name in _EMPTY and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[Any]) -> Markup:
    """Parts one after the other."""
    return Markup("".join(p if isinstance(p, Markup) else html.escape(str(p)) for p in parts))


def table(caption: str, head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Markup:
    """A table whose first column names its rows, which scrolls on its own if it is too wide."""
    top = element("tr", None, *(element("th", {"scope": "col"}, cell) for cell in head))
    body = [
        element("tr", None, element("th", {"scope": "row"}, first), *(_cell(x) for x in rest))
        for first, *rest in rows
    ]
    # only what can be focused can be scrolled by keys
    frame = {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": caption}
    return element(
        "div",
        frame,
        element(
            "table",
            None,
            element("caption", None, caption),
            element("thead", None, top) if head else "",
            element("tbody", None, *body),
        ),
    )


def number(value: float | None, digits: int = 3) -> str:
    """A number as people read it; a dash for one that is not known."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}"


def _cell(value: Any) -> Markup:
    return element("td", None, value)
