"""regcli batch."""

import csv
import json
import os
import signal
import sys
from pathlib import Path

import processes
import pytest
from batches import SPACE, Rows
from phantoms import pair
from registerflags import ACTS, BAR
from scans import write_pair

from regcli.cli import batch as command
from regcli.commands.register.job import Job

QUICK = ("--model", "classical", "--init", "none", "--iterations", "2", "--deterministic")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pair, and a table of it: the second row lacks its moving image."""
    folder = tmp_path_factory.mktemp("scans")
    write_pair(folder, pair(SPACE, linear=False))
    line = "{},fixed.nii.gz,{}.nii.gz"
    rows = [line.format("a", "moving"), line.format("b", "none"), line.format("c", "moving")]
    (folder / "pairs.csv").write_text("\n".join(["out,fixed,moving", *rows]))
    (folder / "one.csv").write_text("\n".join(["out,fixed,moving", rows[0]]))
    return folder


@pytest.fixture
def inline(monkeypatch):
    """Batches done in this process; the rows that were done."""
    rows = Rows()
    monkeypatch.setattr(command, "prepare", lambda *modules: None)
    monkeypatch.setattr("regcli.batch.crew.local_crew", lambda count: rows())
    return rows


def test_rows_are_done_and_the_worst_told_first(run, folder, inline, tmp_path):
    out = tmp_path / "runs"
    told = run("batch", folder / "pairs.csv", "-o", out, *QUICK)
    assert told.code == 7
    assert told.out.split() == [str(out / "summary.csv"), str(out / "summary.html")]
    lines = told.err.splitlines()
    assert lines[0].startswith("row 2 (b) failed: ") and "none.nii.gz does not exist" in lines[0]
    assert lines[1] == "3 rows: 1 FAIL, 0 WARN, 2 PASS"
    assert lines[2].startswith("error: 1 of 3 rows failed. Row 2: ")
    assert lines[3].startswith("remedy: ") and "--resume" in lines[3]
    with (out / "summary.csv").open(newline="") as file:
        assert [row["row"] for row in csv.DictReader(file)] == ["2", "1", "3"]
    assert run("batch", folder / "pairs.csv", "-o", out, *QUICK).fails(4, "--resume", "--force")
    again = run("batch", folder / "pairs.csv", "-o", out, *QUICK, "--resume", "-v")
    assert "row 1 (a) was done before" in again.err
    assert inline.done == ["a", "c"]


def test_json_alone_is_on_stdout_and_quiet_tells_errors_only(run, folder, inline, tmp_path):
    told = run("batch", folder / "one.csv", "-o", tmp_path / "runs", *QUICK, "-q", "--json")
    assert (told.code, told.err) == (0, "")
    record = json.loads(told.out)
    assert record["counts"] == {"FAIL": 0, "WARN": 0, "PASS": 1, "failed": 0}
    assert record["rows"][0]["out"] == "a"


def test_one_bar_is_shown_on_a_terminal_if_wanted(run, folder, inline, tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    line = ("batch", folder / "pairs.csv", "-o", tmp_path / "runs", *QUICK, "--force")
    assert BAR not in run(*line).err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = run(*line).err
    assert BAR in shown and "3/3" in shown and "1 failed" in shown
    assert "3/3" not in run(*line, "--no-progress").err


@pytest.mark.parametrize("words", ["--index 0/2", "--index 3/2", "--index 1", "--index 1/0"])
def test_an_index_that_is_none_is_refused(run, folder, tmp_path, words):
    line = ("batch", folder / "one.csv", "-o", tmp_path / "runs")
    assert run(*line, *words.split()).fails(2, "--index", "from 1")


@pytest.mark.parametrize(
    "words",
    [
        "-j 2 --dask local:2",
        "-j 0",
        "--dask nowhere",
        "--dask local:0",
        "--metric zzz",
        "--fail-on dice<.5",
        "--use-labels",
        "--sweep smoothness=1,2",
        "--log a.log",
        "--write zzz",
        "-q -v",
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_made(
    run, folder, inline, tmp_path, words
):
    told = run("batch", folder / "pairs.csv", "-o", tmp_path / "runs", *words.split())
    assert told.fails(2)
    assert not (tmp_path / "runs").exists()


def test_dask_that_is_not_installed_is_named(run, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = ("batch", folder / "one.csv", "-o", tmp_path / "runs", "--dask", "local:2")
    assert run(*line).fails(2, "regcli[dask]")


def test_tables_that_are_none_are_refused(run, folder, inline, tmp_path):
    assert run("batch", tmp_path / "no.csv", "-o", tmp_path / "runs").fails(3, "no.csv")
    (tmp_path / "a.csv").write_text("fixed,moving\n")
    assert run("batch", tmp_path / "a.csv", "-o", tmp_path / "runs").fails(2, "no rows")
    assert run("batch", folder / "one.csv", "-o", folder / "one.csv" / "x").fails(4)


@pytest.fixture
def jobs(run, folder, tmp_path, monkeypatch):
    """jobs("register", "--seed", 5): what would be done with these options."""
    seen = []

    def register_files(job, progress):
        seen.append(job)
        raise KeyboardInterrupt

    def run_batch(batch, crew, watch):
        seen.append(batch.common)
        raise KeyboardInterrupt

    monkeypatch.setattr("regcli.commands.register.run.register_files", register_files)
    monkeypatch.setattr("regcli.batch.run.run_batch", run_batch)
    monkeypatch.setattr(command, "prepare", lambda *modules: None)

    def asked(name, *words):
        images = ["one.csv"] if name == "batch" else ["fixed.nii.gz", "moving.nii.gz"]
        assert run(name, *(folder / i for i in images), "-o", tmp_path, *words).code == 130
        return seen.pop()

    return asked


SHARED = [name for name in ACTS if name not in ("--out", "--sweep", "--log")]


def test_every_option_of_register_is_that_of_each_row(jobs, tmp_path):
    """But those that say how much is told: a batch has its own."""
    own = ("--json", "--quiet", "--verbose", "--no-progress")
    (tmp_path / "recipe.toml").write_text('transform = "freeform"\n')
    names = dict.fromkeys(("tmp", "done", "mask", "half", "steps", "dio", "warp"), str(tmp_path))
    names |= {name: f"{tmp_path}/{name}" for name in ("fixed_labels", "moving_labels")}
    names |= {name: f"{tmp_path}/{name}" for name in ("fixed_points", "moving_points")}
    names["toml"] = str(tmp_path / "recipe.toml")
    plain = jobs("batch")
    for name in SHARED:
        words = [*ACTS[name][0]]
        if name in ("--solver", "--diagnose"):
            words += ["--model", "deq"]
        words = [word.format_map(names) for word in words]
        one, many = jobs("register", *words), jobs("batch", *words)
        shown = {k: v for k, v in vars(one).items() if k not in ("fixed", "moving", "command")}
        assert {k: getattr(many, k) for k in shown} == shown, name
        changed = any(getattr(many, k) != getattr(plain, k) for k in shown)
        assert changed != (name in own), name
    assert set(vars(plain)) == set(Job.__dataclass_fields__)


@pytest.mark.slow
def test_a_killed_batch_leaves_no_process_and_goes_on_to_the_same_bytes(
    run, folder, inline, tmp_path
):
    """The first run has real processes, the second is done in this one."""
    table, names = folder / "many.csv", [f"r{n}" for n in range(5)]
    lines = [f"fixed.nii.gz,moving.nii.gz,{name}" for name in names]
    table.write_text("\n".join(["fixed,moving,out", *lines]))
    out, journal = tmp_path / "runs", tmp_path / "runs/journal.jsonl"
    said = tmp_path / "said"
    process = processes.start(
        processes.regcli, "batch", table, "-o", out, "-j", "2", *QUICK, said=said, daemon=False
    )
    try:
        processes.until(lambda: '"done"' in _text(journal) or not process.is_alive())
        assert process.is_alive(), said.read_text()
        workers = _below(process.pid)
        assert len(workers) >= 2
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    processes.until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert journal.read_text().count('"done"') < len(names)
    first = next(line for line in journal.read_text().splitlines() if '"done"' in line)
    assert run("batch", table, "-o", out, *QUICK, "-q", "--resume").code == 0
    assert json.loads(first)["out"] not in inline.done and 0 < len(inline.done) < len(names)
    assert not list(out.rglob(".regcli*"))
    for file in ("warp.nii.gz", "warped.nii.gz", "affine.mat", "composite.h5"):
        assert len({(out / name / file).read_bytes() for name in names}) == 1  # of one pair


def _text(path):
    return path.read_text() if path.exists() else ""


def _below(process):
    """Ids of all processes that descend from one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    found = {process}
    for _ in parents:
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {process}
