"""regcli evaluate."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

KEYS = {"folds_percent", "ndv_percent", "min", "max", "sdlogj"}


def labels_of(scans, moving="moving"):
    return ("--fixed-labels", scans.fixed_labels, f"--{moving}-labels", scans.moving_labels)


def points_of(scans):
    return ("--points", scans.fixed_points, scans.moving_points)


@pytest.fixture
def maps(tmp_path):
    """Two small label maps."""
    a, b = np.zeros((2, 8, 7, 6), np.int16)
    a[2:5, 2:5, 2:5], b[3:6, 2:5, 2:5] = 4, 4
    a[0], b[0] = 2, 2
    for name, voxels in (("a", a), ("b", b)):
        nib.save(nib.Nifti1Image(voxels, np.diag([-1, 1, 1, 1])), tmp_path / f"{name}.nii.gz")
    return ("--fixed-labels", tmp_path / "a.nii.gz", "--moved-labels", tmp_path / "b.nii.gz")


def test_a_result_folder_scores_as_its_report_says(run, finished, scans, tmp_path):
    out = tmp_path / "scores"
    told = run("evaluate", "-t", finished, *labels_of(scans), *points_of(scans), "-o", out)
    assert told.code == 0
    assert told.out.split() == [str(out / "evaluate.json"), str(out / "evaluate.csv")]
    assert "Dice" in told.err
    record = json.loads((out / "evaluate.json").read_text())
    report = json.loads((finished / "regcli.json").read_text())
    stages = [("dice", "before"), ("dice", "after"), ("hd95_mm", "after")]  # apart before
    for metric, stage in stages:
        wanted = report["labels"][metric][stage]
        assert record["labels"][metric][stage] == pytest.approx(wanted, rel=1e-3)
    for stage in ("before", "after"):
        wanted = report["points"]["tre_mm"][stage]
        assert record["points"]["tre_mm"][stage] == pytest.approx(wanted, rel=1e-3)
    assert record["jacobian"].keys() >= KEYS
    rows = list(csv.DictReader((out / "evaluate.csv").read_text().splitlines()))
    codes = [row["name"] for row in rows if row["kind"] == "label"]
    errors = [float(row["tre_mm"]) for row in rows if row["kind"] == "point"]
    assert codes == list(record["labels"]["dice"]["per_label"])
    assert np.mean(errors) == pytest.approx(record["points"]["tre_mm"]["after"])
    assert run("evaluate", "-t", finished, "-o", out).fails(4, "--force")
    told = run("evaluate", "-t", finished, "-o", out, "--force", "-q")
    assert (told.code, told.err) == (0, "")
    assert json.loads((out / "evaluate.json").read_text())["labels"] is None


def test_the_table_is_the_result_where_nothing_else_is_asked_for(run, maps):
    told = run("evaluate", *maps, "--labels", "4")
    lines = [line.split() for line in told.out.splitlines()]
    assert told.err == ""
    assert lines[0] == ["label", "Dice", "HD95", "mm", "L2R", "vox"]
    assert ["4", "0.6667", "1.00", "1.00"] in lines
    assert not any(line[:1] == ["2"] for line in lines)
    assert all(len(line) <= 80 for line in told.out.splitlines())


def test_json_is_told_on_stdout_and_nothing_is_written(run, maps, tmp_path):
    before = set(tmp_path.iterdir())
    told = run("evaluate", *maps, "--json", "-q")
    record = json.loads(told.out)
    assert (told.code, told.err) == (0, "")
    assert record["labels"]["dice"]["per_label"] == {"2": 1.0, "4": pytest.approx(2 / 3)}
    assert record["inputs"]["moved_labels"] == str(maps[3])
    assert record["points"] is record["jacobian"] is None
    assert set(tmp_path.iterdir()) == before


def test_points_are_given_together_or_one_by_one(run, scans, finished):
    one = run("evaluate", "-t", finished, *points_of(scans), "--json").out
    flags = ("--fixed-points", scans.fixed_points, "--moving-points", scans.moving_points)
    other = run("evaluate", "-t", finished, *flags, "--json").out
    assert json.loads(one)["points"] == json.loads(other)["points"]
    plain = json.loads(run("evaluate", *points_of(scans), "--json").out)["points"]["tre_mm"]
    assert plain["after"] == pytest.approx(json.loads(one)["points"]["tre_mm"]["before"])
    flags = ("--fixed-points", scans.fixed_points, "--moved-points", scans.moving_points)
    assert json.loads(run("evaluate", *flags, "--json").out)["points"]["tre_mm"] == plain


def test_folds_are_those_of_jacobian(run, finished, scans, tmp_path):
    data = np.zeros(scans.truth.fixed.space.shape, np.uint8)
    data[5:15, 5:15, 5:15] = 1
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(data, nib.load(scans.fixed).affine), mask)
    for flags in ((), ("--mask", mask)):
        told = run("evaluate", "--warp", finished / "warp.nii.gz", "--json", *flags)
        ours = json.loads(told.out)["jacobian"]
        out = tmp_path / f"j{len(flags)}"
        theirs = json.loads(run("jacobian", finished, "-o", out, "--json", *flags).out)
        assert {key: ours[key] for key in KEYS} == pytest.approx(
            {k: theirs[k] for k in KEYS}, abs=1e-5
        )


def test_a_gate_ends_it_after_all_is_written(run, maps, finished, tmp_path):
    out = tmp_path / "o"
    told = run("evaluate", *maps, "--fail-on", "dice<0.9", "-o", out)
    assert told.code == 6
    assert (out / "evaluate.csv").exists()
    assert run("evaluate", *maps, "--fail-on", "dice<0.5", "-q").code == 0
    assert run("evaluate", *maps, "--fail-on", "folds>0").fails(2, "folds")
    assert run("evaluate", *maps, "--fail-on", "similarity<1").fails(2, "similarity")
    assert run("evaluate", "-t", finished, "--fail-on", "folds>0%", "-q").code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", ["nothing to evaluate"]),
        ("--fixed-labels A", ["--fixed-labels", "--moved-labels"]),
        ("--moved-labels A", ["--fixed-labels"]),
        ("--fixed-labels A --moving-labels B", ["--moving-labels", "-t"]),
        ("-t R --fixed-labels A --moving-labels B --moved-labels B", ["--moved-labels"]),
        ("--points P P --fixed-points P", ["--points"]),
        ("--fixed-labels A --moved-labels B --points-space lps", ["--points-space"]),
        ("--points P P --points-space voxel", ["voxel", "-t"]),
        ("--points P P --labels 4", ["--labels"]),
        ("--fixed-labels A --moved-labels B --labels 4,x", ["--labels"]),
        ("--fixed-labels A --moved-labels B --mask A", ["--mask"]),
        ("--fixed-labels A --moved-labels B --data .", ["--data"]),
        ("--fixed-labels A --moved-labels B --fail-on dice", ["--fail-on"]),
        ("--l2r A --fixed-labels A", ["--fixed-labels", "--l2r"]),
        ("-t R -t R", ["result"]),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(run, maps, scans, finished, options, words):
    files = {"A": maps[1], "B": maps[3], "P": scans.fixed_points, "R": finished}
    assert run("evaluate", *(files.get(word, word) for word in options.split())).fails(2, *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--fixed-labels A --moved-labels absent.nii.gz", ["absent"]),
        ("--fixed-labels A --moved-labels P", ["points"]),
        ("--fixed-labels A --moved-labels B --labels 4,99", ["99"]),
        ("--fixed-labels A --moved-labels F", ["fractions"]),
        ("--points P short.csv", ["short.csv"]),
        ("--warp A", ["a.nii.gz"]),
        ("--warp L", ["linear"]),
        ("-t L", ["linear"]),
        ("--fixed-labels A --moved-labels frames.nii", ["4-D", "one label map"]),
        ("--l2r A", ["a.nii.gz"]),
        ("-t absent", ["absent"]),
    ],
)
def test_files_that_cannot_be_used_are_named(
    run, maps, scans, finished, tmp_path, options, words, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.csv").write_text("x,y,z\n1,2,3\n")
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3, 2), np.int16), np.eye(4)), tmp_path / "frames.nii")
    floats = tmp_path / "floats.nii.gz"
    nib.save(nib.Nifti1Image(np.full((3, 3, 3), 0.5, np.float32), np.eye(4)), floats)
    files = {"A": maps[1], "B": maps[3], "P": scans.fixed_points, "L": finished / "affine.mat"}
    told = run("evaluate", *((files | {"F": floats}).get(w, w) for w in options.split()), "-o", "o")
    assert told.fails(3, *words)
    assert not (tmp_path / "o").exists()


def test_empty_label_maps_are_refused(run, tmp_path):
    for name in "ab":
        nib.save(
            nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / f"{name}.nii"
        )
    names = ("--fixed-labels", tmp_path / "a.nii", "--moved-labels", tmp_path / "b.nii")
    assert run("evaluate", *names).fails(3, "no label")


@pytest.mark.parametrize("shape", [(9, 8, 1), (9, 8)])
def test_images_in_two_dimensions_are_compared(run, tmp_path, shape):
    nib.save(nib.Nifti1Image(np.ones(shape, np.int16), np.eye(4)), tmp_path / "a.nii")
    names = ("--fixed-labels", tmp_path / "a.nii", "--moved-labels", tmp_path / "a.nii")
    labels = json.loads(run("evaluate", *names, "--json").out)["labels"]
    assert (labels["dice"]["after"], labels["hd95_mm"]["after"]) == (1, 0)


def test_a_result_folder_is_never_written_into(run, result):
    assert run("evaluate", "-t", result, "-o", result, "--force").fails(4, "-o")
    assert (result / "regcli.json").exists()
