"""regcli evaluate --l2r."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

SHAPE = (12, 11, 10)
FIXED, MOVING = "imagesTs/Toy_0002_0000.nii.gz", "imagesTs/Toy_0001_0000.nii.gz"
SHIFT = np.array([2.0, 0, -1])  # of a field that only shifts


def save(path, voxels, steps=(-1.5, 1.0, 2.0)):
    path.parent.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([*steps, 1.0])), path)


@pytest.fixture
def task(tmp_path):
    """A task of two pairs: a shift whose numbers are known, and a field that folds."""
    data, fields = tmp_path / "data", tmp_path / "fields"
    rng = np.random.default_rng(0)
    moving = np.zeros(SHAPE, np.int16)
    moving[4:8, 3:7, 3:6], moving[10, 9, 9] = 1, 2
    fixed = np.roll(moving, (-2, 0, 1), (0, 1, 2))  # fixed(x) = moving(x + SHIFT)
    fixed[fixed == 2] = 0
    fixed[2, 3:7, 4:7] = 0  # 12 of 48 voxels less
    for name, voxels in ((FIXED, fixed), (MOVING, moving)):
        for folder in ("images", "labels"):
            save(data / name.replace("images", folder), voxels)
    points = rng.uniform(3, 7, (5, 3))
    (data / "keypointsTs").mkdir()
    for name, rows in ((FIXED, points), (MOVING, points + SHIFT + [0, 3, 0])):
        path = data / name.replace("images", "keypoints").replace(".nii.gz", ".csv")
        np.savetxt(path, rows, delimiter=",")
    shift = np.broadcast_to(SHIFT, (*SHAPE, 3)).astype(np.float32)
    folds = gaussian_filter(rng.standard_normal((*SHAPE, 3)), (1, 1, 1, 0)).astype(np.float32)
    save(fields / "disp_0002_0001.nii.gz", shift)
    save(fields / "disp_0001_0000_0002_0000.nii.gz", 9 * folds)
    methods = [
        {"name": "SDlogJ", "metric": "sdlogj"},
        {"name": "DSC", "metric": "dice", "labels": [1, 2]},
        {"name": "HD95", "metric": "hd95", "labels": [1, 2]},
        {"name": "TRE", "metric": "tre", "dest": "keypoints"},
        {"name": "NDV", "metric": "ndv"},
    ]
    pairs = [{"fixed": FIXED, "moving": MOVING}, {"fixed": MOVING, "moving": FIXED}]
    content = {"task_name": "Toy", "evaluation_methods": methods, "eval_pairs": pairs}
    content["expected_shape"] = [*SHAPE, 3]
    (data / "task.json").write_text(json.dumps(content))
    return data / "task.json"


def spread(u):
    """std log(det + 3), two voxels off the edges, by numpy's own central differences."""
    J = np.stack([np.stack(np.gradient(u[..., c].astype(float)), -1) for c in range(3)], -2)
    det = np.linalg.det(J + np.eye(3))[2:-2, 2:-2, 2:-2]
    return np.log((det + 3).clip(1e-9)).std(), det


def test_a_task_gives_the_numbers_of_its_definitions(run, task, tmp_path):
    fields, out = task.parents[1] / "fields", tmp_path / "out"
    told = run("evaluate", "--l2r", task, "--warp", fields, "-o", out)
    assert told.code == 0
    assert "0002_0000<--0001_0000" in told.err
    record = json.loads((out / "evaluate.json").read_text())
    assert list(record["cases"]) == ["0002_0000<--0001_0000", "0001_0000<--0002_0000"]
    first, second = record["cases"].values()
    assert first["DSC"]["detailed"] == [pytest.approx(2 * 36 / (36 + 48)), None]
    assert first["DSC"]["mean"] == pytest.approx(6 / 7)
    assert first["HD95"]["mean"] == 1  # voxels, not the 1.5 mm of that axis
    assert first["SDlogJ"]["mean"] == pytest.approx(0, abs=1e-6)
    assert first["NDV"]["mean"] == first["num_foldings"]["mean"] == 0
    assert first["TRE"]["detailed"] == pytest.approx([3.0] * 5, abs=1e-5)  # 3 voxels of 1 mm
    u = nib.load(fields / "disp_0001_0000_0002_0000.nii.gz").get_fdata()
    wanted, det = spread(u)
    assert second["SDlogJ"]["mean"] == pytest.approx(wanted, abs=1e-6)
    assert second["num_foldings"]["mean"] == 0
    beside = record["regcli"]["0001_0000<--0002_0000"]
    assert (det <= 0).any()
    assert beside["folds_percent"] > 0
    assert record["regcli"]["0002_0000<--0001_0000"]["hd95_mm"] == 1.5
    both = [case["TRE"]["mean"] for case in (first, second)]
    assert record["aggregates"]["TRE"] == pytest.approx(
        {"mean": np.mean(both), "std": np.std(both), "30": np.quantile(both, 0.7)}
    )
    lines = (out / "evaluate.csv").read_text().splitlines()
    assert lines[0].startswith("case,SDlogJ,num_foldings,DSC,HD95,TRE,NDV,regcli_folds_percent")
    assert len(lines) == 3
    assert run("evaluate", "--l2r", task, "--warp", fields, "-o", out).fails(4, "--force")


def test_data_and_fields_may_lie_anywhere(run, task):
    fields = task.parents[1] / "fields"
    shown = run("evaluate", "--l2r", task, "--warp", fields).out
    moved = shutil.move(task, fields / "task.json")
    assert run("evaluate", "--l2r", moved, "--data", task.parent).out == shown
    assert run("evaluate", "--l2r", moved).fails(3, "labelsTs")


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ("fields/disp_0002_0001.nii.gz", ["disp_0002", "--warp"]),
        ("data/labelsTs/Toy_0001_0000.nii.gz", ["labelsTs/Toy_0001_0000.nii.gz"]),
        ("data/keypointsTs/Toy_0002_0000.csv", ["keypointsTs", "--data"]),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(run, task, tmp_path, spoilt, words):
    (tmp_path / spoilt).unlink()
    told = run("evaluate", "--l2r", task, "--warp", tmp_path / "fields", "-o", tmp_path / "out")
    assert told.fails(3, *words)
    assert not (tmp_path / "out").exists()


def test_labels_of_another_shape_are_refused(run, task, tmp_path):
    save(task.parent / "labelsTs/Toy_0002_0000.nii.gz", np.ones((5, 6, 7), np.int16))
    told = run("evaluate", "--l2r", task, "--warp", tmp_path / "fields")
    assert told.fails(3, "(5, 6, 7)")


def test_a_mask_is_used_if_the_task_says_so(run, task, tmp_path):
    content = json.loads(task.read_text()) | {"masked_evaluation": True}
    content["eval_pairs"] = content["eval_pairs"][1:]
    content["evaluation_methods"] = content["evaluation_methods"][:1]
    task.write_text(json.dumps(content))
    field = tmp_path / "fields/disp_0001_0000_0002_0000.nii.gz"
    told = run("evaluate", "--l2r", task, "--warp", field)
    assert "masksTs" in told.err  # is missing
    mask = (np.random.default_rng(1).random(SHAPE) > 0.5).astype(np.uint8)
    save(task.parent / "masksTs/Toy_0001_0000.nii.gz", mask)
    told = run("evaluate", "--l2r", task, "--warp", field, "--json")
    _, det = spread(nib.load(field).get_fdata())
    wanted = np.log(det + 3, where=det > -3, out=np.full(det.shape, np.log(1e-9)))
    wanted = wanted[mask[2:-2, 2:-2, 2:-2] == 1].std()
    (case,) = json.loads(told.out)["cases"].values()
    assert case["SDlogJ"]["mean"] == pytest.approx(wanted, abs=1e-6)
