"""Options become parts of jobs; what the library does with these is tested there."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from jobflags import GIVEN, PLANNED
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


@pytest.fixture
def asked(run, tmp_path, monkeypatch):
    """asked("apply a.nii -t b.h5 -o c") is the job that this gives to the library."""
    jobs = []

    def seen(job):
        jobs.append(job)
        raise KeyboardInterrupt  # nothing is done

    def jacobian_files(warp, out, **options):
        seen(SimpleNamespace(warp=warp, out=out, **options))

    def run_batch(plan, crew, watch):
        seen(SimpleNamespace(out=plan.out, part=plan.part, resume=plan.resume, workers=crew()))

    for name in ("apply.apply_files", "evaluate.run.evaluate_files"):
        monkeypatch.setattr(f"regcli.commands.{name}", seen)
    monkeypatch.setattr("regcli.commands.evaluate.learn2reg.task_files", seen)
    monkeypatch.setattr("regcli.commands.jacobian.jacobian_files", jacobian_files)
    monkeypatch.setattr("regcli.commands.features.run.features_files", lambda job, _: seen(job))
    monkeypatch.setattr("regcli.batch.run.run_batch", run_batch)
    monkeypatch.setattr("regcli.batch.crew.local_crew", lambda count: count)
    monkeypatch.setattr("regcli.cli.batch.prepare", lambda *modules: None)
    table = tmp_path / "pairs.csv"
    table.write_text("fixed,moving\na.nii,b.nii\nc.nii,d.nii\n")

    def command(line):
        assert run(*(word.format(table=table) for word in line.split())).code == 130
        return jobs.pop()

    return command


@pytest.mark.parametrize(
    ("command", "option"), [(name, option) for name, (_, own) in GIVEN.items() for option in own]
)
def test_an_option_decides_the_part_of_the_job_that_it_names(asked, command, option):
    line, options = GIVEN[command]
    words, part, wanted = options[option]
    assert getattr(asked(f"{line} {words}"), part) == wanted != getattr(asked(line), part)


def test_points_alone_are_moved_already_and_moving_with_a_map(asked):
    alone, carried = (asked(f"evaluate {map_} --points a b") for map_ in ("", "-t w.h5"))
    for job, moved, moving in ((alone, Path("b"), None), (carried, None, Path("b"))):
        assert job.fixed_points == Path("a")
        assert (job.moved_points, job.moving_points) == (moved, moving)
