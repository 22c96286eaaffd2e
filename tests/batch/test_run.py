"""Batches are run, cut short, resumed and told of."""

import csv
import json
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from batches import QUICK, Rows

from regcli.batch import plan, worker
from regcli.batch.pool import WorkerLostError
from regcli.batch.run import check_batch
from regcli.batch.worker import Outcome
from regcli.commands.register.job import Job
from regcli.errors import BatchError, OutputError, RecipeError

MISSING = "fixed.nii.gz,nothing.nii.gz,bad"
GOOD = "fixed.nii.gz,moving.nii.gz,good"


def _bytes(folder):
    """Everything but what says how long it took."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    kept = [p for p in paths if p.name not in ("regcli.json", "regcli.log", "report.html")]
    kept = [p for p in kept if p.parent != folder]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def test_a_bad_row_is_told_and_stops_no_other(batch, done, tmp_path):
    some = batch(lines=[MISSING, GOOD])
    rows = Rows()
    record = done(some, rows)
    assert rows.done == ["good"]
    bad, good = record["rows"]  # worst first
    assert (bad["row"], bad["status"], bad["exit_code"]) == (1, "FAIL", 3)
    assert "nothing.nii.gz does not exist" in bad["cause"]
    assert (good["row"], good["exit_code"]) == (2, 0)
    with (tmp_path / "runs/summary.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["out"] for row in table] == ["bad", "good"]
    report = json.loads((tmp_path / "runs/good/regcli.json").read_text())
    assert float(table[1]["similarity_after"]) == report["similarity"]["after"]
    with pytest.raises(BatchError, match=r"1 of 2 rows failed. Row 1: .*nothing"):
        check_batch(record)
    assert not list((tmp_path / "runs").rglob(".regcli*"))
    page = (tmp_path / "runs/summary.html").read_text()
    assert 'href="good/report.html"' in page
    assert page.count("data:image/png;base64,iVBOR") == 1


def test_what_a_batch_holds_is_left_unless_it_is_resumed_or_forced(batch, done):
    done(batch("a"))
    with pytest.raises(OutputError, match="a batch already"):
        done(batch("a"))
    for given, again in (({"resume": True}, []), ({"force": True}, ["a"])):
        rows = Rows()
        done(batch("a", **given), rows)
        assert rows.done == again


def test_only_rows_that_would_differ_are_run_again(batch, done, pairs, tmp_path):
    out = tmp_path / "runs"
    done(batch("a", "b"))
    before = _bytes(out)

    def resumed(some):
        rows = Rows()
        done(some, rows)
        return rows.done

    again = batch("a", "b", resume=True)
    (out / "a/warp.nii.gz").write_bytes(b"something else")
    assert resumed(again) == ["a"]
    (out / "b/affine.mat").unlink()
    assert resumed(again) == ["b"]
    (out / "b/regcli.json").unlink()
    assert resumed(again) == ["b"]
    assert _bytes(out) == before
    assert resumed(batch("a", "b", "c", resume=True)) == ["c"]
    assert resumed(batch("a", "b", resume=True, recipe=replace(QUICK, threads=1))) == []
    assert resumed(batch("a", "b", resume=True, fail_on=("folds>1%",))) == []
    assert resumed(batch("b", resume=True, recipe=replace(QUICK, smoothness=2.0))) == ["b"]
    assert resumed(batch("b", resume=True)) == ["b"]
    moved = pairs / "other.nii.gz"
    shutil.copy(pairs / "moving.nii.gz", moved)
    same = batch(lines=["fixed.nii.gz,other.nii.gz,a"], resume=True)
    assert resumed(same) == []  # the same image by another name
    moved.write_bytes((pairs / "fixed.nii.gz").read_bytes())
    assert resumed(same) == ["a"]


def test_after_any_end_a_batch_goes_on_to_the_same_bytes(batch, done, tmp_path):
    out, kept = tmp_path / "runs", tmp_path / "kept"
    done(batch("a", "b"))
    whole = _bytes(out)
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    shutil.move(out, kept)
    for count in range(5):
        there = {1: 3, 3: 9}.get(count, 0)  # files of the row under way: some, or all
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        torn = (lines[count] if count < 4 else b"")[:50]
        (out / "journal.jsonl").write_bytes(b"".join(lines[:count]) + torn)
        for name in "ab"[: count // 2]:
            shutil.copytree(kept / name, out / name)
        row = "ab"[count // 2 % 2]
        for path in sorted((kept / row).iterdir())[:there]:
            (out / row).mkdir(exist_ok=True)
            shutil.copy(path, out / row)
        rows = Rows()
        record = done(batch("a", "b", resume=True), rows)
        assert rows.done == ["a", "b"][count // 2 :]
        assert record["counts"]["failed"] == 0
        assert _bytes(out) == whole


def test_an_interrupted_batch_leaves_no_summary_and_goes_on(batch, done, tmp_path):
    def interrupt(finished):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        done(batch("a", "b"), watch=interrupt)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"journal.jsonl", "a"}
    rows = Rows()
    done(batch("a", "b", resume=True), rows)
    assert rows.done == ["b"]


def test_results_that_no_batch_wrote_are_spared(batch, done, tmp_path):
    done(batch("a"))
    shutil.copytree(tmp_path / "runs/a", tmp_path / "runs/mine")
    record = done(batch("a", "mine", resume=True))
    assert [(row["out"], row["exit_code"]) for row in record["rows"]] == [("mine", 4), ("a", 0)]


def test_jobs_of_an_array_take_their_rows_and_are_joined(batch, done, tmp_path):
    names, taken = ("a", "b", "c"), {}
    for part in ((1, 2), (2, 2), (3, 3)):
        rows = Rows()
        done(batch(*names, part=part, resume=part[1] == 3), rows)
        taken[part] = rows.done
    assert taken == {(1, 2): ["a", "c"], (2, 2): ["b"], (3, 3): []}
    for part in (None, (1, 3)):
        with pytest.raises(OutputError, match="a batch already"):
            done(batch(*names, part=part))
    rows = Rows()
    record = done(batch(*names, resume=True), rows)
    assert rows.done == []
    assert len(record["rows"]) == 3
    own = {path.name for path in (tmp_path / "runs").iterdir() if path.is_file()}
    assert own >= {"journal-1-of-2.jsonl", "summary-2-of-2.csv", "summary.csv", "summary.html"}


def test_gates_are_asked_of_every_row_and_of_earlier_ones(batch, done):
    done(batch("a"))
    rows = Rows()
    record = done(batch("a", "b", resume=True, fail_on=("ncc<2", "folds>50%")), rows)
    assert rows.done == ["b"]
    assert [(row["status"], row["exit_code"]) for row in record["rows"]] == [("FAIL", 6)] * 2


def test_a_row_that_takes_its_worker_with_it_is_tried_once_more_and_reported(batch, done):
    deaths = {"a": 1, "b": 2}

    def row(job):
        deaths[job.out.name] = deaths.get(job.out.name, 0) - 1
        if deaths[job.out.name] >= 0:
            raise WorkerLostError(-9)
        return worker.run_row(job, 1, 0, lambda: None)

    rows = Rows(row=row)
    record = done(batch("a", "b", "c"), rows)
    assert rows.done == ["a", "b", "c", "a", "b"]
    codes = {row["out"]: row["exit_code"] for row in record["rows"]}
    assert codes == {"a": 0, "b": 5, "c": 0}


def test_a_worker_that_ended_otherwise_is_a_bug_and_dask_says_what_it_knows(batch, done):
    ends = {"a": WorkerLostError(-11), "b": RuntimeError("killed by\nDask")}

    def row(job):
        raise ends[job.out.name]

    record = done(batch("a", "b"), Rows(row=row))
    causes = {row["out"]: (row["exit_code"], row["cause"]) for row in record["rows"]}
    assert causes["a"] == (1, "The worker ended by signal 11.")
    assert causes["b"] == (1, "The worker failed: RuntimeError: killed by Dask.")


def test_no_more_rows_run_at_once_than_memory_and_workers_allow(batch, done):
    most, now, lock, together = [0], [0], threading.Lock(), []

    def row(job):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together[-1].wait(60)  # as many as may
        time.sleep(0.03)  # one more would come meanwhile
        with lock:
            now[0] -= 1
        return Outcome(3, "It is bad.", "Mend it.")

    need = plan.make_plan(batch("a"))[0].memory
    for memory, size, wanted in ((None, 3, 3), (2 * need, 3, 2), (need - 1, 3, 1), (None, 1, 1)):
        most[0] = 0
        together.append(threading.Barrier(wanted))
        with ThreadPoolExecutor(4) as pool:
            done(batch(*"abcdef", force=True), Rows(pool, size, memory, row))
        assert most[0] == wanted


def test_memory_that_neighbours_took_is_asked_for_again_alone(batch, done):
    both, alone = threading.Barrier(2), []

    def row(job):
        if job.out.name == "b" or alone:
            alone.append(job.out.name)
        elif job.out.name == "a":
            both.wait(10)
            alone.append("a")
            return Outcome(5, "It is too big.", "Crop it.")
        if job.out.name == "b" and len(alone) == 1:
            both.wait(10)
            time.sleep(0.2)
        return Outcome(3, "It is bad.", "Mend it.")

    with ThreadPoolExecutor(2) as pool:
        record = done(batch("a", "b"), Rows(pool, 2, None, row))
    assert [row["exit_code"] for row in record["rows"]] == [3, 3]
    assert alone.count("a") == 2


def test_a_bug_in_one_row_is_told_with_its_traceback(batch, done, tmp_path, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("no")

    monkeypatch.setattr(worker, "register_files", fail)
    record = done(batch("a"))
    assert record["rows"][0]["exit_code"] == 1
    assert "ZeroDivisionError" in record["rows"][0]["cause"]
    last = json.loads((tmp_path / "runs/journal.jsonl").read_text().splitlines()[-1])
    assert "Traceback" in last["details"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["fixed.nii.gz,moving.nii.gz,"] * 2, "Rows 1 and 2 .*moving_to_fixed"),
        (["fixed.nii.gz,moving.nii.gz,x", "fixed.nii.gz,moving.nii.gz,./y/../x"], "Rows 1 and 2"),
        (["fixed.nii.gz,moving.nii.gz,../x"], "outside"),
        (["fixed.nii.gz,moving.nii.gz,x", "fixed.nii.gz,moving.nii.gz,x/y"], "within the folder"),
        (["fixed.nii.gz,moving.nii.gz,."], "files of the batch"),
        (["fixed.nii.gz,moving.nii.gz,summary.csv"], "files of the batch"),
    ],
)
def test_folders_that_cannot_be_are_refused(batch, done, tmp_path, lines, words):
    with pytest.raises(RecipeError, match=words):
        done(batch(lines=lines))
    assert not (tmp_path / "runs").exists()


def test_a_folder_may_lie_elsewhere_if_it_is_named_in_full(batch, done, tmp_path):
    there = tmp_path / "else where"
    record = done(batch(lines=[f"fixed.nii.gz,moving.nii.gz,{there}"]))
    assert record["rows"][0]["out"] == str(there)
    assert (there / "regcli.json").is_file()
    assert 'href="../else%20where/report.html"' in (tmp_path / "runs/summary.html").read_text()


def test_options_that_fit_no_row_are_refused_at_once(batch, done, tmp_path):
    labels = {"recipe": replace(QUICK, use_labels=True)}
    for words, options in (("dice", {"fail_on": ("dice<.5",)}), ("--use-labels", labels)):
        with pytest.raises(RecipeError, match=words):
            done(batch("a", "b", **options))
    assert not (tmp_path / "runs").exists()


def test_a_row_never_overwrites_what_another_reads(batch, tmp_path):
    some = batch("a", "b", force=True)
    rows = [some.rows[0], replace(some.rows[1], files=dict(some.rows[1].files))]
    rows[1].files["moving"] = tmp_path / "runs/a/warped.nii.gz"
    with pytest.raises(OutputError, match=r"Row 1 would overwrite .*, which row 2 reads"):
        plan.make_plan(replace(some, rows=rows))


def test_gpus_go_round_the_workers_where_the_user_left_that_open(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(worker, "fingerprint", lambda job: "")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(worker, "register_files", lambda job, step: seen.append(job.recipe.device))

    def device(name, place):
        job = Job(tmp_path, tmp_path, tmp_path, replace(QUICK, device=name))
        worker.run_row(job, 1, place, lambda: None)
        return seen.pop()

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = [device(name, place) for name in ("auto", "cuda") for place in (0, 1, 2)]
    assert found == ["cuda:0", "cuda:1", "cuda:0"] * 2
    assert [device(name, 1) for name in ("cpu", "cuda:0")] == ["cpu", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert device("auto", 1) == "auto"


def test_a_worker_has_its_share_of_threads(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(worker, "fingerprint", lambda job: "")
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.setattr(worker, "register_files", lambda job, step: seen.append(job.recipe.threads))
    for asked in (0, 1, 9):
        job = Job(tmp_path, tmp_path, tmp_path, replace(QUICK, threads=asked))
        assert re.search("FileNotFound|exist", worker.run_row(job, 3, 0, lambda: None).cause)
    assert seen == [3, 0, 3, 1, 3, 3]
