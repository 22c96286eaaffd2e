"""Levels in turn: from where each starts, what progress is told, and what the time limit cuts."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from regcli.image import Space
from regcli.registration import levels
from regcli.registration.levels import LevelProblem, Watch, solve_levels
from regcli.solve.base import Solution

SIZES = (3, 5, 9)
WORK = (1.0, 2.0, 5.0)


def grid(size):
    return Space((size, size, size), torch.eye(4, dtype=torch.float64))


@dataclass
class Hand:
    """The levels' problems, each of two steps; the clock strikes an hour in a step of a level."""

    late: int | None = None
    clock: float = 0.0
    done: list = field(default_factory=list)
    told: list = field(default_factory=list)

    def solve(self, deadline=math.inf, work=WORK):
        makers = [lambda n=n: self.level(n) for n in range(len(SIZES))]
        watch = Watch(lambda stage, share: self.told.append((stage, share)), deadline)
        return solve_levels("diffeo", makers, work, watch)

    def level(self, number):
        self.done.append(("made", number))
        return Level(grid(SIZES[number]), number, self)


@dataclass
class Level(LevelProblem):
    """Its y is a number that tells the level."""

    space: Space
    number: int
    hand: Hand

    def start(self, coarser):
        self.hand.done.append(("started", self.number, coarser))
        return torch.full((1,), 0.5)

    def solve(self, y, keep_going):
        for step in range(2):
            if self.hand.late == self.number and step == 1:
                self.hand.clock += 3600
            if not keep_going(step / 2):
                return Solution(y + self.number, 0.5, step, False, [1.0, 0.5], "time")
        return Solution(y + self.number, 0.1, 2, True, [1.0, 0.1], "converged")


@pytest.fixture
def hand(monkeypatch):
    made = Hand()
    monkeypatch.setattr(levels.time, "monotonic", lambda: made.clock)
    return made


def test_each_level_starts_from_the_y_and_the_grid_of_the_coarser(hand):
    hand.solve()
    starts = [entry for entry in hand.done if entry[0] == "started"]
    assert starts[0][1:] == (0, None)
    for number, entry in enumerate(starts[1:], 1):
        y, space = entry[2]
        assert float(y) == 0.5 + number - 1
        assert space.shape == (SIZES[number - 1],) * 3


def test_a_level_is_made_when_the_one_before_is_solved(hand):
    hand.solve()
    steps = [entry[:2] for entry in hand.done]
    assert steps == [(what, n) for n in range(3) for what in ("made", "started")]


def test_the_result_is_that_of_the_finest_level_and_every_level_leaves_a_trace(hand):
    y, space, traces = hand.solve()
    assert (float(y), space.shape) == (2.5, (9, 9, 9))
    assert [(t.stage, t.level, t.shape) for t in traces] == [
        ("diffeo", n, (size,) * 3) for n, size in enumerate(SIZES)
    ]
    assert all(t.solution.converged and t.solution.residuals == [1.0, 0.1] for t in traces)
    assert all(t.solution.y.numel() == 0 for t in traces)  # of a level's size: it is not kept


@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_progress_is_the_share_of_the_work_whatever_its_unit(hand, unit):
    hand.solve(work=[unit * work for work in WORK])
    shares = [0, 1 / 16, 1 / 8, 2 / 8, 3 / 8, 5.5 / 8, 1]
    assert [stage for stage, _ in hand.told] == ["diffeo"] * len(shares)
    assert [share for _, share in hand.told] == pytest.approx(shares)


def test_the_coarsest_level_is_begun_even_if_no_time_is_left(hand):
    y, space, traces = hand.solve(deadline=-1.0)
    assert [entry[:2] for entry in hand.done] == [("made", 0), ("started", 0)]
    assert (float(y), space.shape) == (0.5, (3, 3, 3))
    assert [t.solution.stopped for t in traces] == ["time"]
    assert hand.told[-1] == ("diffeo", 1.0)


def test_a_level_that_used_up_the_time_is_the_last_and_says_so(hand):
    """Whether it saw that itself or had converged: its result is coarser than was asked for."""
    hand.late = 1
    _, space, traces = hand.solve(deadline=3600.0)
    assert space.shape == (5, 5, 5)
    assert [t.solution.stopped for t in traces] == ["converged", "time"]
    assert [t.solution.converged for t in traces] == [True, False]
    assert hand.told[-1] == ("diffeo", 1.0)


def test_a_level_that_converged_as_the_time_ran_out_is_still_marked_as_cut(hand, monkeypatch):
    solve = Level.solve

    def solved(level, y, keep_going):
        found = solve(level, y, keep_going)
        hand.clock += 3600
        return found

    monkeypatch.setattr(Level, "solve", solved)
    _, space, traces = hand.solve(deadline=3600.0)
    assert space.shape == (3, 3, 3)
    (trace,) = traces
    assert (trace.solution.stopped, trace.solution.converged) == ("time", False)
    assert trace.solution.residuals == [1.0, 0.1]


def test_time_that_runs_out_on_the_finest_level_cuts_nothing(hand):
    hand.late = 2
    _, space, traces = hand.solve(deadline=7200.0)
    assert space.shape == (9, 9, 9)
    assert [t.solution.stopped for t in traces] == ["converged"] * 3
