"""Errors, exit codes and help, common to all commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import regcli
from regcli.cli import main as cli
from regcli.errors import (
    GateError,
    InputError,
    MemoryShortageError,
    OutputError,
    RecipeError,
    RegcliError,
    WeightsError,
)

COMMANDS = (
    *(("register",), ("apply",), ("jacobian",), ("features",), ("train",), ("evaluate",)),
    *(("info",), ("weights", "list"), ("weights", "show"), ("weights", "verify")),
)
HEAVY = {"h5py", "matplotlib", "nibabel", "numba", "numpy", "PIL", "safetensors", "scipy"}
HEAVY |= {"SimpleITK", "torch", "torchdeq", "distributed"}


@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_gives_three_examples_and_fits_80_columns(run, command, flag):
    told = run(*command, flag)
    assert told.code == 0
    assert told.out.count("  regcli ") + told.out.count("\n regcli ") >= 3
    assert all(len(line) <= 80 for line in told.out.splitlines())


def test_help_shows_what_arguments_stand_for(run):
    told = run("register", "--help").out
    assert "FIXED" in told
    assert "MOVING" in told
    assert "<path>" not in told.split("Options")[1]


def test_no_arguments_at_all_show_the_help(run):
    assert run().out == run("--help").out


def test_version_is_one_line(run):
    assert run("--version").out == f"regcli {regcli.__version__}\n"


def test_help_imports_nothing_that_computes():
    """Which is what takes seconds: torch alone four."""
    code = (
        "import sys\n"
        "from regcli.cli.main import main\n"
        f"for command in {COMMANDS}:\n"
        "    sys.argv[1:] = [*command, '-h']\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stderr.split()}
    assert "typer" in imported
    assert not imported & HEAVY
    folders = {name for name in done.stderr.split() if name.startswith("regcli.")}
    assert not folders & {f"regcli.{name}" for name in ("ops", "image", "registration", "commands")}


@pytest.mark.parametrize(
    "arguments",
    [
        ("zzz",),
        ("--zzz",),
        ("weights",),
        ("weights", "zzz"),
        ("register",),
        ("register", "one.nii.gz"),
        ("register", "a", "b", "c"),
        ("register", "a", "b", "--zzz"),
        ("register", "a", "b", "--smoothness", "much"),
        ("register", "a", "b", "--naming", "zzz"),
        ("register", "a", "b", "--threads", "0"),
        ("register", "a", "b", "--time-limit", "-1"),
        ("apply", "a.nii.gz", "-o", "x"),
        ("jacobian", "a.nii.gz"),
        ("info",),
    ],
    ids=" ".join,
)
def test_usage_that_does_not_parse_is_two_lines_and_code_2(run, arguments):
    assert run(*arguments).fails(2, "--help")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError, 2),
        (InputError, 3),
        (WeightsError, 3),
        (OutputError, 4),
        (MemoryShortageError, 5),
        (GateError, 6),
        (RegcliError, 1),
    ],
)
def test_every_error_has_its_code(run, monkeypatch, error, code):
    monkeypatch.setattr(cli, "app", _raising(error("This\nis wrong.", "Do [bold]that[/] :cat:.")))
    told = run("info", "x")
    assert told.fails(code)
    assert told.err == "error: This is wrong.\nremedy: Do [bold]that[/] :cat:.\n"


def test_a_bug_is_named_as_such_and_shows_its_traceback_only_on_request(run, monkeypatch):
    monkeypatch.setattr(cli, "app", _raising(ZeroDivisionError("division by zero")))
    assert run("info", "x").fails(1, "bug", "ZeroDivisionError", "--debug")
    assert "Traceback" in run("info", "x", "--debug").err


def test_memory_that_runs_out_is_code_5(run, monkeypatch):
    monkeypatch.setattr(cli, "app", _raising(MemoryError()))
    assert run("info", "x").fails(5)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", ["-h", "register -h", "--version"])
def test_a_full_disk_is_no_bug(arguments):
    line = f"'{sys.executable}' -m regcli {arguments} >/dev/full"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 4
    assert "stdout" in done.stderr
    assert "bug" not in done.stderr


def test_a_path_is_printed_as_it_is(run, tmp_path):
    name = "no [bold]such[/] \\[thing :cat: 'é\".nii.gz"
    assert run("info", tmp_path / name).fails(3, name)


def test_a_name_that_is_no_text_is_refused(run):
    assert run("info", os.fsdecode(b"a\xff.nii.gz")).fails(3, "UTF-8")


def _raising(error):
    def app(args, prog_name, standalone_mode):
        raise error

    return app


def test_the_end_is_told_though_the_interpreter_is_not_taken_apart():
    """The process ends at once: what was said must have been written, and what was left, done."""
    code = (
        "import atexit, sys, regcli.__main__ as command\n"
        "def end(): print('said'); sys.exit(5)\n"
        "atexit.register(lambda: print('done'))\n"
        "command.cli.main = end\n"
        "command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (5, ["said", "done"])


@pytest.mark.parametrize(
    ("arguments", "closed", "code"),
    [("--version", ">&-", 0), ("weights show no", "2>&-", 3), ("weights show no", ">&- 2>&-", 3)],
)
def test_nobody_has_to_listen(arguments, closed, code):
    line = f"'{sys.executable}' -m regcli {arguments} {closed}"
    assert subprocess.run(line, shell=True, capture_output=True, check=False).returncode == code
