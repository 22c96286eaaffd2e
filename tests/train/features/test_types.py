from dataclasses import replace

import pytest
import torch
from heads import CODES, subject

from regcli.registration.features.model import network
from regcli.train.data.subjects import Subjects
from regcli.train.data.vocabulary import vocabulary_of
from regcli.train.features.pairs import Pairs
from regcli.train.features.types import Types
from regcli.train.plan import TrainPlan

WORDS = vocabulary_of(CODES)
PLAN = TrainPlan(shape=(17, 17, 17), spacing_mm=1.0)


@pytest.mark.parametrize("objective", [Types, Pairs])
def test_usual_volumes_are_those_of_whole_brains_whatever_was_trained_on(objective):
    people = [subject(), subject(size=11.0)]
    subjects = Subjects(WORDS, people, people, pairs=((0, 1), (1, 0)))
    torch.manual_seed(0)
    net = network("unet", WORDS.count).eval()
    plans = PLAN, replace(PLAN, shape=(33, 33, 33))
    with torch.no_grad():
        small, large = (objective(subjects, plan).validate(net) for plan in plans)
    assert small == large


def test_a_plan_that_holds_a_brain_is_no_smaller_than_asked():
    assert PLAN.holding((15.0, 33.0, 17.1)).shape == (17, 33, 33)
    assert replace(PLAN, shape=(81, 17, 17)).holding((15.0, 33.0, 15.0)).shape == (81, 33, 17)


def test_a_plan_never_holds_more_than_memory_bears():
    assert PLAN.holding((400.0, 400.0, 400.0)) == PLAN
