"""Codec: how the files of one image format are read and written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regcli.errors import InputError
from regcli.image import Image
from regcli.io import files
from regcli.io.header import Header

Decoder = Callable[[bytes, Path], "Layout"]


@dataclass(frozen=True)
class Codec:
    """A format of image files.

    Attributes:
        read_header: The checked header, without the voxels. Raises InputError.
        read: Header, all stored values flat with I fastest, SHA-256 of the file or files. Raises
            InputError.
        write: Writes an image in the type and scaling of its storage, or in the next wider one
            that the format has. Raises OutputError. None for a format that is only read.
    """

    read_header: Callable[[Path], Header]
    read: Callable[[Path], tuple[Header, np.ndarray, str]]
    write: Callable[[Image, Path], None] | None = None


@dataclass(frozen=True, eq=False)
class Layout:
    """The layout of voxels in a file's decompressed bytes, I fastest.

    Attributes:
        header: The checked header.
        dtype: With byte order.
        offset: Bytes before the first voxel.
    """

    header: Header
    dtype: np.dtype
    offset: int

    def voxels(self, raw: bytes) -> np.ndarray:
        """All stored values, flat, of all frames.

        Raises:
            InputError: If there are fewer than the header says.
        """
        i, j, k = self.header.space.shape
        count = i * j * k * self.header.frames
        need = count * self.dtype.itemsize
        if len(raw) < self.offset + need:
            have = max(0, len(raw) - self.offset)
            raise InputError(
                f"{self.header.path} is cut short: {have} of {need} bytes of voxels are there.",
                "Copy or download the file again.",
            )
        return np.frombuffer(raw, self.dtype, count, self.offset)


def header_of(path: Path, decode: Decoder, size: int) -> Header:
    """The header that the first `size` bytes of a file hold."""
    return decode(files.read_start(path, size), path).header


def read_by(path: Path, decode: Decoder) -> tuple[Header, np.ndarray, str]:
    """Read a file by the layout of its bytes; see `Codec.read`."""
    raw, digest = files.read_whole(path)
    layout = decode(raw, path)
    return layout.header, layout.voxels(raw), digest


def write_bytes(raw: bytes, path: Path) -> None:
    """Write a file, compressed if its name says so; its bytes depend on `raw` alone."""
    parts = files.compressed([raw]) if files.is_compressed(path) else [raw]
    with path.open("wb") as file:
        file.writelines(parts)
