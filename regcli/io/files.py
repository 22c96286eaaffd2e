"""Input files before their format matters: whether they are there, whole, and what they claim."""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from isal import igzip, isal_zlib

from regcli.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_DOUBLE = (".nii.gz", ".mgh.gz")
_COMPRESSED = (*_DOUBLE, ".mgz")
_FETCH = "Copy or download the file again."


def extension(path: Path) -> str:
    """The file's ending in lower case, ".nii.gz" as one."""
    name = path.name.lower()
    return next((e for e in _DOUBLE if name.endswith(e)), path.suffix.lower())


def is_compressed(path: Path) -> bool:
    """Whether the file's name says that its bytes are a gzip stream."""
    return extension(path) in _COMPRESSED


def default_name(fixed: Path, moving: Path) -> str:
    """The folder of a result for which nobody gave a name: MOVING_to_FIXED."""
    stems = [path.name[: len(path.name) - len(extension(path))] for path in (moving, fixed)]
    return "_to_".join(stems)


def open_input(path: Path) -> BinaryIO:
    """The file, opened for reading bytes.

    Raises:
        InputError: If it is missing, a folder, empty or not readable.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a file.", "Name the file inside it.")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes).", _FETCH)
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.", "Check the path and its spelling.") from None
    except PermissionError:
        raise InputError(
            f"{path} cannot be read: permission denied.", "Ask for read permission (chmod u+r)."
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None


def read_text(path: Path, remedy: str) -> str:
    """A text file's content.

    Args:
        path: UTF-8, with or without a byte order mark.
        remedy: What to do if it is no text.

    Raises:
        InputError: If it cannot be read, or is no text.
    """
    with open_input(path) as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{path} is not a text file.", remedy)
    return text


def read_whole(path: Path) -> tuple[bytes, str]:
    """The file's bytes, decompressed if its name says so, and the SHA-256 of the file itself.

    Raises:
        InputError: If it cannot be read, is cut short, or is compressed against its name.
    """
    with open_input(path) as file:
        stored = file.read()
    digest = hashlib.sha256(stored).hexdigest()
    _check_compression(path, stored)
    if not is_compressed(path):
        return stored, digest
    try:
        return igzip.decompress(stored), digest
    except EOFError:
        raise InputError(
            f"{path} is cut short, or goes on after its end: {len(stored)} bytes of gzip.", _FETCH
        ) from None
    # isal's stub calls its class of errors an instance
    except (isal_zlib.error, gzip.BadGzipFile) as error:  # pyright: ignore[reportGeneralTypeIssues]
        raise InputError(f"{path} is damaged: {error}.", _FETCH) from None


def compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Bytes as a gzip stream, with neither a name nor a time in it.

    The stream depends on the bytes and the kind of processor alone. isal takes a fifth of zlib's
    time; images take as much space, fields two thirds.
    """
    packer = isal_zlib.compressobj(isal_zlib.ISAL_DEFAULT_COMPRESSION, wbits=31)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()


def read_start(path: Path, size: int) -> bytes:
    """The first `size` bytes, decompressed if the name says so; fewer if there are fewer.

    Raises:
        InputError: If the file cannot be read, or is compressed against its name.
    """
    with open_input(path) as file:
        stored = file.read(max(size, 1 << 16))
    _check_compression(path, stored)
    if not is_compressed(path):
        return stored[:size]
    try:
        return zlib.decompressobj(wbits=31).decompress(stored, size)
    except zlib.error as error:
        raise InputError(f"{path} is damaged: {error}.", _FETCH) from None


def digest_of(*paths: Path) -> str:
    """SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open_input(path) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _check_compression(path: Path, stored: bytes) -> None:
    claimed, found = is_compressed(path), stored.startswith(_GZIP_MAGIC)
    if claimed and not found:
        raise InputError(
            f"{path} is not gzip-compressed, though its name ends in {extension(path)}.",
            "Rename it to what it is, or fetch the file again.",
        )
    if found and not claimed:
        raise InputError(
            f"{path} is gzip-compressed, though its name ends in {extension(path)}.",
            "Add .gz to its name, or decompress it with gunzip.",
        )
