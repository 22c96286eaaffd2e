"""regcli weights."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from regcli.cli.common import console, emit

app = typer.Typer(
    help="Pretrained weights that come with regcli.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXAMPLES = """Examples:

  regcli weights list

  regcli weights list --json

  regcli weights list --json | python -m json.tool"""


@app.callback()
def weights() -> None:
    """Pretrained weights that come with regcli."""


@app.command(name="list", epilog=EXAMPLES)
def list_weights(
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.", metavar="")] = False,
) -> None:
    """List the weights: name, size and SHA-256."""
    from regcli.commands.weights import shipped

    found = shipped()
    if json_output:
        emit(json.dumps([vars(w) for w in found], indent=1))
        return
    if not found:
        console().print("This version comes with no weights: --model auto is classical.")
        return
    table = Table("name", "MB", "SHA-256", box=None)
    for item in found:
        table.add_row(item.name, f"{item.megabytes:.1f}", item.sha256[:16])
    Console(highlight=False).print(table)
