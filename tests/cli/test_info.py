"""regcli info and regcli weights list."""

import json

import pytest


def test_an_image_is_described_by_its_grid(run, scans):
    told = run("info", scans.fixed)
    assert told.code == 0
    assert "25 x 31 x 27" in told.out
    assert "2.1 x 1.7 x 1.9" in told.out
    assert "int16" in told.out
    assert told.err == ""


def test_transforms_are_described_in_lines_for_people(run, finished):
    told = run("info", finished / "warp.nii.gz", finished / "composite.h5")
    assert told.code == 0
    assert "{" not in told.out
    assert "1 of 2" in told.out
    assert "longest displacement" in told.out
    assert "LPS" in told.out
    body = [line for line in told.out.splitlines() if not line.startswith("/")]
    assert all(len(line) <= 80 for line in body)


def test_json_describes_every_file(run, scans, finished):
    found = json.loads(run("info", scans.moving, finished / "affine.mat", "--json").out)
    assert [facts["kind"] for facts in found] == ["image", "affine"]
    assert found[0]["shape"] == list(scans.truth.moving.space.shape)
    assert len(found[1]["parts"][0]["matrix_ras"]) == 4


@pytest.mark.parametrize("name", ["absent.nii.gz", "folder", "empty.nii.gz", "junk.h5", "x.csv"])
def test_what_holds_no_facts_is_refused(run, scans, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "junk.h5").write_text("junk")
    (tmp_path / "x.csv").write_text("x,y,z\n1,2,3\n")
    assert run("info", scans.fixed, tmp_path / name).fails(3, name)


def test_weights_list_says_what_is_there(run):
    assert run("weights", "list").code == 0
    assert isinstance(json.loads(run("weights", "list", "--json").out), list)
