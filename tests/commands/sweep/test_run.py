"""A sweep is its registrations, each as if alone, and a table and a picture of all of them."""

import csv
import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import SPACES
from phantoms import pair
from scans import write_pair

from regcli.commands.register.job import Job
from regcli.commands.register.run import register_files
from regcli.commands.sweep import run as module
from regcli.commands.sweep.picture import _positions, draw_tradeoff
from regcli.commands.sweep.run import FILES, Sweep, check_sweep, sweep_files
from regcli.commands.sweep.table import COLUMNS, likeness, number
from regcli.errors import GateError, MemoryShortageError, OutputError, RecipeError, RegcliError
from regcli.recipe import RegisterRecipe

QUICK = RegisterRecipe(model="classical", init="none", levels=(2,), iterations=(3,))
VALUES = {"0.3": 0.3, "3": 3.0, "1": 1.0}
FOLDERS = {f"smoothness={value}" for value in VALUES}


@contextmanager
def _silent(value):
    yield lambda stage, share: None


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    return write_pair(folder, pair(SPACES["odd"], linear=False))  # no linear stage: seconds less


def _sweep(scans, out, **more):
    job = Job(scans.fixed, scans.moving, out, **more)
    return Sweep(job, "smoothness", {k: replace(QUICK, smoothness=v) for k, v in VALUES.items()})


@pytest.fixture(scope="module")
def done(scans):
    """A sweep with labels and points, and the folder that it was written to."""
    known = {
        f"{side}_{what}": getattr(scans, f"{side}_{what}")
        for side in ("fixed", "moving")
        for what in ("labels", "points")
    }
    out = scans.fixed.parent / "done"
    return sweep_files(_sweep(scans, out, fail_on=("sdlogj>0",), **known), _silent), out


@pytest.fixture
def no_registration(monkeypatch):
    """Registering is a failure of the test."""

    def fail(*arguments):
        raise AssertionError("computed")

    monkeypatch.setattr(module, "register_files", fail)


def test_a_value_has_the_result_that_it_has_alone(done, scans, tmp_path):
    job = Job(scans.fixed, scans.moving, tmp_path, replace(QUICK, smoothness=3.0))
    alone, swept = register_files(job, lambda stage, share: None), done[0].reports["3"]
    for key in ("recipe", "metric", "similarity", "jacobian", "inverse", "solver", "notes"):
        assert swept[key] == alone[key], key
    warps = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "warp.nii.gz")))
        for folder in (tmp_path, done[1] / "smoothness=3")
    ]
    np.testing.assert_array_equal(*warps)
    assert {p.name for p in tmp_path.iterdir()} == {
        p.name for p in (done[1] / "smoothness=3").iterdir()
    }


def test_the_folder_holds_the_results_and_the_three_files_alone(done):
    assert {path.name for path in done[1].iterdir()} == FOLDERS | set(FILES.values())
    assert (done[1] / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_record_and_the_table_repeat_what_each_result_says_of_itself(done):
    swept, out = done
    record = json.loads((out / "sweep.json").read_text())
    assert record == swept.record
    assert [row["value"] for row in record["rows"]] == list(VALUES.values())
    with (out / "sweep.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for row, line in zip(record["rows"], lines, strict=True):
        report = json.loads((out / f"smoothness={row['name']}" / "regcli.json").read_text())
        assert report == swept.reports[row["name"]]
        assert report["recipe"]["smoothness"] == row["value"]
        for key in ("similarity", "jacobian", "labels", "points", "verdict", "seconds"):
            assert row[key] == report[key]
        assert line["smoothness"] == row["name"]
        assert line["similarity"] == report["similarity"]["name"]
        for column in ("dice_after", "tre_mm_after", "hd95_mm_before", "folds_percent", "sdlogj"):
            assert float(line[column]) == pytest.approx(number(row, column))
    assert float(lines[0]["sdlogj"]) > float(lines[1]["sdlogj"])  # smoothness .3 and 3


def test_every_column_is_known_where_everything_was_measured(done):
    for row in done[0].record["rows"]:
        assert all(number(row, column) is not None for column in COLUMNS)


def test_a_gate_names_every_value_that_fails_after_all_was_written(done):
    with pytest.raises(GateError) as caught:
        check_sweep(done[0])
    assert "3 of 3" in caught.value.cause
    assert all(f"smoothness={value}: " in caught.value.cause for value in VALUES)


def test_a_registration_that_fails_leaves_the_others(scans, tmp_path, monkeypatch):
    def fail(job, progress, inputs):
        if job.recipe.smoothness == 3:
            raise MemoryShortageError("It is too big.", "Crop it.")
        return register_files(job, progress, inputs)

    monkeypatch.setattr(module, "register_files", fail)
    swept = sweep_files(_sweep(scans, tmp_path / "out"), _silent)
    rows = {row["name"]: row for row in swept.record["rows"]}
    assert rows["3"]["error"] == "It is too big."
    assert [row["verdict"]["status"] == "FAIL" for row in rows.values()] == [False, True, False]
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == (FOLDERS | set(FILES.values())) - {"smoothness=3"}
    with pytest.raises(MemoryShortageError, match="smoothness=3: It is too big"):
        check_sweep(swept)


def test_if_nothing_succeeds_nothing_is_left(scans, tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryShortageError("It is too big.", "Crop it.")

    monkeypatch.setattr(module, "register_files", fail)
    with pytest.raises(MemoryShortageError, match="too big"):
        sweep_files(_sweep(scans, tmp_path / "out"), _silent)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_table_never_stands_beside_newer_results(done, scans, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(done[1], out)
    (out / "notes.txt").write_text("mine")
    seen = []

    @contextmanager
    def interrupted(value):
        seen.append({path.name for path in out.iterdir() if path.is_file()})
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        sweep_files(_sweep(scans, out, force=True), interrupted)
    assert seen == [{"notes.txt"}]
    assert {path.name for path in out.iterdir()} == FOLDERS | {"notes.txt"}


def test_what_stands_in_the_way_is_found_before_computing(scans, tmp_path, no_registration, done):
    def refused(error, words, sweep):
        with pytest.raises(error, match=words):
            sweep_files(sweep, _silent)

    last = tmp_path / "last"
    shutil.copytree(done[1] / "smoothness=1", last / "smoothness=1")
    refused(OutputError, "smoothness=1 holds a result", _sweep(scans, last))
    assert [path.name for path in last.iterdir()] == ["smoothness=1"]
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "sweep.csv").write_text("x")
    refused(OutputError, "sweep.csv", _sweep(scans, tmp_path / "table"))
    refused(OutputError, "record", _sweep(scans, done[1] / "smoothness=1", force=True))
    points = tmp_path / "sweep.csv"
    points.write_text(scans.fixed_points.read_text())
    used = {"fixed_points": points, "moving_points": scans.moving_points}
    refused(OutputError, "is an input", _sweep(scans, tmp_path, force=True, **used))
    refused(RecipeError, "--log", _sweep(scans, tmp_path / "out", log=tmp_path / "a.log"))
    assert not (tmp_path / "out").exists()


def test_a_value_that_cannot_be_is_found_before_computing(scans, tmp_path, no_registration):
    job = Job(scans.fixed, scans.moving, tmp_path / "out", fail_on=("folds>0",))
    recipes = {"diffeo": QUICK, "rigid": RegisterRecipe(model="classical", transform="rigid")}
    with pytest.raises(RecipeError, match="transform=rigid: --fail-on"):
        sweep_files(Sweep(job, "transform", recipes), _silent)
    job = replace(job, fail_on=())
    bad = {"classical": QUICK, "deq": RegisterRecipe(model="deq", weights="dio-brain")}
    with pytest.raises(RegcliError, match="model=deq: ") as caught:
        sweep_files(Sweep(job, "model", bad), _silent)
    assert caught.value.code == 3
    assert not (tmp_path / "out").exists()


def test_the_disk_must_hold_all_results_together(scans, tmp_path, monkeypatch, no_registration):
    sweep = _sweep(scans, tmp_path / "out")
    for results, enough in ((4, True), (2, False)):
        # what one result may take, as its registration reckons
        free = results * (20_925 * (12 * 4 + 8 * 2) + 16_384 * 10 + (3 << 20))
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        with pytest.raises(AssertionError if enough else OutputError):
            sweep_files(sweep, _silent)


def test_folders_have_names_that_are_safe_and_differ(tmp_path):
    job = Job(tmp_path, tmp_path, tmp_path / "out")
    recipes = {"run/a.safetensors": QUICK, "b c": QUICK}
    names = [job.out.name for job in Sweep(job, "weights", recipes).jobs().values()]
    assert names == ["weights=run_a.safetensors", "weights=b_c"]
    with pytest.raises(RecipeError, match="Two values"):
        Sweep(job, "weights", recipes | {"b_c": QUICK}).jobs()


def test_rows_of_other_contrasts_are_compared_by_what_they_share(done):
    rows = done[0].record["rows"]
    assert likeness(rows) == ("lncc", "similarity")
    other = rows[0] | {"similarity": rows[0]["similarity"] | {"name": "mi"}}
    assert likeness([other, *rows]) == ("ncc", "ncc")


def test_a_picture_of_names_takes_linear_maps_failures_and_dollars(done, tmp_path):
    first = done[0].record["rows"][0]
    folded = first | {"jacobian": first["jacobian"] | {"folds_percent": 2.0}}
    failed = first | dict.fromkeys(("similarity", "jacobian", "labels", "points"))
    rows = {"$x$": first, "rigid": first | {"jacobian": None}, "freeform": folded}
    rows |= {"broken": failed | {"error": "It broke."}}
    record = done[0].record | {"field": "transform"}
    for chosen in (rows, {"rigid": rows["rigid"], "affine": rows["rigid"]}):
        named = [row | {"name": name, "value": name} for name, row in chosen.items()]
        draw_tradeoff(record | {"rows": named}, tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 5000


def test_numbers_stand_where_they_are_and_evenly_where_that_is_too_close():
    assert _positions([0.3, 1.0, 3.0]) == ([0.3, 1.0, 3.0], "log")
    assert _positions([1.0, 2.0, 3.0]) == ([1.0, 2.0, 3.0], "linear")
    assert _positions([0.1, 0.11, 3.0]) == (None, "linear")
    assert _positions([0.0, 1e-4, 1e-3]) == (None, "linear")
