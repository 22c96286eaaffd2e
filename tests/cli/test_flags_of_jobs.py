"""Options become parts of jobs; what the library does with these is tested there."""

import sys

import pytest
from jobflags import PLANNED
from registerflags import BAR


@pytest.fixture
def planned(run, monkeypatch):
    """planned("--seed", 5) is the job of `regcli train` with that."""
    jobs = []

    def train_files(job, progress, tell):
        jobs.append(job)
        tell("step 1")
        progress("pairs", 0.5)
        return job.run / "best.safetensors"

    monkeypatch.setattr("regcli.train.run.train_files", train_files)

    def command(*options):
        told = run("train", "data", "-o", "run", *options)
        assert told.code == 0, told.err
        return jobs[-1], told

    return command


@pytest.mark.parametrize("option", PLANNED)
def test_an_option_of_train_decides_what_is_trained(planned, option):
    value, path, wanted = PLANNED[option]
    plain, job = planned()[0], planned(option, *([] if value is None else [value]))[0]
    for part in path.split("."):
        plain, job = getattr(plain, part), getattr(job, part)
    assert job == wanted != plain


def test_training_is_told_of_unless_it_is_to_be_quiet(planned, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert "step 1" in planned()[1].err
    assert planned("-q")[1].err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert BAR in planned()[1].err
    assert BAR not in planned("--no-progress")[1].err


@pytest.mark.parametrize(
    "options",
    [
        "--warm-lr .1 --warm-steps 0",
        *(f"--{what} --steps 0" for what in ("lr .1", "adjoint jfb", "transform freeform")),
        *(f"--{what} --model deq" for what in ("network unet", "transform diffeo", "warm-lr .1")),
        "--warm-steps 9 --model deq",
        "--steps 9 --epochs 9",
    ],
)
def test_what_a_training_would_ignore_is_refused_and_named(run, tmp_path, options):
    words = options.split()
    assert run("train", tmp_path, "-o", tmp_path / "run", *words).fails(2, words[0])


def test_features_are_asked_for_as_they_are_given(run, monkeypatch):
    jobs = []

    def features_files(job, progress):
        jobs.append(job)
        return {"outputs": {}}

    monkeypatch.setattr("regcli.commands.features.run.features_files", features_files)
    given = ("--weights", "w.safetensors", "--device", "cuda:1", "--threads", 3)
    run("features", "image.nii.gz", "-o", "f", "-q", *given)
    assert (jobs[0].weights, jobs[0].device, jobs[0].threads) == ("w.safetensors", "cuda:1", 3)
