"""regcli register."""

import json
import shlex
import shutil

import pytest
import torch
from scans import write_voxels

from regcli.registry import LINEAR

DEFAULT = {
    *("warped.nii.gz", "warp.nii.gz", "inverse_warp.nii.gz", "jacobian.nii.gz"),
    *("affine.mat", "composite.h5", "inverse_composite.h5"),
    *("report.html", "regcli.json", "regcli.log"),
}
HERE = ("--init", "header")  # without a search for where to start
QUICK = ("--transform", "translation", *HERE)


def _report(folder):
    return json.loads((folder / "regcli.json").read_text())


def test_the_default_set_of_files_is_listed_on_stdout(register, tmp_path):
    told = register()
    assert told.code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == DEFAULT
    assert set(told.out.split()) == {str(tmp_path / "out" / name) for name in DEFAULT}
    assert "PASS" in told.err
    assert "folds 0 %" in told.err


def test_quiet_says_nothing_and_json_alone_is_on_stdout(register, tmp_path):
    told = register("-q", "--json", *QUICK)
    assert told.err == ""
    assert json.loads(told.out) == _report(tmp_path / "out")


def test_verbose_says_more(register):
    assert "steps" in register("-v", *QUICK).err


@pytest.mark.parametrize("transform", LINEAR)
def test_a_linear_transform_writes_no_warp(register, tmp_path, transform):
    assert register("--transform", transform, *HERE).code == 0
    out = tmp_path / "out"
    deformable = {"warp.nii.gz", "inverse_warp.nii.gz", "jacobian.nii.gz"}
    assert {path.name for path in out.iterdir()} == DEFAULT - deformable
    assert _report(out)["jacobian"] is None


def test_ants_naming_is_that_of_ants(register, tmp_path):
    assert register("--naming", "ants", "-q", *HERE).code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz", "Warped.nii.gz"} < names


def test_extra_files_are_written_on_demand(finished):
    report = _report(finished)
    for kind in ("inverse_warped", "log_jacobian", "learn2reg"):
        assert (finished / report["outputs"][kind].rpartition("/")[2]).is_file()


def test_labels_and_points_are_measured_at_every_stage(finished):
    report = _report(finished)
    for values in (report["labels"]["dice"], report["points"]["tre_mm"]):
        assert {"before", "linear", "after"} <= values.keys()
    assert report["labels"]["dice"]["after"] > report["labels"]["dice"]["before"]
    assert report["points"]["tre_mm"]["after"] < report["points"]["tre_mm"]["before"]


def test_points_and_labels_that_are_to_drive_must_be_there(register):
    for what in ("labels", "points"):
        ended = register(*QUICK, f"--use-{what}")
        assert ended.code == 2
        assert f"--use-{what} has no effect without {what}." in ended.err


def test_points_far_from_their_image_do_not_drive(register, scans, tmp_path):
    far = tmp_path / "far.csv"
    far.write_text("x,y,z\n" + "900,900,900\n" * len(_rows(scans.fixed_points)))
    given = ("--fixed-points", scans.fixed_points, "--moving-points", far)
    ended = register(*QUICK, *given, "--use-points")
    assert ended.code == 3
    assert "far.csv: point 1 lies" in ended.err
    assert "--points-space" in ended.err


def _rows(path):
    return path.read_text().splitlines()[1:]


def test_points_and_labels_drive_a_registration(register, scans, tmp_path):
    given = []
    for what in ("labels", "points"):
        given += [f"--fixed-{what}", getattr(scans, f"fixed_{what}"), f"--use-{what}"]
        given += [f"--moving-{what}", getattr(scans, f"moving_{what}")]
    assert register("--transform", "rigid", *given).code == 0
    report = _report(tmp_path / "out")
    assert report["recipe"]["use_labels"]
    assert report["recipe"]["use_points"]
    assert any("points and labels given" in note for note in report["notes"])


def test_the_command_can_be_pasted_back(register, tmp_path):
    register("--metric", "lncc:radius=3", *QUICK, "-q", "--log", tmp_path / "a log.txt")
    words = shlex.split(_report(tmp_path / "out")["command"])
    assert words[:2] == ["regcli", "register"]
    assert str(tmp_path / "a log.txt") in words
    assert (tmp_path / "a log.txt").read_text() == (tmp_path / "out" / "regcli.log").read_text()


def test_the_log_spares_inputs_outputs_and_earlier_files(register, scans, tmp_path):
    scan = scans.fixed.read_bytes()
    assert register(*QUICK, "--log", scans.fixed, "--force").fails(4, "is an input")
    assert scans.fixed.read_bytes() == scan
    assert register(*QUICK, "--log", tmp_path / "out" / "warped.nii.gz").fails(2, "written anyway")
    earlier = tmp_path / "earlier.log"
    earlier.write_text("precious")
    assert register(*QUICK, "--log", earlier).fails(4, "--force")
    assert earlier.read_text() == "precious"
    assert register(*QUICK, "--log", "/dev/full", "--force").fails(2, "not a file")
    assert not (tmp_path / "out").exists()
    assert register(*QUICK, "--log", earlier, "--force").code == 0
    assert "verdict" in earlier.read_text()


def test_a_disk_that_is_too_small_is_found_before_computing(register, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert register(*QUICK).fails(4, "free")
    assert not (tmp_path / "out").exists()


def test_a_mask_of_one_voxel_is_refused(register, scans, tmp_path):
    mask = torch.zeros(scans.truth.fixed.space.shape)
    mask[tuple(n // 2 for n in mask.shape)] = 1
    write_voxels(tmp_path / "mask.nii.gz", mask, scans.truth.fixed)
    told = register("--fixed-mask", tmp_path / "mask.nii.gz", *QUICK)
    assert told.fails(3, "constant inside its mask")


def test_an_earlier_record_is_a_recipe_and_flags_win_over_it(run, register, scans, tmp_path):
    register(*QUICK, "--seed", "7", "-q")
    record = tmp_path / "out" / "regcli.json"
    again = ("register", scans.fixed, scans.moving, "-q", "--config", record)
    assert run(*again, "-o", tmp_path / "again").code == 0
    assert _report(tmp_path / "again")["recipe"] == _report(tmp_path / "out")["recipe"]
    assert run(*again, "-o", tmp_path / "other", "--transform", "rigid").code == 0
    recipe = _report(tmp_path / "other")["recipe"]
    assert (recipe["transform"], recipe["seed"]) == ("rigid", 7)


def test_toml_is_a_recipe(register, tmp_path):
    (tmp_path / "recipe.toml").write_text(
        'transform = "translation"\nmetric = "ncc"\ninit = "header"\n'
    )
    assert register("--config", tmp_path / "recipe.toml", "-q").code == 0
    assert _report(tmp_path / "out")["recipe"]["metric"] == ["ncc"]


def test_a_result_is_replaced_only_by_force_and_then_as_a_whole(register, tmp_path):
    out = tmp_path / "out"
    assert register("-q", *HERE).code == 0
    (out / "notes.txt").write_text("mine")
    assert register(*QUICK).fails(4, "--force")
    assert {path.name for path in out.iterdir()} == DEFAULT | {"notes.txt"}
    assert register(*QUICK, "--force", "-q").code == 0
    assert not (out / "warp.nii.gz").exists()
    assert (out / "notes.txt").exists()


def test_force_does_not_write_over_an_input(run, scans, result):
    told = run("register", scans.fixed, result / "warped.nii.gz", "-o", result, "--force")
    assert told.fails(4, "input")
    assert (result / "regcli.json").exists()


def test_a_quality_gate_ends_in_6_with_the_result_written_and_told(register, tmp_path):
    told = register(*QUICK, "-q", "--json", "--fail-on", "ncc<2")
    assert told.code == 6
    assert told.err.startswith("error: Quality gate")
    assert len(told.err.splitlines()) == 2
    assert json.loads(told.out) == _report(tmp_path / "out")


def test_gates_that_are_passed_change_nothing(register):
    gates = ("folds>0.1%", "ndv > 5", "inverse>=1e1mm", "sdlogj>9", "ncc<-1")
    asked = (part for gate in gates for part in ("--fail-on", gate))
    assert register("-q", *HERE, *asked).code == 0


def test_a_time_limit_gives_the_best_so_far(register, tmp_path):
    assert register("--time-limit", "0.001").code == 0
    assert _report(tmp_path / "out")["stopped"] == "time"


def test_odd_paths_are_no_obstacle(run, scans, tmp_path):
    folder = tmp_path / "a [bold]\\[b] 'c' \"d\" é :cat: $HOME"
    folder.mkdir()
    moving = folder / "moving (1).nii.gz"
    moving.write_bytes(scans.moving.read_bytes())
    told = run("register", scans.fixed, moving, "-o", folder / "o u t", *QUICK)
    assert told.code == 0
    assert str(moving) in told.err
    assert all(path.startswith(str(folder)) for path in told.out.splitlines())


def test_the_default_folder_is_named_after_the_images(run, scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("register", scans.fixed, scans.moving, *QUICK, "-q").code == 0
    assert (tmp_path / "moving_to_fixed" / "regcli.json").is_file()
