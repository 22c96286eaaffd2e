"""Training state: all that a run needs to go on as if it had never stopped, in safetensors."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from regcli.errors import WeightsError

_AVERAGED, _PLAIN, _MOMENTS = "averaged.", "plain.", "moments."


class Averaged:
    """The exponential moving average of a network's weights: what is validated and shipped."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in net.state_dict().items()}

    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after a step; the first ones count more, or they would linger."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            self.values[name].lerp_(value, 1 - decay)


def write_checkpoint(
    path: Path, net: nn.Module, averaged: Averaged, optimizer: torch.optim.Optimizer, facts: dict
) -> None:
    """Everything, under a temporary name first, so that a kill leaves the state before."""
    tensors = {_PLAIN + k: v for k, v in net.state_dict().items()}
    tensors |= {_AVERAGED + k: v for k, v in averaged.values.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"{_MOMENTS}{number}.{name}"] = value
    write_tensors(path, tensors, facts)


def read_checkpoint(
    path: Path, net: nn.Module, averaged: Averaged, optimizer: torch.optim.Optimizer
) -> dict:
    """Put back what `write_checkpoint` wrote; returns its facts."""
    tensors, facts = read_weights(path), read_facts(path)
    state = optimizer.state_dict()
    try:
        net.load_state_dict(_part(tensors, _PLAIN))
        for name, value in _part(tensors, _AVERAGED).items():
            averaged.values[name].copy_(value)
        for key, value in _part(tensors, _MOMENTS).items():
            number, name = key.split(".", 1)
            state["state"].setdefault(int(number), {})[name] = value
        optimizer.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} is not the state of this training.", "Train again in another folder."
        ) from error
    return facts


def read_facts(path: Path) -> dict:
    """The header of a state or of weights."""
    with _opened(path) as file:
        return json.loads(file.metadata()["facts"])


def read_weights(path: Path) -> dict[str, Tensor]:
    """The values that `write_tensors` wrote, by name."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} is damaged: it cannot be read.", "Train again in another folder."
        ) from error


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """A safetensors file with facts as JSON in its header, written aside and renamed."""
    data = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with _aside(path) as aside, aside.open("wb") as file:
        file.write(save(data, {"facts": json.dumps(facts)}))
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """A text file, written aside and renamed."""
    with _aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A temporary name, renamed at the end; what a full disk cut short does not stay on it."""
    aside = path.with_name(path.name + ".part")
    try:
        yield aside
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    aside.replace(path)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
