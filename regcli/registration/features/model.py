"""FeatureModel: a trained feature network, and the settings by which it is used."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from regcli.errors import RecipeError, RegcliError, WeightsError
from regcli.io import weights as files
from regcli.nets.base import FeatureNet
from regcli.registration.features.trust import Volumes
from regcli.registry import NETWORKS, STEP_TRAININGS, parse, resolve

_KIND = "dio"
FINEST_MM, COARSEST_MM = 0.1, 20.0
_LEVELS, _MOST_CHANNELS = 3, 1000
_VOLUMES = ("means", "deviations")


@dataclass(frozen=True, eq=False)
class FeatureModel:
    """A feature network with its weights.

    Attributes:
        name: Name of the file of weights.
        sha256: SHA-256 of that file.
        net: The network, in evaluation mode.
        spacing_mm: Voxel size that it was trained on.
        gains: Weight of its features in the energy, on its levels 4, 2 and 1.
        usual: Volumes that it finds in images like those it was trained on.
        smoothness: Factor of the diffusion by which training registered; users' maps are as smooth
            with features as without.
        muted: Channels that take no part in registrations: types that it finds too unsurely.
    """

    name: str
    sha256: str
    net: FeatureNet
    spacing_mm: float
    gains: tuple[float, ...]
    usual: Volumes
    smoothness: float = 1.0
    muted: tuple[int, ...] = ()


def load(spec: str) -> FeatureModel:
    """The network that `--weights` means.

    Args:
        spec: Name of shipped weights, or a path.

    Raises:
        WeightsError: If the file is missing, damaged, or holds another kind of weights.
    """
    return _loaded(files.find(spec))


# Each worker of a batch loads its network once; a changed file has another hash.
@functools.lru_cache(maxsize=len(files.DEFAULTS))
def _loaded(file: files.WeightsFile) -> FeatureModel:
    return assemble(file.name, file.sha256, files.facts(file.path), files.tensors(file.path))


def assemble(name: str, sha256: str, facts: dict[str, Any], values: dict[str, Any]) -> FeatureModel:
    """A network as a file of weights describes it.

    Args:
        name: Name of the file.
        sha256: SHA-256 of the file.
        facts: Its header: model, network, channels, spacing_mm, gains, volumes,
            smoothness if it is not 1, and the names of all types if some are muted.
        values: numpy arrays by the names of the network's state.

    Raises:
        WeightsError: If they are another kind of weights, or do not fit each other.
    """
    if (kind := facts.get("model")) != _KIND:
        raise WeightsError(
            f"'{name}' holds weights of model '{kind}', not {_KIND}.",
            "Use --model deq with them."
            if str(kind) in STEP_TRAININGS
            else f"Give weights of {_KIND}.",
        )
    try:
        spacing_mm = float(facts["spacing_mm"])
        gains = tuple(float(gain) for gain in facts["gains"])
        usual = Volumes(*(tuple(float(v) for v in facts["volumes"][key]) for key in _VOLUMES))
        smoothness = float(facts.get("smoothness", 1.0))
        channels = int(facts["channels"])
        if not 1 < channels <= _MOST_CHANNELS:
            raise damaged(name)
        muted = tuple(facts["types"].index(name) for name in facts.get("muted", ()))
        if not channels - len(muted) > 1:
            raise damaged(name)
        net = network(str(facts["network"]), channels)
    except (KeyError, TypeError, ValueError, AttributeError, RegcliError) as error:
        raise damaged(name) from error
    types = {len(usual.means), len(usual.deviations)}
    fits = FINEST_MM < spacing_mm < COARSEST_MM and len(gains) == _LEVELS and min(gains) >= 0
    fits &= smoothness > 0
    numbers = (smoothness, *gains, *usual.means, *usual.deviations)
    if not fits or types != {net.channels - 1} or not all(map(math.isfinite, numbers)):
        raise damaged(name)
    fill(net, values, name)
    return FeatureModel(name, sha256, net.eval(), spacing_mm, gains, usual, smoothness, muted)


def network(spec: str, channels: int) -> FeatureNet:
    """A network of the registry, with random weights.

    Args:
        spec: Name in registry.NETWORKS.
        channels: Channels of every level.

    Raises:
        RecipeError: If there is no such network.
    """
    name, given = parse(NETWORKS, spec)
    if given:
        raise RecipeError(f"'{spec}': networks have no options.", f"Write {name} alone.")
    target, options = resolve(NETWORKS, name)
    return target(channels, **options)


def fill(net: nn.Module, values: dict[str, np.ndarray], name: str) -> None:
    """Give a network the values of a file.

    Raises:
        WeightsError: If they are not its.
    """
    own = net.state_dict()
    if own.keys() < {key.partition(".")[2] for key in values}:
        raise WeightsError(
            f"'{name}' holds the state of a training, not weights.",
            "Give the best.safetensors beside it.",
        )
    same = own.keys() == values.keys() and all(
        tuple(own[key].shape) == value.shape and bool(np.isfinite(value).all())
        for key, value in values.items()
    )
    if not same:
        raise damaged(name)
    net.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()})


def damaged(name: str) -> WeightsError:
    """The error of a file whose values do not fit its header."""
    return WeightsError(
        f"The weights '{name}' are damaged: their values do not fit what the header says.",
        "Use the original file, or train again.",
    )
