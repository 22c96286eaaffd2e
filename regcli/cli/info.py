"""regcli info."""

import json
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from regcli.cli.common import emit

EXAMPLES = """Examples:

  regcli info scan.nii.gz

  regcli info out/warp.nii.gz out/affine.mat out/composite.h5

  regcli info *.nii.gz --json"""


def info(
    files: Annotated[
        list[Path],
        typer.Argument(help="Images, warps, affines, composites.", metavar="FILE..."),
    ],
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.", metavar="")] = False,
) -> None:
    """Say what files hold: grid, orientation and type of images; direction and size of warps."""
    from regcli.commands.info import describe

    found = [describe(path) for path in files]
    if json_output:
        emit(json.dumps(found, indent=1))
        return
    emit("\n\n".join("\n".join(_lines(facts)) for facts in found))


def _lines(facts: dict[str, Any]) -> list[str]:
    """The file's name, then one fact a line, its name before it; further lines are indented."""
    lines = [str(facts["path"])]
    rows = [(name.replace("_", " "), _text(value)) for name, value in facts.items()]
    parts = facts.get("parts", [])
    rows = [row for row in rows if row[0] not in ("path", "parts") and row[1]]
    for number, part in enumerate(parts, start=1):
        order = f"{number} of {len(parts)}" if len(parts) > 1 else "holds"
        rows.append((order, _text(part)))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        first, *others = textwrap.wrap(text, 76 - width) if "\n" not in text else text.split("\n")
        lines.append(f"  {name:<{width}}  {first}")
        lines += [" " * (width + 4) + line for line in others]
    return lines


def _text(value: Any) -> str:
    """A fact in a line, or in several if it is a matrix or a part of a transform."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return "\n".join([value["kind"], *_part(value)])
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "\n".join("".join(f"{x:11.4f}" for x in row) for row in value)
    if isinstance(value, list) and all(isinstance(v, (int, float)) for v in value):
        return " x ".join(f"{v:.6g}" for v in value)
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return str(value)


def _part(part: dict[str, Any]) -> list[str]:
    """A part of a transform: its matrix, or its grid and how far it goes."""
    if "matrix_ras" in part:
        return ["matrix, RAS mm:", *_text(part["matrix_ras"]).split("\n")]
    grid = part["grid"]
    x, y, z = grid["origin_ras"]
    return [
        f"{_text(grid['shape'])} voxels of {_text(grid['spacing_mm'])} mm, {grid['codes']}",
        f"origin {x:.6g}, {y:.6g}, {z:.6g} (RAS mm)",
        f"longest displacement {part['max_displacement_mm']:.6g} mm",
    ]
