"""summary.html: a batch as one page that needs nothing else, not even a network."""

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse; margin-top: 1em }
th, td { padding: .3em .6em; text-align: left; vertical-align: top; border-top: 1px solid #ddd }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.p { overflow-wrap: anywhere; max-width: 22em }
.FAIL { color: #a11; font-weight: bold }
.WARN { color: #850; font-weight: bold }
.PASS { color: #060 }
img { image-rendering: pixelated; display: block } small { color: #555 }
"""
# Columns of numbers: heading, names in a row, digits.
_NUMBERS = (
    ("similarity", ("similarity_before", "similarity_after"), 3),
    ("Dice", ("dice_before", "dice_after"), 3),
    ("HD95 mm", ("hd95_mm_before", "hd95_mm_after"), 2),
    ("TRE mm", ("tre_mm_before", "tre_mm_after"), 2),
    ("folds %", ("folds_percent",), 3),
    ("sdlogj", ("sdlogj",), 3),
    ("s", ("seconds",), 1),
)


def page_text(record: Mapping[str, Any], pictures: Mapping[int, str], folder: Path) -> str:
    """The page.

    Args:
        record: What `regcli batch --json` prints.
        pictures: `data:` addresses, by row; empty where there is none.
        folder: Where the page will be: links are relative to it.
    """
    rows, counts = record["rows"], record["counts"]
    shown = [c for c in _NUMBERS if any(row[name] is not None for row in rows for name in c[1])]
    heads = "".join(f'<th class="n">{escape(head)}</th>' for head, *_ in shown)
    lines = [_line(row, shown, pictures[row["row"]], folder) for row in rows]
    said = ", ".join(f'<span class="{name}">{counts[name]} {name}</span>' for name in _NAMES)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>regcli batch</title>
<meta name="viewport" content="width=device-width">
<style>{_STYLE}</style>
<h1>regcli batch</h1>
<p>{len(rows)} rows, worst first: {said}.</p>
<p><small>{escape(record["command"])}<br>regcli {escape(record["version"])}</small></p>
<table>
<tr><th>row</th><th></th><th>fixed, moved</th><th>pair</th>{heads}<th></th></tr>
{chr(10).join(lines)}
</table>
</html>
"""


_NAMES = ("FAIL", "WARN", "PASS")


def _line(row: Mapping[str, Any], shown: list, picture: str, folder: Path) -> str:
    image = f'<img alt="" src="{escape(picture)}">' if picture else ""
    cells = "".join(f'<td class="n">{_numbers(row, names, n)}</td>' for _, names, n in shown)
    status = escape(row["status"])
    said = " ".join(row[name] for name in ("cause", "remedy", "reasons") if row[name])
    names = [escape(Path(row[side]).name) for side in ("moving", "fixed")]
    return (
        f'<tr><td>{row["row"]}</td><td class="{status}">{status}</td><td>{image}</td>'
        f'<td class="p">{_link(row, folder)}<br><small>{names[0]}<br>onto {names[1]}</small></td>'
        f'{cells}<td class="p">{escape(said)}</td></tr>'
    )


def _link(row: Mapping[str, Any], folder: Path) -> str:
    """The row's folder by name, as a link to what is there to see."""
    name, out = escape(row["out"]), folder / row["out"]
    if not out.is_dir():
        return name
    page = out / "report.html" if (out / "report.html").is_file() else out
    return f'<a href="{escape(quote(os.path.relpath(page, folder)))}">{name}</a>'


def _numbers(row: Mapping[str, Any], names: tuple[str, ...], digits: int) -> str:
    known = [row[name] for name in names]
    if all(value is None for value in known):
        return ""
    return " &rarr; ".join("" if v is None else f"{v:.{digits}f}" for v in known)
