"""Labels and points of any grids, compared where they lie in the world."""

from pathlib import Path

import nibabel as nib
import numpy as np
import oracles
import pytest
import torch
from scans import write_csv
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter
from warpfiles import make_warp, other_space, random_points

from regcli.commands.evaluate.job import Evaluation
from regcli.commands.evaluate.run import evaluate_files
from regcli.image import Image
from regcli.io import warps
from regcli.io.images import write_image

CODES = (7, 19, 300)


def codes_on(space, seed=3):
    """Smooth regions about the middle of the grid; mostly background."""
    noise = gaussian_filter(
        np.random.default_rng(seed).standard_normal((3, *space.shape)), (0, 3, 3, 3)
    )
    values = np.array([*CODES])[noise.argmax(0)]
    place = [
        np.abs(np.linspace(-1, 1, n)).reshape([-1 if a == b else 1 for b in range(3)])
        for a, n in enumerate(space.shape)
    ]
    values[sum(x**2 for x in place) > 0.4] = 0
    return torch.from_numpy(values.astype(np.int32))[None]


def overlap(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def hausdorff(a, b, spacing):
    """95th percentile of distances by Euclidean distance transforms; the larger way."""
    p, q = (x & ~binary_erosion(x) for x in (a, b))
    to_p, to_q = (distance_transform_edt(~x, sampling=spacing) for x in (p, q))
    return max(np.percentile(to_p[q], 95), np.percentile(to_q[p], 95))


def carried(image, onto, warp):
    """The code with the largest linear weight at each voxel, by ITK."""
    shares = []
    for code in (0, *CODES):
        part = Image((image.data == code).float(), image.space)
        shares.append(oracles.resample(part, onto, warp).numpy())
    shares[0] = 1 - sum(shares[1:])  # what comes from outside is background
    return np.array([0, *CODES])[np.argmax(shares, axis=0)]


def test_labels_and_points_are_carried_by_files_as_itk_carries_them(space, tmp_path):
    moving_space, warp = other_space(space), make_warp(space)
    warps.write_composite(warp, tmp_path / "composite.h5")
    fixed, moving = Image(codes_on(space), space), Image(codes_on(moving_space, 4), moving_space)
    write_image(fixed, tmp_path / "fixed.nii.gz")
    write_image(moving, tmp_path / "moving.nii.gz")
    points = random_points(space, 30, margin=3)
    write_csv(tmp_path / "fixed.csv", points)
    write_csv(tmp_path / "moving.csv", random_points(moving_space, 30))
    job = Evaluation(
        (tmp_path / "composite.h5",),
        fixed_labels=tmp_path / "fixed.nii.gz",
        moving_labels=tmp_path / "moving.nii.gz",
        fixed_points=tmp_path / "fixed.csv",
        moving_points=tmp_path / "moving.csv",
    )
    record = evaluate_files(job)
    f, m = fixed.data[0].numpy(), carried(moving, space, warp)
    labels = record["labels"]
    dice = {str(c): overlap(f == c, m == c) for c in CODES}
    distances = {str(c): hausdorff(f == c, m == c, space.spacing) for c in CODES}
    assert labels["dice"]["per_label"] == pytest.approx(dice, abs=2e-3)
    assert labels["dice"]["after"] == pytest.approx(np.mean(list(dice.values())), abs=2e-3)
    assert labels["hd95_mm"]["per_label"] == pytest.approx(distances, abs=0.2)
    lps = points.numpy() * (-1, -1, 1)
    transform = oracles.to_itk_transform(warp)
    ends = np.array([transform.TransformPoint(p.tolist()) for p in lps]) * (-1, -1, 1)
    errors = np.linalg.norm(ends - random_points(moving_space, 30).numpy(), axis=1)
    tre = record["points"]["tre_mm"]
    assert [p["tre_mm"] for p in record["points"]["per_point"]] == pytest.approx(errors, abs=1e-4)
    for name, share in (
        ("min", 0),
        ("median", 50),
        ("p75", 75),
        ("p90", 90),
        ("p95", 95),
        ("max", 100),
    ):
        assert tre[name] == pytest.approx(np.percentile(errors, share), abs=1e-4)
    assert tre["after"] == pytest.approx(errors.mean(), abs=1e-4)
    assert tre["std"] == pytest.approx(errors.std(), abs=1e-4)
    det = np.linalg.det(warp.affine[:3, :3].numpy())
    assert record["jacobian"]["affine_determinant"] == pytest.approx(det)


def test_moved_labels_may_be_stored_in_any_axis_order(space, tmp_path):
    """A flipped and permuted copy of the same voxels is the same label map."""
    data = codes_on(space)
    write_image(Image(data, space), tmp_path / "a.nii.gz")
    stored = nib.load(tmp_path / "a.nii.gz")
    order = nib.orientations.axcodes2ornt("PSL")
    turn = nib.orientations.ornt_transform(nib.io_orientation(stored.affine), order)
    nib.save(stored.as_reoriented(turn), tmp_path / "b.nii.gz")
    record = evaluate_files(
        Evaluation(fixed_labels=tmp_path / "a.nii.gz", moved_labels=tmp_path / "b.nii.gz")
    )
    assert set(record["labels"]["dice"]["per_label"].values()) == {1.0}
    assert (
        record["labels"]["hd95_mm"]["after"]
        == record["labels"]["hd95_learn2reg_voxels"]["after"]
        == 0
    )
    assert len(record["warnings"]) == (0 if space.codes == "PSL" else 1)


def write_codes(path: Path, voxels, affine=None) -> Path:
    nib.save(
        nib.Nifti1Image(voxels.astype(np.int16), np.eye(4) if affine is None else affine), path
    )
    return path


def test_numbers_by_hand(tmp_path):
    """A slab of 4 voxels of 2 mm against one that lies 2 voxels further: half of it is common."""
    a, b = np.zeros((2, 16, 9, 9))
    a[4:8], b[6:10] = 5, 5
    a[0, 0, 0], b[0, 0, 1] = 8, 9
    affine = np.diag((2.0, 1, 1, 1))
    job = Evaluation(
        fixed_labels=write_codes(tmp_path / "a.nii.gz", a, affine),
        moved_labels=write_codes(tmp_path / "b.nii.gz", b, affine),
    )
    record = evaluate_files(job)
    labels = record["labels"]
    assert labels["dice"]["per_label"] == {"5": 0.5, "8": 0.0, "9": 0.0}
    assert labels["dice"]["after"] == pytest.approx(0.5 / 3)
    assert labels["hd95_mm"]["per_label"] == {"5": 4.0, "8": None, "9": None}
    assert labels["hd95_learn2reg_voxels"]["per_label"]["5"] == 2.0
    assert "8, 9" in record["warnings"][0]
    only = evaluate_files(
        Evaluation(fixed_labels=job.fixed_labels, moved_labels=job.moved_labels, codes=(5,))
    )
    assert only["labels"]["dice"] == {"after": 0.5, "per_label": {"5": 0.5}}


@pytest.mark.parametrize("kind", ["ras", "lps", "voxel"])
def test_points_of_every_space_have_the_same_error(space, tmp_path, kind):
    a = random_points(space, 9)
    b = a + torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    write_image(Image(codes_on(space), space), tmp_path / "labels.nii.gz")
    for name, points in (("a", a), ("b", b)):
        turned = points * torch.tensor([-1, -1, 1]) if kind == "lps" else points
        write_csv(
            tmp_path / f"{name}.csv", space.world_to_voxel(points) if kind == "voxel" else turned
        )
    labels = {f"{side}_labels": tmp_path / "labels.nii.gz" for side in ("fixed", "moved")}
    job = Evaluation(
        fixed_points=tmp_path / "a.csv",
        moved_points=tmp_path / "b.csv",
        points_space=kind,
        **labels,
    )
    tre = evaluate_files(job)["points"]["tre_mm"]
    assert tre["min"] == pytest.approx(3, abs=1e-6)
    assert tre["max"] == pytest.approx(3, abs=1e-6)
    assert "before" not in tre
