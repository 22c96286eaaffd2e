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


@pytest.mark.slow
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


@pytest.mark.slow
def test_labels_are_carried_to_a_subject(phantom, labelled):
    carried, truth = (
        voxels(labelled / "moving_labels.nii.gz"),
        voxels(phantom / "fixed_labels.nii.gz"),
    )
    assert set(np.unique(carried)) <= set(np.unique(voxels(phantom / "moving_labels.nii.gz")))
    white = [np.isin(labels, (2, 41)) for labels in (carried, truth)]
    assert 2 * (white[0] & white[1]).sum() / (white[0].sum() + white[1].sum()) > 0.6


@pytest.mark.slow
def test_a_folder_is_registered_to_a_template(phantom, tmp_path):
    """One of two scans is missing."""
    scans, out = tmp_path / "scans, with a space", tmp_path / "out"
    scans.mkdir()
    for name, there in (("b", "nothing"), ("c", "moving")):
        (scans / f"{name}.nii.gz").symlink_to(phantom / f"{there}.nii.gz")
    command = (EXAMPLES / "folder_to_template.sh", phantom / "fixed.nii.gz", scans, out)
    command = (*command, "--transform", "rigid", "--init", "header")
    said = run(*command, code=7).stderr
    assert f"row 1 (b) failed: {scans / 'b.nii.gz'}" in said
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"c"}


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """asked(script, *arguments): the words that a script calls regcli with, and its table."""
    stub = tmp_path / "bin" / "regcli"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\necho --\ncat "$2"\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}{os.pathsep}{os.environ['PATH']}")

    def call(script, *arguments):
        command = [EXAMPLES / script, *map(str, arguments)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        words, _, table = said.partition("--\n" + "fixed,moving")
        return words.split("\n"), table.splitlines()[1:]

    return call


def test_bids_results_are_named_as_derivatives(asked, tmp_path):
    bids, template = tmp_path / "bids", tmp_path / "t.nii.gz"
    template.touch()
    for folder, name in (("sub-01/anat", "sub-01"), ("sub-02/ses-1/anat", "sub-02_ses-1")):
        (bids / folder).mkdir(parents=True)
        for kind in ("T1w", "T2w"):
            (bids / folder / f"{name}_{kind}.nii.gz").touch()
    words, table = asked("bids_to_template.sh", template, bids, tmp_path / "out", "MNI", "-j", "2")
    assert words[-4:] == ["--resume", "-j", "2", ""]
    first = bids / "sub-01/anat/sub-01_T1w.nii.gz"
    assert table == [
        f'"{template}","{first}","sub-01/anat/sub-01_from-T1w_to-MNI_xfm"',
        f'"{template}","{bids}/sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",'
        '"sub-02/ses-1/anat/sub-02_ses-1_from-T1w_to-MNI_xfm"',
    ]


def test_a_job_of_an_array_takes_its_rows(asked, tmp_path, monkeypatch):
    table = tmp_path / "pairs.csv"
    table.write_text("fixed,moving\na,b\n")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "20")
    words, _ = asked("slurm_array.sh", table, tmp_path / "runs", "--transform", "rigid")
    assert words[:6] == ["batch", str(table), "-o", str(tmp_path / "runs"), "--index", "3/20"]
    assert words[6:] == ["--resume", "--threads", "1", "--transform", "rigid", ""]


@pytest.mark.slow
def test_change_over_time_is_mapped(phantom, tmp_path):
    images = (phantom / "fixed.nii.gz", phantom / "moving.nii.gz")
    run(EXAMPLES / "rigid_then_volumes.sh", *images, tmp_path)
    log = voxels(tmp_path / "volumes/log_jacobian.nii.gz")
    assert log.shape == voxels(images[0]).shape
    assert log.min() < 0 < log.max()


def test_a_folder_is_registered_on_a_cluster_that_ends_with_it(asked, tmp_path):
    """Of a Dask that says where its scheduler is, and waits."""
    dask = tmp_path / "bin" / "dask"
    dask.write_text(
        "#!/bin/sh\n"
        f'echo "$$ $@" >>{tmp_path}/started\n'
        'while [ "$1" != --scheduler-file ]; do shift; done\n'
        'echo \'{"type": "Scheduler", "address": "tcp://10.0.0.1:99"}\' >"$2"\n'
        "exec sleep 60\n"
    )
    dask.chmod(0o755)
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.nii.gz").touch()
    places = (tmp_path / "t.nii.gz", tmp_path / "scans", tmp_path / "out")
    words, table = asked("folder_to_template_dask.sh", *places, "--transform", "rigid")
    assert words[-6:] == ["--resume", "--transform", "rigid", "--dask", "tcp://10.0.0.1:99", ""]
    assert len(table) == 1
    started = [line.split() for line in (tmp_path / "started").read_text().splitlines()]
    assert sorted(line[1] for line in started) == ["scheduler", "worker"]
    for pid, *_ in started:
        assert not Path(f"/proc/{pid}").exists()
