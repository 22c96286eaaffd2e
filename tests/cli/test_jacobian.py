"""regcli jacobian."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from scans import write_voxels

NAMES = {"jacobian.nii.gz", "log_jacobian.nii.gz", "jacobian.json", "jacobian.csv"}


def test_a_result_folder_gives_the_numbers_of_its_report(run, finished, tmp_path):
    out = tmp_path / "j"
    told = run("jacobian", finished, "-o", out, "--json")
    numbers = json.loads(told.out)
    assert told.code == 0
    assert {path.name for path in out.iterdir()} == NAMES
    assert json.loads((out / "jacobian.json").read_text()) == numbers
    report = json.loads((finished / "regcli.json").read_text())["jacobian"]
    assert numbers["folds_percent"] == report["folds_percent"] == 0
    det = nib.load(out / "jacobian.nii.gz").get_fdata()
    log = nib.load(out / "log_jacobian.nii.gz").get_fdata()
    assert np.abs(np.exp(log) - det).max() < 1e-4
    assert det == pytest.approx(nib.load(finished / "jacobian.nii.gz").get_fdata(), abs=1e-4)
    header, row = csv.reader((out / "jacobian.csv").read_text().splitlines())
    assert float(row[header.index("max")]) == numbers["max"]


def test_total_multiplies_by_the_affine(run, finished, tmp_path):
    for name, flags in (("deformation", ()), ("total", ("--total",))):
        assert run("jacobian", finished, "-o", tmp_path / name, *flags, "-q").err == ""
    one, other = (
        nib.load(tmp_path / name / "jacobian.nii.gz").get_fdata()
        for name in ("deformation", "total")
    )
    factor = json.loads((tmp_path / "total" / "jacobian.json").read_text())["affine_determinant"]
    assert other == pytest.approx(one * factor, rel=1e-4)


def test_a_warp_file_and_a_composite_agree(run, finished, tmp_path):
    found = [
        json.loads(run("jacobian", finished / name, "-o", tmp_path / name, "--json").out)
        for name in ("warp.nii.gz", "composite.h5")
    ]
    assert found[0]["sdlogj"] == pytest.approx(found[1]["sdlogj"], abs=1e-5)


def test_a_mask_is_where_numbers_are_taken(run, finished, scans, tmp_path):
    space = scans.truth.fixed.space
    inside = torch.zeros(space.shape)
    inside[8:16, 10:20, 8:18] = 1
    mask = write_voxels(tmp_path / "mask.nii.gz", inside, scans.truth.fixed)
    numbers = json.loads(
        run("jacobian", finished, "-o", tmp_path / "j", "--mask", mask, "--json").out
    )
    det = nib.load(tmp_path / "j" / "jacobian.nii.gz").get_fdata()[inside > 0]
    assert numbers["max"] == pytest.approx(det.max(), abs=1e-4)


def test_a_mask_on_another_grid_is_refused(run, finished, scans, tmp_path):
    mask = scans.moving_labels
    assert run("jacobian", finished, "-o", tmp_path / "j", "--mask", mask).fails(3, "grid")
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize("name", ["affine.mat", "warped.nii.gz", "absent.nii.gz", "regcli.log"])
def test_what_is_no_warp_is_refused(run, finished, tmp_path, name):
    assert run("jacobian", finished / name, "-o", tmp_path / "j").fails(3, name)
    assert not (tmp_path / "j").exists()


def test_a_result_folder_is_never_written_into(run, result):
    before = (result / "regcli.json").read_text()
    assert run("jacobian", result, "-o", result).fails(4, "-o")
    assert run("jacobian", result, "-o", result, "--force").fails(4, "-o")
    assert (result / "regcli.json").read_text() == before


def test_absurd_displacements_leave_valid_json(run, finished, tmp_path):
    image = nib.load(finished / "warp.nii.gz")
    data = np.asarray(image.dataobj).copy()
    data[3, 4, 5] = 1e20
    nib.save(nib.Nifti1Image(data, image.affine, image.header), tmp_path / "absurd.nii.gz")
    assert run("jacobian", tmp_path / "absurd.nii.gz", "-o", tmp_path / "j").code == 0

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = (tmp_path / "j" / "jacobian.json").read_text()
    assert json.loads(text, parse_constant=refuse)["folds_percent"] > 0
