"""The record of a run: what it was begun with, and whether it goes on with the same."""

import errno
import fcntl
import json
import math
import operator
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regcli.errors import InputError, OutputError, RecipeError
from regcli.train.checkpoint import read_facts, read_weights, write_tensors
from regcli.train.features.types import Types
from regcli.train.loop import BEST, LAST, LOG
from regcli.train.plan import TrainPlan

RECORD = "train.json"
_FORGOTTEN = 5  # times that the average's memory fits into the steps of a cooled end


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """A folder that no other training writes to meanwhile; free again however this process ends.

    Args:
        run: The folder, which is made if it is not there.

    Raises:
        OutputError: If another training writes to it already, or it cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        folder = os.open(run, os.O_RDONLY)
    except OSError as error:
        raise OutputError(
            f"{run} cannot be made: {error.strerror}.", "Name another folder with -o."
        ) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # disks of some clusters know no locks; they only guard against a user's oversight
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(folder)
            raise OutputError(
                f"Another training is writing to {run}.",
                "Wait for it, or choose another folder with -o.",
            ) from None
    try:
        yield
    finally:
        os.close(folder)


def read_record(run: Path) -> dict[str, Any]:
    """The inputs that a run was begun with.

    Raises:
        InputError: If train.json cannot be read.
    """
    try:
        begun = json.loads((run / RECORD).read_text(encoding="utf-8"))
        _ = operator.index(begun["plan"]["batch"]), begun["environment"] | {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{run / RECORD} cannot be read.", "Train in another folder.") from error
    return begun


def continued(run: Path, begun: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """What a run was begun with, and on how many processes it has been; the rest is to be the same.

    Args:
        run: Its folder.
        begun: What `read_record` says of it.
        record: Of what is to be gone on with.

    Raises:
        InputError: If another version of regcli wrote it.
        RecipeError: Naming what differs.
    """
    now = json.loads(json.dumps(record))
    # where a run goes on, and how exactly that machine computes, may change
    plan = begun["plan"] | {key: now["plan"][key] for key in ("device", "precision")}
    begun = begun | {"plan": plan}
    same = all(plan[key] == now["plan"].get(key) for key in plan)
    if plan.keys() != now["plan"].keys() or (same and begun.get("drawing") != now["drawing"]):
        begin = f" with --start {run / BEST}" if (run / BEST).exists() else ""
        raise InputError(
            f"{run} was begun by another version of regcli, which planned or drew other things.",
            f"Go on with that version, or train in another folder{begin}.",
        )
    parts = ("synth", "collections", "types", "training", "validation", "codes", "recipe", "plan")
    for key in parts:
        if key in begun and begun[key] != now[key]:
            changed = key
            if key == "plan":
                changed = ", ".join(k for k in now[key] if plan.get(k) != now[key][k])
            raise RecipeError(
                f"{changed} differs from what {run} was begun with.",
                "Give the options of the first run (train.json has them), or another folder.",
            )
    then, last = (one["environment"].get("processes", "1") for one in (begun, record))
    if then.split(", ")[-1] == last:
        return begun
    return begun | {"environment": begun["environment"] | {"processes": f"{then}, {last}"}}


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
