"""regcli features."""

import json

import nibabel as nib
import numpy as np
import pytest
from weightfiles import WIDE, write_steps, write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", volumes=WIDE)


@pytest.fixture
def plain(monkeypatch):
    """Draw nothing: that takes longer than all else."""
    monkeypatch.setattr(
        "regcli.commands.features.run.draw_features", lambda maps, path, name: path.touch()
    )


def test_paths_go_to_stdout_and_the_table_to_stderr(run, scans, weights, plain, tmp_path):
    out = tmp_path / "f"
    told = run("features", scans.fixed, "--weights", weights, "-o", out)
    assert told.code == 0
    assert set(told.out.split()) == {str(path) for path in out.iterdir()}
    record = json.loads((out / "features.json").read_text())
    for level in record["levels"]:
        (line,) = [x for x in told.err.splitlines() if x.split()[:1] == [level["name"]]]
        shares = [f"{share:.1f}" for share in level["rank"]["percent"]]
        assert [word for word in line.split() if "." in word] == shares
    assert "warning" not in told.err
    assert run("features", scans.fixed, "--weights", weights, "-o", out).fails(4, "--force")
    again = ("--force", "--json", "-q", "--threads", 1, "--device", "cpu")
    told = run("features", scans.fixed, "--weights", weights, "-o", out, *again)
    assert json.loads(told.out)["levels"] == record["levels"]
    assert told.err == ""


def test_a_frame_of_a_4d_image_is_taken(run, scans, weights, plain, tmp_path):
    image = nib.load(scans.fixed)
    data = np.asarray(image.dataobj)
    frames = nib.Nifti1Image(np.stack([data[::-1], data], axis=-1), image.affine, image.header)
    nib.save(frames, tmp_path / "frames.nii.gz")
    options = ("--weights", weights, "--json", "-q")
    found = [
        json.loads(run("features", *arguments, *options).out)
        for arguments in (
            (tmp_path / "frames.nii.gz", "--frame", 1, "-o", tmp_path / "a"),
            (scans.fixed, "-o", tmp_path / "b"),
        )
    ]
    assert found[0]["levels"] == found[1]["levels"]
    many = ("features", tmp_path / "frames.nii.gz", "-o", tmp_path / "c", "--weights", weights)
    assert run(*many).fails(3, "--frame")
    one = ("features", scans.fixed, "-o", tmp_path / "c", "--weights", weights, "--frame", 0)
    assert run(*one).fails(2, "--frame")
    assert not (tmp_path / "c").exists()


def test_weights_that_come_with_regcli_are_the_default_and_warn_of_phantoms(
    run, scans, plain, tmp_path
):
    told = run("features", scans.fixed, "-o", tmp_path / "f", "--json")
    record = json.loads(told.out)
    assert record["weights"]["name"] == "dio-brain"
    assert "thalamus" in [channel["name"] for channel in record["channels"]]
    assert record["usual_share"] < 1
    assert "warning: The image does not suit the weights dio-brain" in told.err


def test_what_cannot_be_done_is_refused_before_any_computing(run, scans, weights, tmp_path):
    out = ("-o", tmp_path / "f")
    steps = write_steps(tmp_path / "steps.safetensors")
    assert run("features", scans.fixed, *out, "--weights", steps).fails(3, "steps", "dio-brain")
    assert run("features", scans.fixed, *out, "--weights", "deq-brain").fails(3, "dio-brain")
    assert run("features", scans.fixed, *out, "--weights", "knee").fails(3, "knee", "dio-brain")
    assert run("features", scans.fixed, *out, "--weights", "").fails(2, "empty")
    assert run("features", scans.fixed, *out, "--weights", weights, "--device", "tpu").fails(
        3, "tpu"
    )
    assert run("features", scans.fixed, *out, "--threads", 0).fails(2, "--threads")
    assert run("features", scans.fixed, "-o", " ").fails(2, "-o")
    assert run("features", scans.fixed).fails(2, "--out")
    assert run("features", tmp_path / "absent.nii.gz", *out).fails(3, "absent")
    assert run("features", scans.fixed_points, *out).fails(3, ".csv")
    flat = nib.Nifti1Image(np.arange(400.0).reshape(20, 20).astype("f4"), np.eye(4))
    nib.save(flat, tmp_path / "flat.nii.gz")
    assert run("features", tmp_path / "flat.nii.gz", *out).fails(3, "2-D", "flat")
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9), "f4"), np.eye(4)), tmp_path / "same.nii.gz")
    assert run("features", tmp_path / "same.nii.gz", *out).fails(3, "constant")
    assert not (tmp_path / "f").exists()
