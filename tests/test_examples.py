"""The scripts in examples/ do what they say, run as a user would."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from regcli.io.points import read_points

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*command, code=0):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A coarse pair, small enough for a registration in seconds."""
    folder = tmp_path_factory.mktemp("phantom")
    run(sys.executable, EXAMPLES / "phantom.py", folder, "--spacing", "6")
    return folder


def voxels(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture(scope="module")
def labelled(phantom, tmp_path_factory):
    """Folder of labels_to_subject.sh: the fixed image is the subject, the moving one the atlas."""
    out = tmp_path_factory.mktemp("labelled")
    scan, atlas = (phantom / f"{name}.nii.gz" for name in ("fixed", "moving"))
    run(EXAMPLES / "labels_to_subject.sh", scan, atlas, phantom / "moving_labels.nii.gz", out)
    return out


def test_the_phantom_is_registered_to_its_true_map(phantom, labelled):
    lps = (-1, -1, 1)
    fixed, moving = (
        read_points(phantom / f"{name}_points.csv").world.numpy() * lps
        for name in ("fixed", "moving")
    )

    def tre(transform):
        found = [transform.TransformPoint(point) for point in fixed.tolist()]
        return np.linalg.norm(found - moving, axis=1).mean()

    linear, after = (
        tre(sitk.ReadTransform(str(labelled / "registration" / name)))
        for name in ("affine.mat", "composite.h5")
    )
    assert after < 0.8 * linear < 0.8 * tre(sitk.Transform(3, sitk.sitkIdentity))


def test_labels_are_carried_to_a_subject(phantom, labelled):
    carried, truth = (
        voxels(labelled / "moving_labels.nii.gz"),
        voxels(phantom / "fixed_labels.nii.gz"),
    )
    assert set(np.unique(carried)) <= set(np.unique(voxels(phantom / "moving_labels.nii.gz")))
    white = [np.isin(labels, (2, 41)) for labels in (carried, truth)]
    assert 2 * (white[0] & white[1]).sum() / (white[0].sum() + white[1].sum()) > 0.6


def test_a_folder_is_registered_to_a_template_and_continued(phantom, tmp_path):
    """One scan is done already, one is missing, one is left to do."""
    scans, out = tmp_path / "scans with a space", tmp_path / "out"
    scans.mkdir()
    for name, there in (("a", "moving"), ("b", "nothing"), ("c", "moving")):
        (scans / f"{name}.nii.gz").symlink_to(phantom / f"{there}.nii.gz")
    earlier, left = (out / name / "regcli.json" for name in ("a", "c"))
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    command = (EXAMPLES / "folder_to_template.sh", phantom / "fixed.nii.gz", scans, out)
    command = (*command, "--transform", "rigid")
    said = run(*command, code=1).stderr
    assert f"failed (exit 3): {scans / 'b.nii.gz'}" in said
    assert {path.name for path in out.iterdir()} == {"a", "c"}
    assert list(earlier.parent.iterdir()) == [earlier]
    written = left.stat().st_mtime_ns
    (scans / "b.nii.gz").unlink()
    run(*command)
    assert left.stat().st_mtime_ns == written


def test_change_over_time_is_mapped(phantom, tmp_path):
    images = (phantom / "fixed.nii.gz", phantom / "moving.nii.gz")
    run(EXAMPLES / "rigid_then_volumes.sh", *images, tmp_path)
    log = voxels(tmp_path / "volumes/log_jacobian.nii.gz")
    assert log.shape == voxels(images[0]).shape
    assert log.min() < 0 < log.max()
