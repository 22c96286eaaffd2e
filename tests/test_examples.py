"""The scripts in examples/ do what they say, run as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*command):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A coarse pair, small enough for a registration in seconds."""
    folder = tmp_path_factory.mktemp("phantom")
    run(sys.executable, EXAMPLES / "phantom.py", folder, "--spacing", "6")
    return folder


def voxels(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_the_phantom_is_registered_to_its_true_map(phantom, tmp_path):
    inputs = ["--fixed-points", phantom / "fixed_points.csv"]
    inputs += ["--moving-points", phantom / "moving_points.csv"]
    images = (phantom / "fixed.nii.gz", phantom / "moving.nii.gz")
    run("regcli", "register", *images, "-o", tmp_path / "out", *inputs)
    tre = json.loads((tmp_path / "out/regcli.json").read_text())["points"]["tre_mm"]
    assert tre["after"] < 0.8 * tre["linear"] < 0.8 * tre["before"]


def test_a_folder_is_registered_to_a_template_and_continued(phantom, tmp_path):
    scans = tmp_path / "scans with a space"
    scans.mkdir()
    for name in ("a", "b"):
        (scans / f"{name}.nii.gz").symlink_to(phantom / "moving.nii.gz")
    command = (
        EXAMPLES / "folder_to_template.sh",
        phantom / "fixed.nii.gz",
        scans,
        tmp_path / "out",
    )
    run(*command, "--transform", "rigid")
    done = [tmp_path / "out" / name / "regcli.json" for name in ("a", "b")]
    written = [path.stat().st_mtime_ns for path in done]
    run(*command, "--transform", "rigid")
    assert [path.stat().st_mtime_ns for path in done] == written


def test_labels_are_carried_to_a_subject(phantom, tmp_path):
    scan, atlas = (phantom / f"{name}.nii.gz" for name in ("fixed", "moving"))
    run(EXAMPLES / "labels_to_subject.sh", scan, atlas, phantom / "moving_labels.nii.gz", tmp_path)
    carried, truth = (
        voxels(tmp_path / "moving_labels.nii.gz"),
        voxels(phantom / "fixed_labels.nii.gz"),
    )
    assert set(np.unique(carried)) <= set(np.unique(voxels(phantom / "moving_labels.nii.gz")))
    white = [np.isin(labels, (2, 41)) for labels in (carried, truth)]
    assert 2 * (white[0] & white[1]).sum() / (white[0].sum() + white[1].sum()) > 0.6


def test_change_over_time_is_mapped(phantom, tmp_path):
    images = (phantom / "fixed.nii.gz", phantom / "moving.nii.gz")
    run(EXAMPLES / "rigid_then_volumes.sh", *images, tmp_path)
    log = voxels(tmp_path / "volumes/log_jacobian.nii.gz")
    assert log.shape == voxels(images[0]).shape
    assert log.min() < 0 < log.max()
