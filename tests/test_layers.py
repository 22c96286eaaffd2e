import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "regcli"
LAYERS = """
errors
registry
compatibility
recipe
ops
image
transforms energy nets solve warp
io evaluate machine
registration
report
commands
train batch
cli
__main__
"""
REGISTRATION = """
pyramid checks features.trust features.channels
normalize force features.model
prompts levels features.extract equilibrium.model
priors multiresolution equilibrium.force
linear equilibrium.proximal
symmetric contrast handedness
presets equilibrium.solve aligned
method features.choice equilibrium.fixed_steps
stages
deform equilibrium.stage
model_choice
features.maps pipeline
"""


def ranked(table):
    return {name: n for n, line in enumerate(table.split("\n")) for name in line.split()}


RANK, INNER = ranked(LAYERS), ranked(REGISTRATION)
FILES = sorted(ROOT.rglob("*.py"))


def module(path):
    return ".".join(("regcli", *path.relative_to(ROOT).with_suffix("").parts))


@functools.cache
def imports(path):
    """Absolute dotted names, `from a import b` as a.b, wherever they stand in the file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def parts(names):
    """Top parts of regcli that the names belong to; regcli itself holds only its version."""
    return {n.split(".")[1] for n in names if n.startswith("regcli.")} - {"__version__"}


def test_every_module_has_a_layer():
    assert parts(module(path) for path in FILES) - {"__init__"} <= set(RANK)


def test_modules_import_only_from_lower_layers():
    for path in FILES:
        own = module(path).split(".")[1]
        for other in parts(imports(path)) - {own}:
            assert own != "__init__" and RANK[other] < RANK[own], f"{path} imports {other}"


def test_modules_of_registration_import_only_from_lower_floors():
    room = "regcli.registration."
    for path in (ROOT / "registration").rglob("*.py"):
        if path.name == "__init__.py":
            continue
        own = module(path).removeprefix(room)
        for name in imports(path):
            inside = name.removeprefix(room)
            if name == inside:
                continue
            other = next(m for m in (inside, inside.rpartition(".")[0]) if m in INNER)
            assert INNER[other] < INNER[own], f"{own} imports {other}"


def test_only_ops_knows_that_backends_exist():
    for path in FILES:
        inside = module(path).startswith("regcli.ops.backends.")
        for name in imports(path):
            if inside:
                assert not name.startswith("regcli.") or name.startswith("regcli.ops.backends.")
            elif not module(path).startswith("regcli.ops."):
                assert not name.startswith("regcli.ops.backends"), f"{path} imports {name}"


@pytest.mark.parametrize("library", ["SimpleITK", "nibabel"])
def test_solving_needs_no_file_library(library):
    for path in FILES:
        part = module(path).split(".")[1]
        if any(name.split(".")[0] == library for name in imports(path)):
            assert part in ("io", "evaluate"), f"{path} imports {library}"


@pytest.mark.parametrize(
    "code",
    [
        "import regcli.cli.main",
        "import regcli.registry, regcli.recipe, regcli.errors",
        "import typer.testing, regcli.cli.main as m\n"
        "result = typer.testing.CliRunner().invoke(m.app, ['--help'])\n"
        "assert result.exit_code == 0, result.output",
        "import typer.testing, regcli.cli.main as m\n"
        "for command in ('register', 'batch'):\n"
        "    result = typer.testing.CliRunner().invoke(m.app, [command, '--help'])\n"
        "    assert result.exit_code == 0, result.output",
    ],
    ids=["cli", "registry", "help", "register --help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    heavy = "{'torch', 'numba', 'numpy', 'scipy', 'nibabel', 'SimpleITK'}"
    check = f"{code}\nimport sys\nfound = {heavy} & set(sys.modules)\nassert not found, found"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
