"""regcli apply."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from scans import write_voxels

from regcli.io.images import read_image
from regcli.io.points import read_points


def test_the_registered_image_comes_out_as_it_did_then(run, result, scans, tmp_path):
    told = run("apply", "-t", result, scans.moving, "-o", tmp_path / "carried")
    assert told.code == 0
    assert told.out.split() == [str(tmp_path / "carried" / "moving.nii.gz")]
    carried, warped = (
        np.asarray(nib.load(path).dataobj, dtype=np.float64)
        for path in (tmp_path / "carried" / "moving.nii.gz", result / "warped.nii.gz")
    )
    assert np.abs(carried - warped).max() <= 1  # rounding


def test_a_record_a_list_of_files_and_a_composite_do_the_same(run, result, scans, tmp_path):
    images = []
    ways = {
        "record": [result / "regcli.json"],
        "list": [result / "warp.nii.gz", result / "affine.mat"],
        "composite": [result / "composite.h5"],
    }
    for name, files in ways.items():
        transforms = [word for file in files for word in ("-t", file)]
        assert run("apply", *transforms, scans.moving, "-o", tmp_path / name, "-q").code == 0
        images.append(read_image(tmp_path / name / "moving.nii.gz").image.data)
    assert all(bool(((image - images[0]).abs() <= 1).all()) for image in images)


def test_json_says_what_became_of_every_input(run, finished, scans, tmp_path):
    inputs = (scans.moving, scans.moving_labels, scans.moving_points)
    told = run("apply", "-t", finished, *inputs, "-o", tmp_path / "x", "--json", "-q")
    assert told.err == ""
    done = json.loads(told.out)
    assert [item["kind"] for item in done] == ["image", "labels", "points"]
    assert [item["input"] for item in done] == list(map(str, inputs))
    assert all((tmp_path / "x" / path.name).is_file() for path in inputs)


def test_a_reference_decides_the_grid(run, finished, scans, tmp_path):
    grid = write_voxels(
        tmp_path / "grid.nii.gz", torch.rand(scans.truth.moving.space.shape) * 9, scans.truth.moving
    )
    command = ("apply", "-t", finished, scans.moving, "-o", tmp_path / "x", "--reference", grid)
    assert run(*command).code == 0
    space = read_image(tmp_path / "x" / "moving.nii.gz").image.space
    assert space.agrees(scans.truth.moving.space)


def test_an_affine_alone_needs_a_reference_for_images_not_for_points(
    run, finished, scans, tmp_path
):
    command = ("apply", "-t", finished / "affine.mat", "-o", tmp_path / "x")
    assert run(*command, scans.moving).fails(3, "--reference")
    assert run(*command, scans.moving_points).code == 0


def test_another_geometry_is_refused_unless_allowed(run, finished, scans, tmp_path):
    command = ("apply", "-t", finished, scans.fixed, "-o", tmp_path / "x")
    assert run(*command).fails(3, "--allow-geometry-mismatch")
    assert run(*command[:-2], "-o", tmp_path / "x", "--inverse", "-q").code == 0
    assert run(*command[:-1], tmp_path / "y", "--allow-geometry-mismatch", "-q").code == 0


def test_nothing_is_left_if_the_last_input_is_bad(run, finished, scans, tmp_path):
    command = ("apply", "-t", finished, scans.moving, "-o", tmp_path / "x")
    (tmp_path / "words.csv").write_text("x,y,z\n1,2,three\n")
    for bad in (tmp_path / "absent.nii.gz", tmp_path / "words.csv", finished / "affine.mat"):
        assert run(*command, bad).fails(3, bad.name)
        assert not (tmp_path / "x").exists()


def test_inputs_and_results_are_never_written_over(run, result, scans, tmp_path):
    moving = tmp_path / "moving.nii.gz"
    moving.write_bytes(scans.moving.read_bytes())
    command = ("apply", "-t", result, moving)
    assert run(*command, "-o", tmp_path, "--force").fails(4, "overwritten")
    assert run(*command, "-o", result, "--force").fails(4, "registration")
    assert moving.read_bytes() == scans.moving.read_bytes()
    assert run(*command, "-o", tmp_path / "x").code == 0
    assert run(*command, "-o", tmp_path / "x").fails(4, "--force")
    assert run(*command, "-o", tmp_path / "x", "--force").code == 0


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("points", ("--interp", "cubic")),
        ("points", ("--reference", "warped.nii.gz")),
        ("points", ("--frame", "0")),
        ("points", ("--allow-geometry-mismatch",)),
        ("image", ("--points-space", "lps")),
        ("image", ("--frame", "0")),
        ("image", ("--frame", "last")),
        ("image", ("--interp", "zzz")),
        ("image", ("-t", "another")),
    ],
    ids=str,
)
def test_options_that_can_not_act_are_refused(run, finished, scans, tmp_path, what, options):
    path = scans.moving_points if what == "points" else scans.moving
    assert run("apply", "-t", finished, path, "-o", tmp_path / "x", *options).fails(2)
    assert not (tmp_path / "x").exists()


def test_two_inputs_of_one_name_are_refused(run, finished, scans, tmp_path):
    command = ("apply", "-t", finished, scans.moving, scans.moving, "-o", tmp_path / "x")
    assert run(*command).fails(2, "moving.nii.gz")


@pytest.mark.parametrize("spoil", ["absent", "emptied", "nonsense", "no composite"])
def test_a_folder_that_holds_no_whole_result_is_refused(run, result, scans, tmp_path, spoil):
    record = result / "regcli.json"
    if spoil == "absent":
        record.unlink()
    elif spoil == "emptied":
        record.write_text("")
    elif spoil == "nonsense":
        record.write_text(json.dumps(json.loads(record.read_text()) | {"fixed": {"shape": "x"}}))
    else:
        (result / "composite.h5").unlink()
    assert run("apply", "-t", result, scans.moving, "-o", tmp_path / "x").fails(3)
    assert not (tmp_path / "x").exists()


def test_points_keep_their_columns_and_say_so(run, finished, scans, tmp_path):
    rows = [f"{n},{x},{y},{z}" for n, (x, y, z) in enumerate(scans.truth.points.tolist())]
    named = tmp_path / "named.csv"
    named.write_text("\n".join(["name,x,y,z", *rows]))
    told = run("apply", "-t", finished, named, "--inverse", "-o", tmp_path / "x")
    assert f"{named}: 50 points" in told.err
    carried = read_points(tmp_path / "x" / "named.csv")
    assert carried.names == tuple(str(n) for n in range(50))
    error = (carried.world - scans.truth.phi(scans.truth.points)).norm(dim=1)
    assert float(error.mean()) < 2
