"""A registration leaves all of its files or none, and files that other tools read the same way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import processes
import pytest
import SimpleITK as sitk
from reports import decode
from scans import write_pair

from regcli.commands.register.job import Job
from regcli.commands.register.run import register_files
from regcli.errors import InputError
from regcli.io.images import read_image
from regcli.recipe import RegisterRecipe
from regcli.registration.normalize import foreground
from regcli.report.planes import choose_planes

KEYS = {
    *("version", "command", "recipe", "seed", "device", "threads", "fixed", "moving", "weights"),
    *("direction", "space", "units", "outputs", "seconds", "peak_memory_mb", "similarity"),
    *("jacobian", "inverse", "solver", "labels", "points", "verdict", "warnings"),
}
HERE = RegisterRecipe(init="header")  # without a search for where to start


def _register_and_die(job, when):
    """As nothing but kill -9 would: while computing, or between two of the files."""

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def progress(stage, share):
        if stage == when:
            die()

    if when == "renaming":
        replace, renamed = Path.replace, []

        def last(self, target):
            if len(renamed) == 4:
                die()
            renamed.append(target)
            return replace(self, target)

        Path.replace = last
    register_files(job, progress)


def _silent(stage, share):
    pass


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def job(scans):
    return Job(
        scans.fixed,
        scans.moving,
        scans.fixed.parent / "out",
        fixed_labels=scans.fixed_labels,
        moving_labels=scans.moving_labels,
        fixed_points=scans.fixed_points,
        moving_points=scans.moving_points,
    )


@pytest.fixture(scope="module")
def report(job):
    return register_files(job, _silent)


def test_the_record_has_every_key_of_the_contract(report, job):
    assert json.loads((job.out / "regcli.json").read_text()) == report
    assert report.keys() >= KEYS
    assert report["fixed"].keys() >= {"path", "sha256", "shape", "spacing"}
    assert list(report["seconds"]) == ["read", "linear", "features", "solve", "write", "total"]
    assert report["similarity"].keys() >= {"name", "before", "linear", "after"}
    assert report["jacobian"].keys() >= {"folds_percent", "ndv_percent", "min", "max", "sdlogj"}
    round_trip = {"round_trip_mean_mm", "round_trip_max_mm"}
    assert report["inverse"].keys() == {"mean_mm", "max_mm", *round_trip}
    for level in report["solver"]:
        told = {"stage", "level", "shape", "steps", "converged", "residuals"}
        assert level.keys() == told | {"stopped", "measure"}
    each = {"per_label", "per_label_before", "per_label_linear"}
    for measure in ("dice", "hd95_mm"):
        assert report["labels"][measure].keys() == {"before", "linear", "after"} | each
    assert report["points"]["tre_mm"].keys() == {"before", "linear", "after"}
    assert report["peak_memory_mb"].keys() == {"cpu", "cuda"}
    assert report["verdict"]["status"] == "PASS"


def test_the_round_trip_is_that_of_the_files(report, job):
    there, back = (
        sitk.ReadTransform(str(job.out / name)) for name in ("composite.h5", "inverse_composite.h5")
    )
    fixed = read_image(job.fixed).image
    points = fixed.space.voxel_to_world(foreground(fixed).nonzero().double()).numpy()
    lps = points * (-1, -1, 1)
    gaps = [np.subtract(back.TransformPoint(there.TransformPoint(p.tolist())), p) for p in lps]
    found = np.linalg.norm(gaps, axis=1)
    assert report["inverse"]["round_trip_mean_mm"] == pytest.approx(found.mean(), rel=0.02)
    # beyond its grid ITK's field is zero, and ours that of the edge: the largest gaps lie there
    assert found.mean() < report["inverse"]["round_trip_max_mm"] < 1.5 * found.max()


def test_every_file_of_the_record_is_there_and_nothing_else(report, job):
    assert {str(path) for path in job.out.iterdir()} == set(report["outputs"].values())


def test_the_report_shows_the_warped_image_and_the_numbers_of_the_record(report, job):
    page = (job.out / "report.html").read_text()
    fixed = read_image(job.fixed).image
    moved = read_image(job.out / "warped.nii.gz").image
    for plane in choose_planes(fixed.space, foreground(fixed)):
        uri = re.search(rf'src="([^"]*)" alt="{plane.name} plane, moving image after the reg', page)
        shown, values = decode(uri[1])[..., 0], plane.slice(moved)
        inside = (shown > 10) & (shown < 245)
        assert np.corrcoef(shown[inside], values[inside])[0, 1] > 0.999
    assert f"{report['similarity']['after']:.3f} after" in page
    assert f"TRE {report['points']['tre_mm']['before']:.2f} → " in page
    assert f"total {report['seconds']['total']:.2f}" in page
    for code in report["labels"]["dice"]["per_label"]:
        assert f'<th scope="row">{code}</th>' in page
    assert page.count("<polyline ") == len(report["solver"])


def test_the_record_holds_no_number_that_json_lacks(job, report):
    def refuse(constant):
        raise AssertionError(constant)

    json.loads((job.out / "regcli.json").read_text(), parse_constant=refuse)


def _range_share(one, other):
    return float(np.abs(one - other).max() / (other.max() - other.min()))


def _resampled(scans, transform):
    fixed, moving = (
        sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (scans.fixed, scans.moving)
    )
    return sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform))


def _clear_of_the_border(scans, transform):
    """Voxels whose places in the moving image are surely inside, or surely outside of it."""
    fixed, moving = (sitk.ReadImage(str(path)) for path in (scans.fixed, scans.moving))
    size, clear = np.array(moving.GetSize()), np.zeros(fixed.GetSize()[::-1], bool)
    for voxel in np.ndindex(*fixed.GetSize()):
        point = transform.TransformPoint(fixed.TransformIndexToPhysicalPoint(voxel))
        place = np.array(moving.TransformPhysicalPointToContinuousIndex(point))
        clear[voxel[::-1]] = np.abs([place + 0.5, size - 0.5 - place]).min() > 1e-3
    return clear


def _warped(job):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(job.out / "warped.nii.gz"), sitk.sitkFloat32))


def test_simpleitk_makes_the_warped_image_of_the_composite(report, job, scans):
    composite = sitk.ReadTransform(str(job.out / "composite.h5"))
    clear = _clear_of_the_border(scans, composite)
    assert clear.mean() > 0.99
    assert _range_share(_resampled(scans, composite)[clear], _warped(job)[clear]) < 1e-3


def test_simpleitk_makes_the_warped_image_of_warp_and_affine(report, job, scans):
    field = sitk.ReadImage(str(job.out / "warp.nii.gz"), sitk.sitkVectorFloat64)
    affine = sitk.ReadTransform(str(job.out / "affine.mat"))
    chain = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])
    clear = _clear_of_the_border(scans, chain)
    assert _range_share(_resampled(scans, chain)[clear], _warped(job)[clear]) < 1e-3


@pytest.mark.slow
def test_ants_makes_the_warped_image_of_warp_and_affine(report, job, scans):
    ants = pytest.importorskip("ants")
    moved = ants.apply_transforms(
        ants.image_read(str(scans.fixed)),
        ants.image_read(str(scans.moving)),
        [str(job.out / "warp.nii.gz"), str(job.out / "affine.mat")],
    )
    composite = sitk.ReadTransform(str(job.out / "composite.h5"))
    clear = _clear_of_the_border(scans, composite)
    assert _range_share(moved.numpy().transpose(2, 1, 0)[clear], _warped(job)[clear]) < 1e-3


def test_the_inverse_files_undo_the_map(report, job, scans):
    forth, back = (
        sitk.ReadTransform(str(job.out / f"{name}composite.h5")) for name in ("", "inverse_")
    )
    affine = sitk.ReadTransform(str(job.out / "affine.mat"))
    fixed = sitk.ReadImage(str(scans.fixed))
    for voxel in ((12, 15, 13), (8, 10, 9), (17, 20, 18), (10, 22, 14)):
        goal = affine.TransformPoint(fixed.TransformIndexToPhysicalPoint(voxel))
        again = forth.TransformPoint(back.TransformPoint(goal))
        assert np.linalg.norm(np.subtract(again, goal)) < 0.05


def test_a_failure_while_computing_leaves_no_folder(scans, tmp_path):
    out = tmp_path / "below" / "out"

    def fail(stage, share):
        if stage == "diffeo":
            raise InputError("It broke.", "Mend it.")

    with pytest.raises(InputError, match="It broke"):
        register_files(Job(scans.fixed, scans.moving, out, HERE), fail)
    assert list(tmp_path.iterdir()) == []


def test_torch_is_left_as_it_was(scans, tmp_path):
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    recipe = replace(HERE, transform="translation", threads=1, deterministic=True)
    found = register_files(Job(scans.fixed, scans.moving, tmp_path / "out", recipe), _silent)
    assert found["threads"] == 1
    assert before == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


@pytest.mark.slow
@pytest.mark.parametrize("when", ["write", "renaming"])
def test_after_kill_9_no_half_file_has_a_final_name(scans, report, job, tmp_path, when):
    out = tmp_path / "out"
    killed = processes.start(_register_and_die, Job(scans.fixed, scans.moving, out), when)
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    left = {path.name for path in out.iterdir() if path.is_file()}
    assert "regcli.json" not in left
    assert bool(left) == (when == "renaming")
    for name in left - {"regcli.log"}:  # whole, if any
        assert (out / name).stat().st_size == pytest.approx(
            (job.out / name).stat().st_size, rel=0.02
        )
    assert any(path.name.startswith(".regcli-") for path in out.iterdir())
    found = register_files(Job(scans.fixed, scans.moving, out, HERE, force=bool(left)), _silent)
    assert {str(path) for path in out.iterdir()} == set(found["outputs"].values())


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_cleans_up_and_ends_in_130(scans, tmp_path_factory, tmp_path, sent):
    out, said = tmp_path / "out", tmp_path_factory.mktemp("said") / "said"
    long = ("--iterations", "100000", "--levels", "1", "--tol", "1e-30", "-q")
    command = ("register", scans.fixed, scans.moving, "-o", out, *long)
    process = processes.start(processes.regcli, *command, said=said)
    processes.until(lambda: list(out.glob(".regcli-*")))
    time.sleep(0.3)
    os.kill(process.pid, sent)
    process.join(60)
    assert process.exitcode == 130
    lines = said.read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["error:", "remedy:"], lines
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_runs_into_one_folder_leave_one_whole_result(scans, tmp_path):
    out, said = tmp_path / "out", [tmp_path / "one", tmp_path / "other"]
    command = ("register", scans.fixed, scans.moving, "-o", out)
    command = (*command, "-q", "--force", "--transform", "rigid", "--init", "header")
    both = [processes.start(processes.regcli, *command, said=path) for path in said]
    for process in both:
        process.join(120)
    texts = [path.read_text() for path in said]
    assert [process.exitcode for process in both] == [0, 0], texts
    listed = json.loads((out / "regcli.json").read_text())["outputs"].values()
    assert {str(path) for path in out.iterdir()} == set(listed)


@pytest.mark.slow
def test_a_reader_that_stops_early_is_no_error(scans, tmp_path):
    command = [sys.executable, "-m", "regcli", "register", scans.fixed, scans.moving]
    command += ["-o", tmp_path / "out", "-q", "--json"]
    command += ["--transform", "translation", "--init", "header"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(list(map(str, command)), stdout=pipe, stderr=pipe, text=True)
    process.stdout.close()
    process.wait(timeout=60)
    assert process.returncode == 0
    with process.stderr as said:
        assert said.read() == ""
    assert Path(tmp_path / "out" / "regcli.json").is_file()
