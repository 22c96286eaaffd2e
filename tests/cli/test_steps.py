"""Networks of steps on the command line: train one, register with it, ask for its certificate."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from trainings import FAST, FILES, rows, write_folder
from weightfiles import write_steps

from regcli.io import weights as files

TINY = "deq:levels=1,steps=3,states=1"
HERE = ("--init", "header")  # without a search for where to start


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "data")


def train(folder, out, *options, model=TINY):
    data = (folder / "labels", "--synth", "--validation", "s2,s3")
    return ("train", *data, "--model", model, "-o", out, "--steps", 2, *FAST, *options)


@pytest.mark.slow
def test_steps_are_trained_resumed_and_registered_with(run, folder, scans, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    told = run(*train(folder, whole, "--threads", 1))
    assert told.code == 0, told.err
    assert {path.name for path in whole.iterdir()} == FILES
    assert [row[0] for row in rows(whole)[1:]] == ["equilibria"] * 2
    assert run(*train(folder, broken, "--threads", 1, "--max-time", 1e-9)).code == 3
    assert run(*train(folder, broken, "--threads", 1, "--resume")).code == 0
    assert rows(broken) == rows(whole)
    one, other = (load_file(out / "last.safetensors") for out in (whole, broken))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    best = whole / "best.safetensors"
    facts = files.facts(best)
    assert (facts["model"], facts["steps"], facts["sigma"]) == ("deq", 3, 0.6)
    card = (whole / "card.md").read_text()
    assert all(word in card for word in (TINY, "s2, s3", "phantom:steps=2", "Seed"))
    told = run("weights", "show", best)
    assert "levels: 1" in told.out
    pair = (scans.fixed, scans.moving, "-o", tmp_path / "out", *HERE)
    told = run("register", *pair, "--model", "deq", "--weights", best, "--iterations", 3)
    assert told.code == 0, told.err
    assert "Model deq, weights best" in told.err


@pytest.mark.parametrize("model", ["voxelmorph", "gradirn:steps=1", "riir"])
def test_baselines_are_trained_by_the_same_command(run, folder, tmp_path, model):
    told = run(*train(folder, tmp_path / "run", "--steps", 1, model=model))
    assert told.code == 0, told.err
    facts = files.facts(tmp_path / "run" / "best.safetensors")
    assert facts["model"] == model.partition(":")[0]


def test_training_goes_on_from_other_steps(run, folder, tmp_path):
    start = write_steps(tmp_path / "start.safetensors")
    told = run(*train(folder, tmp_path / "run", "--start", start, "--lr", 1e-12))
    assert told.code == 0, told.err
    one, other = (load_file(p) for p in (start, tmp_path / "run" / "best.safetensors"))
    assert all(np.allclose(one[name], other[name], atol=1e-6) for name in one)
    other = train(folder, tmp_path / "other", "--start", start, model="deq:network=update")
    assert run(*other).fails(3, "guided", "update")


def test_what_steps_can_not_be_trained_with_is_refused(run, folder, tmp_path):
    out = tmp_path / "run"
    assert run(*train(folder, out, "--network", "lku")).fails(2, "--network", "deq")
    assert run(*train(folder, out, "--warm-steps", 3)).fails(2, "--warm-steps")
    assert run(*train(folder, out, "--warm-lr", "0.1")).fails(2, "--warm-lr")
    assert run(*train(folder, out, "--transform", "freeform")).fails(2, "--transform")
    assert run(*train(folder, out, "--adjoint", "gn-ift")).fails(2, "gn-ift", "phantom")
    assert run(*train(folder, out, model="deep")).fails(2, "'deep'", "riir")
    assert run(*train(folder, out, model="deq:step=3")).fails(2, "'step'", "steps")
    assert run(*train(folder, out, model="deq:network=unet")).fails(2, "'unet'", "update-full")
    assert run(*train(folder, out, model="deq:network=riir")).fails(2, "riir", "equilibrium")
    assert run(*train(folder, out, model="deq:network=gradirn")).fails(2, "no equilibrium")
    assert run(*train(folder, out, model="unroll:network=gradirn,levels=2")).fails(2, "levels=3")
    assert run(*train(folder, out, model="dio:levels=1")).fails(2, "'dio' has no option 'levels'")
    assert run(*train(folder, out, model="deq:levels=9")).fails(2, "9 levels")
    assert run(*train(folder, out, model="deq:steps=3,states=3")).fails(2, "states")
    assert run(*train(folder, out, model="deq:network=guided:x=1")).fails(2)
    assert run(*train(folder, out, "--adjoint", "jfb", model="gradirn")).fails(2, "--adjoint")
    assert run(*train(folder, out, "--adjoint", "ift")).fails(2, "ift", "update")
    assert not out.exists()


@pytest.mark.slow
def test_the_record_of_a_registration_by_steps(run, scans, tmp_path):
    weights = write_steps(tmp_path / "w.safetensors", spacing_mm=6.0)
    pair = (scans.fixed, scans.moving, "-o", tmp_path / "out", *HERE)
    told = run("register", *pair, "--model", "deq", "--weights", weights, "--diagnose", "-v")
    assert told.code == 0, told.err
    assert "spectral radius" in told.err
    assert "relative residual" in told.err
    report = json.loads((tmp_path / "out" / "regcli.json").read_text())
    levels = [level for level in report["solver"] if level["stage"] == "deq"]
    assert [level["level"] for level in levels] == [0, 1]
    for level in levels:
        assert len(level["residuals"]) == level["steps"] + 1
        assert level["stopped"] in ("converged", "plateau", "steps", "diverged")
    assert set(report["diagnosis"]) == {
        "spectral_radius",
        "path_independence_voxels",
        "residual_voxels",
        "p99_voxels",
    }
    assert report["jacobian"]["ndv_percent"] == 0
    assert report["weights"]["name"] == "w"
    log = (tmp_path / "out" / "regcli.log").read_text()
    assert "relative residual" in log
    again = ("--config", tmp_path / "out" / "regcli.json", "--force", "-q")
    assert run("register", *pair, *again).code == 0


def test_the_model_follows_from_the_weights(run, scans, tmp_path):
    weights = write_steps(tmp_path / "w.safetensors", spacing_mm=8.0, levels=1)
    pair = ("register", scans.fixed, scans.moving, "-o", tmp_path / "out", "--weights", weights)
    assert run(*pair, "--model", "dio").fails(3, "'deq', not dio", "--model deq")
    assert run(*pair, "--metric", "ncc").fails(2, "--metric", "--model deq")
    told = run(*pair, *HERE)
    assert told.code == 0, told.err
    assert "Model deq, weights w" in told.err
    assert json.loads((tmp_path / "out" / "regcli.json").read_text())["recipe"]["model"] == "deq"


def test_steps_that_are_not_there_are_named(run, scans, tmp_path):
    pair = (scans.fixed, scans.moving, "-o", tmp_path / "out")
    told = run("register", *pair, "--model", "deq", "--weights", "nothing")
    assert told.fails(3, "nothing")
    assert not (tmp_path / "out").exists()
