"""What regcli register refuses, before anything is computed or made."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scans import write_csv, write_voxels


@pytest.mark.parametrize(
    "options",
    [
        ("--model", "zzz"),
        ("--transform", "zzz"),
        ("--transform", "diffeo:zzz=1"),
        ("--init", "zzz"),
        ("--metric", "zzz"),
        ("--metric", "lncc:radius=x"),
        ("--metric", "lncc:zzz=1"),
        ("--metric", "auto", "--metric", "mi"),
        ("--transform", "rigid", "--metric", "mi", "--metric", "ncc"),
        ("--transform", "rigid", "--smoothness", "2"),
        ("--transform", "rigid", "--init", "none"),
        ("--transform", "rigid", "--write", "log_jacobian"),
        ("--transform", "rigid", "--fail-on", "folds>0"),
        ("--regularizer", "zzz"),
        ("--smoothness", "-1"),
        ("--iterations", "10x"),
        ("--iterations", "10x10", "--levels", "1"),
        ("--levels", "1x2"),
        ("--threads", "99999"),
        ("--write", "zzz"),
        ("--preset", "zzz"),
        ("--fail-on", "zzz>1"),
        ("--fail-on", "folds"),
        ("--fail-on", "folds>e"),
        ("--fail-on", "folds>1mm"),
        ("--fail-on", "inverse>1%"),
        ("--fail-on", "dice<0.7"),
        ("--fail-on", "tre>1"),
        ("--frame", "0"),
        ("--frame", "last"),
        ("--points-space", "lps"),
        ("--log", "no/such/folder.log"),
        ("-o", ""),
        ("--weights", ""),
        ("--metric", "mi:bins=100000"),
        ("--iterations", "10x-1"),
        ("-q", "-v"),
    ],
    ids=" ".join,
)
def test_options_that_can_not_act_are_refused_before_anything_is_made(register, tmp_path, options):
    assert register(*options).fails(2)
    assert not (tmp_path / "out").exists()


def _bad_files(folder, scans):
    fixed, raw = scans.truth.fixed, scans.fixed.read_bytes()
    voxels, affine = fixed.data[0].clone(), fixed.space.affine.numpy()
    (folder / "empty.nii.gz").touch()
    (folder / "junk.nii.gz").write_bytes(b"junk" * 99)
    (folder / "cut.nii.gz").write_bytes(raw[: len(raw) // 2])
    (folder / "folder.nii.gz").mkdir()
    (folder / "image.txt").write_bytes(raw)
    write_voxels(folder / "flat.nii.gz", torch.ones_like(voxels), fixed)
    voxels[3, 3, 3] = torch.nan
    write_voxels(folder / "nan.nii.gz", voxels, fixed, "float32")
    colours = np.zeros(voxels.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, affine), folder / "colours.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6, 2), np.int16), affine), folder / "two.nii.gz")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("absent.nii.gz", "exist"),
        ("a" * 300 + ".nii.gz", "long"),
        ("empty.nii.gz", "empty"),
        ("junk.nii.gz", "gzip"),
        ("cut.nii.gz", "short"),
        ("folder.nii.gz", "folder"),
        ("image.txt", "format"),
        ("flat.nii.gz", "constant"),
        ("nan.nii.gz", "NaN"),
        ("colours.nii.gz", "RGB"),
        ("two.nii.gz", "--frame"),
    ],
)
def test_an_image_that_can_not_be_used_is_code_3(run, scans, tmp_path, name, word):
    _bad_files(tmp_path, scans)
    out = tmp_path / "out"
    assert run("register", scans.fixed, tmp_path / name, "-o", out).fails(3, name, word)
    assert run("register", tmp_path / name, scans.moving, "-o", out).fails(3, name, word)
    assert not out.exists()


def test_masks_labels_and_points_that_do_not_fit_are_code_3(register, scans, tmp_path):
    labels = tmp_path / "labels.nii.gz"
    other = (scans.truth.fixed_labels.data[0] > 0) * 999
    write_voxels(labels, other, scans.truth.fixed_labels)
    write_csv(tmp_path / "few.csv", scans.truth.points[:3])
    (tmp_path / "words.csv").write_text("x,y,z\n1,2,three\n")
    cases = {
        "grid": ("--fixed-mask", scans.moving),
        "common": ("--fixed-labels", labels, "--moving-labels", scans.moving_labels),
        "points": ("--fixed-points", tmp_path / "few.csv", "--moving-points", scans.moving_points),
        "row": ("--fixed-points", tmp_path / "words.csv", "--moving-points", scans.moving_points),
        "linear": ("--init", scans.fixed_points),
    }
    for word, options in cases.items():
        assert register(*options).fails(3, "" if word == "linear" else word)
        assert not (tmp_path / "out").exists()


def test_a_mask_may_cover_everything_but_not_nothing(register, scans, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    for value in (0, 1):
        write_voxels(mask, torch.full(scans.truth.fixed.space.shape, value), scans.truth.fixed)
        told = register("--fixed-mask", mask, "--transform", "translation")
        assert told.fails(3, "mask is empty") if value == 0 else told.code == 0


def test_images_that_never_meet_are_refused(run, scans, tmp_path):
    image = nib.load(scans.moving)
    affine = image.affine.copy()
    affine[0, 3] += 5000
    far = tmp_path / "far.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), far)
    out = tmp_path / "out"
    for init in ("none", "header"):
        told = run("register", scans.fixed, far, "-o", out, "--init", init)
        assert told.fails(3, "overlap", "--init auto")
    assert not out.exists()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/x", "a" * 300])
def test_an_impossible_output_folder_is_code_4(run, scans, tmp_path, place):
    (tmp_path / "file").touch()
    assert run("register", scans.fixed, scans.moving, "-o", tmp_path / place).fails(4, "-o")
