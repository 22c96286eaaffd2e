"""regcli info."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

EXAMPLES = """Examples:

  regcli info scan.nii.gz

  regcli info out/warp.nii.gz out/affine.mat out/composite.h5

  regcli info *.nii.gz --json"""


def info(
    files: Annotated[list[Path], typer.Argument(help="Images, warps, affines, composites.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what files hold: grid, orientation and type of images; direction and size of warps."""
    from regcli.facts import describe

    found = [describe(path) for path in files]
    if json_output:
        typer.echo(json.dumps(found, indent=1))
        return
    console = Console(highlight=False)
    for facts in found:
        console.print(_table(facts))


def _table(facts: dict[str, Any]) -> Table:
    table = Table(title=str(facts["path"]), title_justify="left", show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if name != "path" and value not in (None, [], ""):
            table.add_row(name.replace("_", " "), _text(value))
    return table


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "\n".join("  ".join(f"{x:10.4f}" for x in row) for row in value)
    if isinstance(value, list) and all(isinstance(v, (int, float)) for v in value):
        return " x ".join(f"{v:.6g}" for v in value)
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return str(value)
