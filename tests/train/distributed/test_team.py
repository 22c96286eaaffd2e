"""Training by several processes: torchrun's, or ones that are given its variables."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import ClassVar

import processes
import pytest
import torch
import torch.distributed as dist
from safetensors.numpy import load_file
from torch import nn
from trainings import FAST, FILES, rows, write_folder

from regcli.cli import main as cli
from regcli.errors import RegcliError
from regcli.train.distributed import team as distributed
from regcli.train.distributed.rank import Rank, rank
from regcli.train.distributed.team import ALONE, Team, joined
from regcli.train.gradients import Learner
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.run import TrainJob, _batch

DEQ = ("--model", "deq:levels=1,steps=2,states=0,jacobian=0", "--shape", "9x9x9")
OPTIONS = (*DEQ, "--steps", "4", "--lr", "0.01", "--batch", "3", "--validate-every", "1")
KILLED = """
import os, signal
from regcli.__main__ import main
from regcli.train.gradients import Learner

def step(learner, number, n, samples):
    if n == 3 and learner.team.rank.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(learner, number, n, samples)

whole, Learner._step = Learner._step, step
main()
"""  # regcli, whose second process dies


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("labels") / "data")


def command(folder, out, *options):
    data = (folder / "labels", "--synth", "--validation", "s2,s3", "-o", out)
    return [str(part) for part in ("train", *data, *FAST, *options)]


def alone(folder, out, *options):
    """The exit code of one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["regcli", *command(folder, out, *options)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code


def started(count, target, *arguments, said):
    """Processes with torchrun's variables, and the files that they speak to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = [said / f"{number}.txt" for number in range(count)]
    return [
        processes.start(as_rank, number, count, port, target, *arguments, said=told[number])
        for number in range(count)
    ], told


def as_rank(number, count, port, target, *arguments):
    names = {"RANK": number, "WORLD_SIZE": count, "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    target(*arguments)


def ended(process):
    process.join(60)
    return process.exitcode


def agree(one, other):
    """Whether two runs learned the same from the same samples, but for rounding errors."""
    logs = [rows(run)[1:] for run in (one, other)]
    assert [row[:2] for row in logs[0]] == [row[:2] for row in logs[1]]
    for a, b in zip(*logs, strict=True):
        assert float(a[2]) == pytest.approx(float(b[2]), abs=2e-5)
        assert float(a[3]) == pytest.approx(float(b[3]), abs=1e-3)
    states = [load_file(run / "last.safetensors") for run in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert value == pytest.approx(states[1][name], abs=2e-5)
    return True


@pytest.mark.slow
def test_one_process_two_and_one_again_learn_what_one_does(folder, tmp_path, monkeypatch):
    """torchrun goes on with a run, until one of its processes dies."""

    def interrupt(*_):
        raise KeyboardInterrupt

    out, whole = tmp_path / "run", tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr("regcli.train.run.draw_losses", interrupt)  # after the first validation
        assert alone(folder, out, *OPTIONS) == 130
    assert len(rows(out)) == 2
    (tmp_path / "killed.py").write_text(KILLED)
    run = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    again = [*run, tmp_path / "killed.py", *command(folder, out, *OPTIONS, "--resume")]
    assert subprocess.run(again, capture_output=True).returncode == 1
    assert len(rows(out)) == 4
    assert "processes 1, 2" in (out / "card.md").read_text()
    assert alone(folder, out, *OPTIONS, "--resume") == 0
    assert alone(folder, whole, *OPTIONS) == 0
    assert agree(whole, out)
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "train.json").read_text())["environment"]["processes"] == "1, 2, 1"


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "code"), [("--seed=x", 2), ("--resume", 3)])
def test_what_is_wrong_is_told_once(folder, tmp_path, monkeypatch, fault, code):
    """The second process waits for the first to tell, until torchrun ends it."""
    team, told = started(
        2, processes.regcli, *command(folder, tmp_path / "run", fault), said=tmp_path
    )
    assert ended(team[0]) == code
    lines = told[0].read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["error:", "remedy:"]
    time.sleep(0.2)
    os.kill(team[1].pid, signal.SIGTERM)
    assert ended(team[1]) == 130
    assert told[1].read_text() == ""
    assert not (tmp_path / "run").exists()


class Sums(Objective[torch.Tensor, nn.Linear]):
    """An objective whose gradient is the sum of its samples' numbers."""

    name = "sums"
    steps = 3

    def draw(self, generator, step):
        return torch.rand(1, generator=generator)

    def losses(self, net, sample, done):
        yield net(sample).sum()
        yield done * net(sample).sum()

    def validate(self, net):
        raise AssertionError("a step asks for no score")


def learn_sums():
    """The first step, by as many processes as there are; the first one then goes on alone."""
    torch.manual_seed(rank().number)
    with joined(rank(), "cpu") as team:
        learner = Learner([Sums()], nn.Linear(1, 1), TrainPlan(batch=4), team)
        if team.rank.first:
            print(gradient(learner), flush=True)
            learner.dismiss()
            team.told("more")
        else:
            learner.help(lambda objective, share: None)


def gradient(learner):
    loss = learner.learn(0, 1, learner.samples(0, 1))
    return [float(part) for part in (*(p.grad for p in learner.net.parameters()), loss)]


def test_processes_add_their_gradients_of_the_weights_of_the_first_and_part(tmp_path):
    team, told = started(3, learn_sums, said=tmp_path)
    assert [ended(process) for process in team] == [1, 0, 0], told[0].read_text()
    torch.manual_seed(0)
    whole = gradient(Learner([Sums()], nn.Linear(1, 1), TrainPlan(batch=4), ALONE))
    first, *rest = told[0].read_text().splitlines()
    assert json.loads(first) == pytest.approx(whole, rel=1e-6)
    assert "RegcliError: Another process" in rest[-1]
    assert [file.read_text() for file in told[1:]] == ["", ""]


class Told(Team):
    """A team that is told what to do, and keeps what this process adds."""

    orders: ClassVar = [(0, 1), (0, 2), (1, 0), None]

    def __init__(self, number, count):
        super().__init__(Rank(number, count))
        self.left, self.added = iter(self.orders), []

    def told(self, value=None):
        return next(self.left)

    def equalize(self, net):
        pass

    def summed(self, net, loss):
        self.added.append((float(net.weight.grad), float(loss)))
        return loss


@pytest.mark.parametrize("count", [2, 3, 4])
def test_shares_of_a_step_make_up_the_whole(count):
    """In both objectives, from where they are gone on with, and wherever samples are drawn."""
    plan = TrainPlan(batch=4)

    def added(number, count):
        team = Told(number, count)
        Learner([Sums(), Sums()], nn.Linear(1, 1), plan, team).help(lambda objective, share: None)
        return torch.tensor(team.added)

    torch.manual_seed(0)
    whole = added(0, 1)
    assert whole.shape == (3, 2)
    assert len(whole[:, 0].unique()) == 3
    parts = []
    for number in range(count):
        torch.manual_seed(0)
        parts.append(added(number, count))
    assert torch.allclose(sum(parts), whole)


def test_more_processes_than_samples_are_refused(tmp_path):
    job = TrainJob(tmp_path, tmp_path, TrainPlan(batch=2))
    with pytest.raises(RegcliError, match="3 processes cannot share") as refused:
        _batch(job, None, 3)
    assert refused.value.code == 2
    each = TrainJob(tmp_path, tmp_path, TrainPlan(batch=0))
    assert (_batch(each, None, 3), _batch(each, {"plan": {"batch": 5}}, 3)) == (3, 5)


def test_a_process_is_alone_unless_torchrun_says_otherwise(monkeypatch):
    assert rank() == Rank(0, 1, 0, 1)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.setenv(name, "7")
    assert rank().first
    monkeypatch.setenv("MASTER_ADDR", "here")
    assert not rank().first


def test_devices_that_processes_cannot_share_are_refused(monkeypatch):
    with pytest.raises(RegcliError, match="cuda:1 is one device"), joined(Rank(0, 2), "cuda:1"):
        pass
    monkeypatch.setattr(distributed, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(RegcliError, match=r"2 processes .* 1 GPU"),
        joined(Rank(0, 2, 0, 2), "cuda"),
    ):
        pass


def test_weights_that_no_sample_reaches_have_no_gradient(monkeypatch):
    """An optimizer leaves them alone, as it does on one process."""
    net = nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(3)])
    one, other, none = net.parameters()
    one.grad = torch.full_like(one, 2.0)

    def reduce(flat, to):  # the other process has seen the second weight, too
        flat += torch.tensor([1.0, 5.0, 0.0, 1.0, 1.0, 0.0, 0.25])

    monkeypatch.setattr(dist, "reduce", reduce)
    assert float(Team(Rank(0, 2)).summed(net, torch.tensor(0.5))) == 0.75
    assert (float(one.grad), float(other.grad), none.grad) == (3.0, 5.0, None)
