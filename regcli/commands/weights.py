"""The weights that come with regcli, wherever it runs from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parents[1]
# a wheel carries them inside the package, a checkout beside it
_FOLDERS = (_HERE / "_weights", _HERE.parent / "weights")


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    Attributes:
        name: By which `--weights` knows it.
        path: Of the safetensors file.
        sha256: Of its bytes, in hexadecimal.
        megabytes: Its size.
    """

    name: str
    path: str
    sha256: str
    megabytes: float


def shipped() -> list[Weights]:
    """Every file of weights that comes with this installation, by name."""
    folder = next((f for f in _FOLDERS if f.is_dir()), None)
    files = sorted(folder.glob("*.safetensors")) if folder else []
    return [_weights(path) for path in files]


def _weights(path: Path) -> Weights:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Weights(path.stem, str(path), digest, len(content) / 1e6)
