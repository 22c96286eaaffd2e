"""regcli weights, and register with weights."""

import hashlib
import json

import pytest
from weightfiles import write_steps, write_weights

from regcli.io import weights as files

HERE = ("--init", "header")  # without a search for where to start


@pytest.fixture
def brain(tmp_path, monkeypatch):
    """Weights as if they came with regcli."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(files, "_FOLDERS", (folder,))
    volumes = {"means": [0.0, 0.0], "deviations": [99.0, 99.0]}
    path = write_weights(folder / "dio-brain.safetensors", spacing_mm=8.0, volumes=volumes)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {path.name}\n")
    path.with_suffix(".md").write_text("# Card of the brain\n")
    return path


def test_list_names_what_there_is(run, brain):
    assert "dio-brain" in run("weights", "list").out
    (listed,) = json.loads(run("weights", "list", "--json").out)
    assert listed["sha256"] == hashlib.sha256(brain.read_bytes()).hexdigest()


def test_show_prints_the_card_and_the_header(run, brain):
    told = run("weights", "show", "dio-brain").out
    assert told.startswith("# Card of the brain")
    assert "network: unet" in told
    assert json.loads(run("weights", "show", str(brain), "--json").out)["facts"]["channels"] == 3
    assert run("weights", "show", "knee").fails(3, "dio-brain")


def test_verify_finds_damage(run, brain):
    assert "dio-brain: whole" in run("weights", "verify").out
    steps = write_steps(brain.parent.parent / "steps.safetensors")
    assert "steps: whole" in run("weights", "verify", steps).out
    data = bytearray(brain.read_bytes())
    data[-3] ^= 7
    brain.write_bytes(data)
    assert run("weights", "verify").fails(3, "damaged")


def test_register_takes_the_weights_that_come_with_it_and_says_so(run, brain, scans, tmp_path):
    # from the header this pair ends 40 mm apart: nobody could tell that the contrasts are the same
    arguments = ("register", scans.fixed, scans.moving, "--json", "-q")
    arguments = (*arguments, "--iterations", "3x3x3")
    told = run(*arguments, "-o", tmp_path / "auto")
    report = json.loads(told.out)
    digest = hashlib.sha256(brain.read_bytes()).hexdigest()
    assert report["weights"] == {"name": "dio-brain", "sha256": digest}
    assert any("Model dio" in note for note in report["notes"])
    assert report["seconds"]["features"] > 0
    assert report["jacobian"]["ndv_percent"] == 0
    again = ("--config", tmp_path / "auto" / "regcli.json", "-o", tmp_path / "again", "--json")
    repeated = json.loads(run("register", scans.fixed, scans.moving, *again, "-q").out)
    assert repeated["similarity"] == report["similarity"]
    classical = json.loads(run(*arguments, "-o", tmp_path / "c", "--model", "classical").out)
    assert classical["weights"] is None
    assert classical["seconds"]["features"] == 0
    assert classical["similarity"]["after"] != report["similarity"]["after"]


@pytest.mark.parametrize("transform", ["freeform", "rigid"])
def test_any_transform_takes_the_same_weights(run, brain, scans, tmp_path, transform):
    told = run(
        *("register", scans.fixed, scans.moving, "--model", "dio", "--transform", transform),
        *("-o", tmp_path / "out", "--json", "-q", *HERE),
    )
    report = json.loads(told.out)
    assert report["weights"]["name"] == "dio-brain"
    assert report["recipe"]["transform"] == transform
    stages = {level["stage"] for level in report["solver"]}
    assert transform in stages


def test_wrong_weights_are_refused_before_any_computing(run, brain, scans, tmp_path):
    pair, out = ("register", scans.fixed, scans.moving), ("-o", tmp_path / "out")
    assert run(*pair, *out, "--weights", "knee").fails(3, "knee", "dio-brain")
    assert run(*pair, *out, "--weights", scans.fixed).fails(3, "weights")
    assert run(*pair, *out, "--model", "classical", "--weights", brain).fails(2, "--weights")
    assert run(*pair, *out, "--model", "vit").fails(2, "vit", "deq")
    assert run(*pair, *out, "--model", "deq", "--weights", brain).fails(3, "model 'dio'")
    assert not (tmp_path / "out").exists()
