"""StepModel: a trained update network, and the settings by which it is iterated."""

import functools
import math
from dataclasses import dataclass
from typing import Any

from regcli.errors import RecipeError, RegcliError, WeightsError
from regcli.io import weights as files
from regcli.nets.update import StepNet
from regcli.registration.features.model import COARSEST_MM, FINEST_MM, damaged, fill
from regcli.registry import STEP_TRAININGS, UPDATES, parse, resolve

MOST_LEVELS, MOST_STEPS = 6, 1000


@dataclass(frozen=True, eq=False)
class StepModel:
    """An update network with its weights.

    Attributes:
        name: Name of the file of weights.
        sha256: SHA-256 of that file.
        kind: "deq" if it has an equilibrium; others are made for a fixed number of steps.
        net: In evaluation mode.
        spacing_mm: Voxel size of its finest level.
        levels: How many there are, each of half the voxel size of the one before.
        steps: On each level, in training.
        sigma: Smoothing within its map, voxels.
    """

    name: str
    sha256: str
    kind: str
    net: StepNet
    spacing_mm: float
    levels: int
    steps: int
    sigma: float


def load(spec: str) -> StepModel:
    """The network that `--weights` means.

    Args:
        spec: Name of shipped weights, or a path.

    Raises:
        WeightsError: If the file is missing, damaged, or holds another kind of weights.
    """
    return _loaded(files.find(spec))


def are_steps(spec: str) -> bool:
    """Whether weights are those of a network of steps.

    Raises:
        WeightsError: If the file is missing or damaged.
    """
    return str(files.facts(files.find(spec).path).get("model")) in STEP_TRAININGS


# Each worker of a batch loads its network once; a changed file has another hash.
@functools.lru_cache(maxsize=1)
def _loaded(file: files.WeightsFile) -> StepModel:
    return assemble(file.name, file.sha256, files.facts(file.path), files.tensors(file.path))


def assemble(name: str, sha256: str, facts: dict[str, Any], values: dict[str, Any]) -> StepModel:
    """A network of steps as a file of weights describes it.

    Args:
        name: Name of the file.
        sha256: SHA-256 of the file.
        facts: Its header: model, network, spacing_mm, levels, steps and sigma.
        values: numpy arrays by the names of the network's state.

    Raises:
        WeightsError: If they are another kind of weights, or do not fit each other.
    """
    kind = str(facts.get("model"))
    if kind not in STEP_TRAININGS:
        raise WeightsError(
            f"'{name}' holds weights of model '{kind}', not of deq or another network of steps.",
            "Use --model dio with them." if kind == "dio" else "Give weights of deq.",
        )
    try:
        spacing_mm, sigma = float(facts["spacing_mm"]), float(facts["sigma"])
        levels, steps = int(facts["levels"]), int(facts["steps"])
        net = step_network(str(facts["network"]))
    except (KeyError, TypeError, ValueError, OverflowError, RegcliError) as error:
        raise damaged(name) from error
    fits = FINEST_MM < spacing_mm < COARSEST_MM and 0 <= sigma < math.inf
    if not (fits and 0 < levels <= MOST_LEVELS and 0 < steps <= MOST_STEPS):
        raise damaged(name)
    fill(net, values, name)
    return StepModel(name, sha256, kind, net.eval(), spacing_mm, levels, steps, sigma)


def step_network(spec: str) -> StepNet:
    """A network of steps of the registry, with random weights.

    Raises:
        RecipeError: If there is no such network.
    """
    name, values = parse(UPDATES, spec)
    if values:
        raise RecipeError(f"'{spec}': a network of steps has no options.", f"Write {name} alone.")
    target, options = resolve(UPDATES, name)
    return target(**options)
