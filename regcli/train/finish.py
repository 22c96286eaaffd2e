"""finish: a copy of a run that learns on and on, whose rate falls to 0 so that it can be used."""

import math
import shutil
from pathlib import Path
from typing import Any

from regcli.train.loop import LAST, LOG
from regcli.train.plan import TrainPlan
from regcli.train.record import read_record
from regcli.train.state import read_facts, read_weights, write_tensors
from regcli.train.types import Types

_FORGOTTEN = 5  # times that the average's memory fits into the steps of a cooled end


def ending(of: Path, plan: TrainPlan) -> dict[str, Any]:
    """The record of a run with an "end": what changes in its plan.

    Args:
        of: The run's folder.
        plan: Its `cool` says in how many steps the rate falls to 0.

    Raises:
        InputError: If the run's record cannot be read.
        WeightsError: If its state cannot be read.
    """
    begun, state = read_record(of), read_facts(of / LAST)
    which = "warm_steps" if state["task"] == Types.name else "steps"
    last = state["step"] + plan.cool
    end = {which: last, "cool": plan.cool, "validate_every": last}
    # the average is to forget what was learned at a high rate: a Dice of .78 else, .79 with this
    end["average"] = min(plan.average, max(0.0, 1 - _FORGOTTEN / plan.cool))
    return begun | {"plan": begun["plan"] | end, "end": end}


def copy_state(of: Path, run: Path) -> None:
    """Copy what a run goes on from; what it scored is no bound, for the end of the copy is wanted.

    Args:
        of: Folder of the run.
        run: Folder of the copy.

    Raises:
        WeightsError: If the state cannot be read.
        OSError: If it cannot be written.
    """
    shutil.copyfile(of / LOG, run / LOG)  # of a run that goes on, it is never behind
    state = read_facts(of / LAST) | {"best": -math.inf}
    write_tensors(run / LAST, read_weights(of / LAST), state)
