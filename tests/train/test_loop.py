import csv
import itertools

import pytest
import torch
from heads import CODES, subject
from safetensors.torch import load_file

from regcli.train import loop
from regcli.train.anatomy import vocabulary
from regcli.train.loop import Subjects, learning_rate, train_types
from regcli.train.plan import TrainPlan

PLAN = TrainPlan(steps=6, warmup=2, shape=(17, 17, 17), validate_every=2, rate=1e-3)


@pytest.fixture(scope="module")
def subjects():
    words = vocabulary(CODES)
    people = [subject(words, size=s) for s in (12.0, 13.0, 11.0)]
    return Subjects(words, people[:2], people[2:])


def train(subjects, run, plan=PLAN, steps=None):
    run.mkdir(exist_ok=True)
    asked = itertools.count()
    lines = []
    train_types(subjects, plan, run, lambda: steps is None or next(asked) < steps, lines.append)
    return lines


def rows(run):
    with (run / "train.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(subjects, tmp_path):
    train(subjects, tmp_path / "whole")
    train(subjects, tmp_path / "parts", steps=3)  # a step after the last checkpoint is lost
    assert len(rows(tmp_path / "parts")) == 3
    train(subjects, tmp_path / "parts")
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_rows_beyond_the_last_checkpoint_are_forgotten(subjects, tmp_path):
    train(subjects, tmp_path / "run", steps=2)
    with (tmp_path / "run" / "train.csv").open("a") as file:
        file.write("2,9.9,9.9,\n3,9.9,9.9,\n1")  # what a kill while writing leaves
    train(subjects, tmp_path / "run")
    assert [row[0] for row in rows(tmp_path / "run")[1:]] == [str(n) for n in range(6)]
    assert all(row[1] != "9.9" for row in rows(tmp_path / "run"))


def test_a_kill_between_the_log_and_the_state_loses_nothing(subjects, tmp_path, monkeypatch):
    train(subjects, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(*_):
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(loop, "write_state", kill)
        train(subjects, tmp_path / "killed")
    train(subjects, tmp_path / "killed")
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_the_loss_falls(subjects, tmp_path):
    train(subjects, tmp_path / "run", TrainPlan(steps=40, warmup=5, shape=(17, 17, 17), rate=2e-3))
    losses = [float(row[1]) for row in rows(tmp_path / "run")[1:]]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_the_rate_rises_then_falls_to_nothing():
    plan = TrainPlan(steps=1000, warmup=100, rate=1.0)
    rates = [learning_rate(plan, step) for step in range(plan.steps)]
    assert rates[0] == pytest.approx(0.01, rel=1e-3)
    assert max(rates) == pytest.approx(1, abs=0.05)
    assert 90 < rates.index(max(rates)) < 110
    assert rates[-1] < 1e-4
