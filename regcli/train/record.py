"""The record of a run: what it was begun with, and whether it goes on with the same."""

import errno
import fcntl
import json
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regcli.errors import InputError, OutputError, RecipeError
from regcli.train.loop import BEST

RECORD = "train.json"


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
