"""Training of a fixed point: what it learns from and what it keeps in memory."""

from dataclasses import replace

import pytest
import torch
from heads import CODES, subject
from saved import Saved

from regcli.registration.equilibrium.force import march
from regcli.registration.equilibrium.model import step_network
from regcli.registry import STEP_TRAININGS, build
from regcli.train.data.subjects import Subjects
from regcli.train.data.vocabulary import vocabulary_of
from regcli.train.losses import fold_loss, map_loss
from regcli.train.plan import TrainPlan
from regcli.train.steps.equilibrium import Equilibria, EquilibriumTraining
from regcli.train.steps.pairs import TrainingPairs
from regcli.train.steps.unrolled import UnrolledTraining, Unrolling
from regcli.train.synth.images import generator_of

WORDS = vocabulary_of(CODES)
PLAN = TrainPlan(model="deq", shape=(17, 17, 17), adjoint="phantom:steps=2,rate=1", steps=20)
SMALL = EquilibriumTraining(levels=1, steps=4, states=1, folds=0.0)


def pairs(plan=PLAN, count=4):
    people = [subject(WORDS, size=11.0 + n) for n in range(count)]
    return TrainingPairs(Subjects(WORDS, people[:2], people[2:], pairs=((0, 1),)), plan)


def objective(recipe=SMALL, plan=PLAN):
    kind = Equilibria if isinstance(recipe, EquilibriumTraining) else Unrolling
    return kind(pairs(plan), plan, recipe)


def net(name="guided"):
    torch.manual_seed(0)
    return step_network(name).train()


def learn(todo, own, sample):
    """All parts of the loss, each passed back before the next."""
    own.zero_grad()
    total = 0.0
    for part in todo.losses(own, sample, 0.0):
        part.backward()
        total += float(part.detach())
    return total


@pytest.mark.parametrize("adjoint", ["phantom:steps=2,rate=1", "jfb", "ift:iterations=5"])
@pytest.mark.parametrize("levels", [1, 2])
def test_gradients_reach_every_weight(adjoint, levels):
    plan = replace(PLAN, adjoint=adjoint)
    todo, own = objective(replace(SMALL, levels=levels), plan), net("update")
    learn(todo, own, todo.draw(generator_of(0, 0), 0))
    for name, weight in own.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.isfinite().all()), name
    assert float(own.head.weight.grad.abs().max()) > 0


def test_the_parts_are_those_of_the_states_and_of_the_slopes():
    todo, own = objective(replace(SMALL, states=3, steps=8)), net()
    sample = todo.draw(generator_of(0, 0), 0)
    parts = [float(part.detach()) for part in todo.losses(own, sample, 0.0)]
    assert len(parts) == 6  # three states on the way, the last, slopes along two directions
    (view,) = todo.pairs.views(sample, 1, own.multiple)
    with torch.no_grad():
        states = list(march(own, [view], 10, todo.options.sigma))
        for part, place, weight in zip(parts, (4, 6, 8, 10), (0.5, 0.5, 0.5, 1.0), strict=False):
            u = states[place - 1]  # two phantom steps later
            wanted = weight * map_loss(view.fixed, view.moving, u, view.shown, 0.1)
            assert part == pytest.approx(float(wanted), rel=1e-4)


def test_no_slopes_and_no_states_leave_one_part():
    recipe = replace(SMALL, states=0, jacobian=0.0)
    todo = objective(recipe)
    assert len(list(todo.losses(net(), todo.draw(generator_of(0, 0), 0), 0.0))) == 1


def test_what_folds_costs_what_the_recipe_says():
    pair = objective().draw(generator_of(0, 0), 0)
    (view,) = objective().pairs.views(pair, 1, net().multiple)
    calm, folded = view.start, 3 * torch.randn(view.start.shape, generator=generator_of(0, 1))
    for u, price in ((calm, 0.0), (folded, 2 * float(fold_loss(folded)))):
        free, paid = (
            float(objective(replace(SMALL, folds=folds)).misfit(pair, view)(u))
            for folds in (0.0, 2.0)
        )
        assert paid - free == pytest.approx(price, rel=1e-4)
    assert float(fold_loss(folded)) > 0.1


def test_the_same_generator_gives_the_same_loss():
    todo = objective()
    values = [learn(todo, net(), todo.draw(generator_of(0, step), 0)) for step in (5, 5, 6)]
    assert values[0] == values[1] != values[2]


def saved(recipe, sample=None):
    todo, own = objective(recipe), net("update")
    sample = todo.draw(generator_of(0, 0), 0)
    with Saved(*own.parameters()) as counted:
        learn(todo, own, sample)
    assert counted.now == 0
    return counted.most


def test_memory_does_not_grow_with_the_steps_unless_they_are_unrolled():
    constant = [saved(replace(SMALL, steps=steps, states=3)) for steps in (4, 8, 16)]
    assert len(set(constant)) == 1
    few, more = (saved(UnrolledTraining(levels=1, steps=steps)) for steps in (4, 8))
    step = (more - few) / 4
    assert step > 0.3 * constant[0] / 2  # two phantom steps are kept
    assert few > 1.5 * constant[0]


def test_a_few_steps_of_training_lower_the_loss():
    todo, own = objective(replace(SMALL, jacobian=0.01)), net()
    sample = todo.draw(generator_of(0, 1), 0)
    optimizer = torch.optim.Adam(own.parameters(), lr=3e-3)
    before = learn(todo, own, sample)
    for _ in range(10):
        learn(todo, own, sample)
        optimizer.step()
    assert learn(todo, own, sample) < 0.97 * before


def test_a_penalty_on_slopes_stops_a_map_from_expanding():
    todo, own = objective(replace(SMALL, steps=2, states=0, jacobian=5.0)), net("update")
    own.head.weight.data *= 2e4  # it says something, whatever
    sample = todo.draw(generator_of(0, 1), 0)
    optimizer = torch.optim.Adam(own.parameters(), lr=1e-3)

    def slopes():
        return sum(float(part.detach()) for part in list(todo.losses(own, sample, 0.0))[1:])

    before = slopes()
    for _ in range(8):
        learn(todo, own, sample)
        optimizer.step()
    assert before > 0
    assert slopes() < 0.5 * before


def test_a_penalty_on_slopes_leaves_steps_that_come_nearer_alone():
    todo, own = objective(replace(SMALL, steps=2, states=0, jacobian=5.0)), net()
    _, *slopes = todo.losses(own, todo.draw(generator_of(0, 1), 0), 0.0)
    assert [float(part.detach()) for part in slopes] == [0.0, 0.0]


@pytest.mark.parametrize("name", ["unroll", "voxelmorph", "gradirn", "riir"])
def test_baselines_learn_from_all_their_steps(name):

    recipe = build(STEP_TRAININGS, name)
    todo, own = objective(recipe), net(recipe.network)
    sample = todo.draw(generator_of(0, 0), 0)
    assert len(list(todo.losses(own, sample, 0.0))) == 1
    learn(todo, own, sample)
    gradients = [p.grad for p in own.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)
    score, facts = todo.validate(own.eval())
    assert 0 <= score <= 1
    assert facts == {}


def test_later_steps_count_more_where_that_is_asked_for():
    recipe = UnrolledTraining(network="riir", levels=1, steps=6, rising=10.0)
    todo, own = objective(recipe), net("riir").eval()
    sample = todo.draw(generator_of(0, 0), 0)
    (loss,) = (float(part.detach()) for part in todo.losses(own, sample, 0.0))
    (view,) = todo.pairs.views(sample, 1, own.multiple)
    with torch.no_grad():
        values = [
            float(map_loss(view.fixed, view.moving, u, view.shown, 0.1))
            for u in march(own, [view], 6, 0.0)
        ]
    weights = [10 ** (n / 5) for n in range(6)]
    wanted = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert loss == pytest.approx(wanted, rel=1e-4)


def test_validation_is_always_the_same_and_of_whole_anatomies():
    one, other = pairs(), pairs()
    for a, b in zip(one.validation, other.validation, strict=True):
        assert torch.equal(a.fixed.image, b.fixed.image)
        assert a.fixed.image.shape[2] >= 17


def test_without_labels_the_score_is_less_the_loss():
    todo = objective()
    pair = todo.pairs.validation[0]
    (view,) = todo.pairs.views(pair, 1, 16)
    blank = vocabulary_of([])
    alone = TrainingPairs(replace(todo.pairs.subjects, vocabulary=blank), PLAN)
    found = alone.score(pair, view.start, view, 0.1)
    assert found == -float(map_loss(view.fixed, view.moving, view.start, view.shown, 0.1))
