"""Fingerprints: whether a row would come out as it did, and whether its files are still those."""

import hashlib
import json
from pathlib import Path

import regcli
from regcli.batch.table import FILES
from regcli.commands.register.job import Job
from regcli.io import weights
from regcli.io.files import digest_of
from regcli.recipe import INITS

# Fields of a job that do not change its result. Threads are left out of the recipe too, since
# results have the same bits on any number of them; gates are evaluated again.
_FREE = ("out", "force", "log", "command", "fail_on")


def input_paths(job: Job) -> dict[str, Path]:
    """Every file that a job reads but weights, by what it is."""
    paths = {name: getattr(job, name) for name in (*FILES, "smoothness_map")}
    if job.recipe.init not in INITS:
        init = Path(job.recipe.init)
        found = [p for p in init.iterdir() if p.is_file()] if init.is_dir() else [init]
        paths |= {f"init {path.name}": path for path in found}
    return {name: path for name, path in paths.items() if path is not None}


def fingerprint(job: Job, known: dict[Path, str] | None = None) -> str:
    """SHA-256 of everything that decides a job's result: inputs, recipe, weights, options.

    Args:
        job: Its model is settled.
        known: Digests of files that were computed before; takes those of others.

    Raises:
        InputError: If a file cannot be read.
    """
    known = {} if known is None else known
    digests = {}
    for name, path in input_paths(job).items():
        if path not in known:
            known[path] = digest_of(path)
        digests[name] = known[path]
    options = {k: v for k, v in vars(job).items() if k not in (*_FREE, *digests, "recipe")}
    recipe = {k: v for k, v in job.recipe.to_dict().items() if k != "threads"}
    said = [regcli.__version__, digests, options, recipe, weights_digest(job)]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def digests(job: Job) -> dict[str, str]:
    """SHA-256 of every file of a job's result, by name.

    Raises:
        InputError: If one is missing.
    """
    return {name: digest_of(job.out / name) for name in job.outputs().values()}


def weights_digest(job: Job) -> str:
    """SHA-256 of the weights that a job may use; empty if there are none.

    Raises:
        WeightsError: If they are missing or damaged.
    """
    if job.recipe.model == "classical":
        return ""
    if job.recipe.weights:
        return weights.find(job.recipe.weights).sha256
    usual = (weights.DEFAULT_STEPS,) if job.recipe.model == "deq" else weights.DEFAULTS
    return " ".join(weights.find(name).sha256 for name in usual if weights.is_shipped(name))
