import csv
import itertools
import shutil
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from heads import CODES, subject
from safetensors.torch import load_file

from regcli.errors import RegcliError
from regcli.nets.base import FeatureNet
from regcli.registration.features.model import network
from regcli.train import loop
from regcli.train.checkpoint import read_facts, write_tensors
from regcli.train.data.subjects import Subjects
from regcli.train.data.vocabulary import vocabulary_of
from regcli.train.features.types import Types
from regcli.train.loop import Callbacks, learning_rate, train
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.synth.images import generator_of

PLAN = TrainPlan(rise=2, shape=(17, 17, 17), validate_every=2, warm_rate=1e-3)
FACTS = {"channels": 5, "network": "unet"}


@dataclass(frozen=True, eq=False)
class Darkness(Objective[torch.Tensor, FeatureNet]):
    """A second objective, cheap: scores are to be low."""

    name: ClassVar[str] = "darkness"
    steps: int = 4
    rate: float = 1e-3
    plan: TrainPlan = PLAN

    def draw(self, generator, step):
        return torch.rand(1, 1, 17, 17, 17, generator=generator)

    def losses(self, net, image, done):
        yield net(image, image > 0.1)[-1].square().mean()

    def validate(self, net) -> tuple[float, dict[str, Any]]:
        return -sum(map(float, self.losses(net, self.draw(generator_of(0, 0), 0), 0.0))), {}


@pytest.fixture(scope="module")
def subjects():
    words = vocabulary_of(CODES)
    people = [subject(words, size=s) for s in (12.0, 13.0, 11.0)]
    return Subjects(words, people[:2], people[2:])


@pytest.fixture(scope="module")
def whole(subjects, tmp_path_factory):
    """A run of both objectives that nothing has stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return SimpleNamespace(run=run, lines=run_tasks(objectives(subjects), run))


@pytest.fixture(scope="module")
def types(subjects, tmp_path_factory):
    """A run of the first objective alone."""
    run = tmp_path_factory.mktemp("types") / "run"
    run_tasks(objectives(subjects)[:1], run)
    return run


def objectives(subjects, plan=PLAN, steps=4):
    return [Types(subjects, replace(plan, warm_steps=steps)), Darkness()]


def run_tasks(todo, run, plan=PLAN, steps=None):
    run.mkdir(exist_ok=True)
    asked, lines = itertools.count(), []
    callbacks = Callbacks(
        lambda: steps is None or next(asked) <= steps,  # asked once before an objective
        lines.append,
        lambda objective, share: None,
    )
    facts = FACTS | {"channels": todo[0].subjects.vocabulary.count}
    train(todo, lambda: network("unet", facts["channels"]), facts, plan, run, callbacks)
    return lines


def rows(run):
    with (run / "train.csv").open(newline="") as file:
        return list(csv.reader(file))


def same(one, other):
    a, b = (load_file(run / "last.safetensors") for run in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 5])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(subjects, whole, tmp_path, steps):
    """In the first objective and in the second."""
    run_tasks(objectives(subjects), tmp_path / "parts", steps=steps)
    assert len(rows(tmp_path / "parts")) == 1 + steps - (steps > 4)  # each objective asks once more
    run_tasks(objectives(subjects), tmp_path / "parts")
    assert rows(whole.run) == rows(tmp_path / "parts")
    assert same(whole.run, tmp_path / "parts")


def test_rows_beyond_the_last_checkpoint_are_forgotten(subjects, tmp_path):
    run_tasks(objectives(subjects), tmp_path / "run", steps=2)
    with (tmp_path / "run" / "train.csv").open("a") as file:
        file.write("types,2,9.9,9.9,\ntypes,3,9.9,9.9,\ntypes,1")  # what a kill leaves
    run_tasks(objectives(subjects), tmp_path / "run")
    named = [(row[0], int(row[1])) for row in rows(tmp_path / "run")[1:]]
    assert named == [("types", n) for n in range(4)] + [("darkness", n) for n in range(4)]
    assert all(row[2] != "9.9" for row in rows(tmp_path / "run"))


def test_a_kill_between_the_log_and_the_state_loses_nothing(subjects, whole, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def kill(*_):
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(loop, "write_checkpoint", kill)
        run_tasks(objectives(subjects), tmp_path / "killed")
    run_tasks(objectives(subjects), tmp_path / "killed")
    assert rows(tmp_path / "killed") == rows(whole.run)


def test_a_task_starts_from_the_best_weights_and_the_score_they_have(whole):
    assert [line.split(":")[0] for line in whole.lines] == [
        *(f"types, step {n}" for n in (2, 4)),
        *(f"darkness, step {n}" for n in (0, 2, 4)),
    ]


def test_a_batch_is_the_mean_of_its_samples(subjects, tmp_path):
    slow = replace(PLAN, warm_rate=1e-5)
    plan = replace(slow, validate_every=1, batch=2)
    run_tasks(objectives(subjects, plan, steps=1)[:1], tmp_path / "batch", plan)
    run_tasks(objectives(subjects, slow, steps=2)[:1], tmp_path / "single", slow)
    first, second = (float(row[2]) for row in rows(tmp_path / "single")[1:])
    (batch,) = (float(row[2]) for row in rows(tmp_path / "batch")[1:])
    # the second sample met weights that the first had changed by one small step
    assert batch == pytest.approx((first + second) / 2, rel=0.02)


def test_the_loss_falls(subjects, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # one draws ahead
    plan = TrainPlan(rise=5, shape=(17, 17, 17), warm_steps=40)
    run_tasks([Types(subjects, plan)], tmp_path / "run", plan)
    losses = [float(row[2]) for row in rows(tmp_path / "run")[1:]]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_the_rate_rises_stays_and_falls_to_nothing():
    objective, plan = Darkness(steps=1000, rate=2.0), TrainPlan(rise=100, cool=250)
    rates = [learning_rate(objective, plan, step) for step in range(objective.steps)]
    assert rates[0] == pytest.approx(0.02)
    assert set(rates[99:751]) == {2.0}
    assert rates[875] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(2 / 250)


def test_a_task_that_is_shorter_than_the_fall_falls_from_the_beginning():
    objective, plan = Darkness(steps=10, rate=1.0), TrainPlan(rise=1, cool=2000)
    assert [learning_rate(objective, plan, step) for step in (0, 5, 9)] == pytest.approx(
        [1, 0.5, 0.1]
    )


@pytest.mark.parametrize("harm", ["deleted", "damaged", "another's", "the state"])
def test_the_best_weights_can_be_had_again_from_the_last_state(subjects, types, tmp_path, harm):
    shutil.copytree(types, tmp_path / "run")
    best = tmp_path / "run" / "best.safetensors"
    whole = best.read_bytes()
    if harm == "deleted":
        best.unlink()
    elif harm == "damaged":
        best.write_bytes(whole[: len(whole) // 2])
    elif harm == "another's":
        write_tensors(best, load_file(best), FACTS | {"best": -1.0, "task": "types"})
    else:
        best.write_bytes((tmp_path / "run" / "last.safetensors").read_bytes())
    (line,) = run_tasks(objectives(subjects)[:1], tmp_path / "run")
    assert line.startswith("types, step 4")
    assert read_facts(best)["step"] == 4
    assert load_file(best).keys() == network("unet", FACTS["channels"]).state_dict().keys()


def test_better_weights_than_the_state_knows_of_are_not_overwritten(subjects, types, tmp_path):
    shutil.copytree(types, tmp_path / "run")
    best = tmp_path / "run" / "best.safetensors"
    write_tensors(best, load_file(best), FACTS | {"best": 0.99, "task": "types"})
    with pytest.raises(RegcliError, match=r"best\.safetensors scored 0\.99"):
        run_tasks(objectives(subjects)[:1], tmp_path / "run")


@pytest.mark.parametrize("objective", ["types", "darkness"])
def test_a_kill_before_the_best_weights_are_written_loses_nothing(
    subjects, whole, tmp_path, monkeypatch, objective
):
    """The state, which is written first, says that there are better ones: of its own objective."""

    class KilledError(Exception):
        pass

    def kill(path, values, facts):
        if facts["task"] == objective:
            raise KilledError
        write_tensors(path, values, facts)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(loop, "write_tensors", kill)
        run_tasks(objectives(subjects), tmp_path / "killed")
    run_tasks(objectives(subjects), tmp_path / "killed")
    assert same(whole.run, tmp_path / "killed")
    one, other = (load_file(r / "best.safetensors") for r in (whole.run, tmp_path / "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_damaged_state_is_an_error_of_the_users(subjects, tmp_path):
    run_tasks(objectives(subjects), tmp_path / "run", steps=2)
    state = tmp_path / "run" / "last.safetensors"
    state.write_bytes(state.read_bytes()[:-1000])
    with pytest.raises(RegcliError, match=r"last\.safetensors"):
        run_tasks(objectives(subjects), tmp_path / "run")
