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

  regcli weights show dio-brain

  regcli weights verify run/best.safetensors"""


@app.callback()
def weights() -> None:
    """Pretrained weights that come with regcli."""


_TOLD = (
    *("model", "network", "channels", "spacing_mm", "gains", "muted", "smoothness"),
    *("levels", "steps", "sigma", "step", "best", "seconds"),
)


@app.command(name="list", epilog=EXAMPLES)
def list_weights(
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.", metavar="")] = False,
) -> None:
    """List the weights: name, size and SHA-256."""
    from regcli.io.weights import shipped

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


@app.command(name="show", epilog=EXAMPLES)
def show_weights(
    weights: Annotated[str, typer.Argument(help="A name or a file.", metavar="NAME")],
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.", metavar="")] = False,
) -> None:
    """Show the card of weights: data, licence, recipe, results, limits."""
    from regcli.io import weights as files

    file = files.find(weights)
    facts = files.facts(file.path)
    if json_output:
        emit(json.dumps(vars(file) | {"facts": facts}, indent=1))
        return
    emit(files.card(file) or f"{file.path} has no card beside it; its header says:")
    for name in _TOLD:
        if name in facts:
            emit(f"{name}: {facts[name]}")
    emit(f"sha256: {file.sha256}")


@app.command(name="verify", epilog=EXAMPLES)
def verify_weights(
    weights: Annotated[
        list[str] | None,
        typer.Argument(help="Names or files; default all that come with regcli.", metavar="NAME"),
    ] = None,
) -> None:
    """Check that weights are whole: SHA-256, header, and values that fit the network."""
    from regcli.io.weights import shipped
    from regcli.registration.equilibrium import model as step_model
    from regcli.registration.features import model as feature_model

    for name in weights or [file.name for file in shipped()]:
        kind = step_model if step_model.are_steps(name) else feature_model
        learned = kind.load(name)
        emit(f"{learned.name}: whole, SHA-256 {learned.sha256}")
