"""Files of weights: where the shipped ones lie, what their headers say, whether they are whole."""

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from regcli.errors import WeightsError

# Weights of --model auto and dio where no --weights are given: the first that suits the images.
DEFAULTS = ("dio-brain", "dio-brain-any")
DEFAULT = DEFAULTS[0]
DEFAULT_STEPS = "deq-brain"  # what --model deq takes
FACTS = "facts"  # of a file's header: JSON of all that is known about the weights but their values
_HERE = Path(__file__).parents[1]
# a wheel carries them inside the package, a checkout beside it
_FOLDERS = (_HERE / "_weights", _HERE.parent / "weights")
_SUMS = "SHA256SUMS"
_SUFFIX = ".safetensors"
_LONGEST = 100_000_000  # bytes of a header, as the format allows


@dataclass(frozen=True)
class WeightsFile:
    """One file of weights.

    Attributes:
        name: By which `--weights` knows it; of a file that does not come with regcli its stem.
        path: Of the safetensors file.
        sha256: Of its bytes, in hexadecimal.
        megabytes: Its size.
    """

    name: str
    path: str
    sha256: str
    megabytes: float


def shipped() -> list[WeightsFile]:
    """Every file of weights that comes with this installation, by name."""
    folder = _folder()
    files = sorted(folder.glob("*" + _SUFFIX)) if folder else []
    return [_file(path) for path in files]


def is_shipped(name: str) -> bool:
    """Whether weights of this name come with this installation."""
    folder = _folder()
    return folder is not None and (folder / (name + _SUFFIX)).is_file()


def find(spec: str) -> WeightsFile:
    """The file that `--weights` means, whole as it was shipped.

    Args:
        spec: Name of shipped weights, or a path.

    Raises:
        WeightsError: If there is no such file, or a shipped one is not what it was.
    """
    folder = _folder()
    if folder is not None and is_shipped(spec):
        file = _file(folder / (spec + _SUFFIX))
        check(file)
        return file
    path = Path(spec)
    if not path.is_file():
        known = ", ".join(file.name for file in shipped()) or "none come with this version"
        raise WeightsError(
            f"There are no weights '{spec}'.", f"Give a .safetensors file or a name: {known}."
        )
    return _file(path)


def check(file: WeightsFile) -> None:
    """Compare a shipped file with the sum that was shipped beside it.

    Raises:
        WeightsError: If they differ, or there is none.
    """
    sums = Path(file.path).with_name(_SUMS)
    lines = sums.read_text(encoding="ascii").splitlines() if sums.is_file() else []
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    if listed.get(Path(file.path).name) != file.sha256:
        raise WeightsError(
            f"{file.path} is damaged: its SHA-256 is not the one in {_SUMS}.",
            "Install regcli again.",
        )


def facts(path: str | Path) -> dict[str, Any]:
    """The header of a file of weights.

    Raises:
        WeightsError: If it is not a safetensors file that regcli wrote.
    """
    try:
        with Path(path).open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, _LONGEST)))
        said = json.loads(header["__metadata__"][FACTS])
    except (OSError, ValueError, struct.error, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path} does not hold weights of regcli.",
            "Give a .safetensors file that regcli train wrote.",
        ) from error
    if not isinstance(said, dict):
        raise WeightsError(f"{path} says nothing about its weights.", "Train them again.")
    return said


def tensors(path: str | Path) -> dict[str, np.ndarray]:
    """The values in a file of weights, by name.

    Raises:
        WeightsError: If they are cut short or of a kind that numpy does not have.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} is damaged: its values cannot be read.",
            "Use the original file, or train again.",
        ) from error


def card(file: WeightsFile) -> str | None:
    """The text of the card beside a file: data, licence, recipe, results, limits."""
    own = Path(file.path).with_suffix(".md")
    cards = [path for path in (own, own.with_name("card.md")) if path.is_file()]
    return cards[0].read_text(encoding="utf-8") if cards else None


def _folder() -> Path | None:
    return next((folder for folder in _FOLDERS if folder.is_dir()), None)


def _file(path: Path) -> WeightsFile:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return WeightsFile(path.stem, str(path), digest, len(content) / 1e6)
