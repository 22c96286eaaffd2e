"""MetaImage; read without ITK, whose reader prints to the terminal and lets damaged voxels pass."""

import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from regcli.errors import InputError
from regcli.image import Storage
from regcli.io import itk
from regcli.io.codec import Codec
from regcli.io.files import digest_of, open_input
from regcli.io.header import LPS, Header, check_spacing, make_header

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN = ("Offset", "Position", "Origin")
_SPACING = ("ElementSpacing", "ElementSize")
_HEADER_LIMIT = 1 << 16
_FETCH = "Copy or download the file again."
_CONVERT = "Save it again as one .mha or .nii.gz file."

Fields = Mapping[str, str]


def read_header(path: Path) -> Header:
    """See Codec."""
    return _header(path, _fields(path)[0])


def read(path: Path) -> tuple[Header, np.ndarray, str]:
    """See Codec."""
    fields, start = _fields(path)
    header = _header(path, fields)
    stored, files = _stored(path, fields, start)
    i, j, k = header.space.shape
    count = i * j * k * header.frames
    if not _true(fields, "BinaryData", default=True):
        return header, _ascii(path, stored, count, _type(fields)), digest_of(*files)
    need = count * _type(fields).itemsize
    if len(stored) < need:
        raise InputError(
            f"{path} is cut short: {len(stored)} of {need} bytes of voxels are there.", _FETCH
        )
    return header, np.frombuffer(stored, _type(fields), count), digest_of(*files)


def _fields(path: Path) -> tuple[Fields, int]:
    """The text header, and its length in bytes."""
    with open_input(path) as file:
        start = file.read(_HEADER_LIMIT)
    end = re.search(rb"^ElementDataFile[ \t]*=.*(\n|\Z)", start, re.M)
    if not end:
        raise InputError(f"{path} is not a MetaImage file.", "Check what the file is.")
    lines = start[: end.end()].decode("latin-1").splitlines()
    pairs = (line.partition("=") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}, end.end()


def _header(path: Path, fields: Fields) -> Header:
    try:
        n = int(fields["NDims"])
        shape = [int(value) for value in fields["DimSize"].split()]
        channels = int(fields.get("ElementNumberOfChannels", "1"))
        if len(shape) != n or not 2 <= n <= 5:
            raise ValueError(f"NDims = {n}, DimSize = {fields['DimSize']}")
        spacing = _floats(fields, _SPACING, np.ones(n))
        origin = _floats(fields, _ORIGIN, np.zeros(n))
        axes = _floats(fields, _MATRIX, np.eye(n).ravel()).reshape(n, n)  # one row per axis
        dtype = _type(fields)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} has an unusable MetaImage header: {error}.", "Correct the header."
        ) from None
    if channels != 1:
        field = channels == n and dtype.kind == "f"
        found = "a displacement field" if field else f"{channels} values per voxel"
        raise InputError(
            f"{path} holds {found}, not an image.", "Give an image with one number per voxel."
        )
    check_spacing(path, spacing[:3].tolist())
    used = min(n, 3)
    affine = np.zeros((4, 4))
    affine[:used, :used] = (axes.T * spacing)[:used, :used]
    affine[:used, 3] = origin[:used]
    affine[3, 3] = 1
    return make_header(path, shape, affine=LPS @ affine, storage=Storage(dtype.name))


def _floats(fields: Fields, keys: tuple[str, ...], default: np.ndarray) -> np.ndarray:
    """The numbers of the first key that is there."""
    key = next((key for key in keys if key in fields), "")
    if not key:
        return default
    numbers = np.array([float(value) for value in fields[key].split()])
    if numbers.shape != default.shape:
        raise ValueError(f"{key} = {fields[key]}")
    return numbers


def _type(fields: Fields) -> np.dtype:
    name = fields["ElementType"].removesuffix("_ARRAY")
    if name not in _TYPES:
        raise ValueError(f"ElementType = {name}")
    swapped = _true(fields, "BinaryDataByteOrderMSB") or _true(fields, "ElementByteOrderMSB")
    return np.dtype(f"{'>' if swapped else '<'}{_TYPES[name]}")


def _true(fields: Fields, key: str, *, default: bool = False) -> bool:
    return fields.get(key, str(default))[:1] in ("T", "t", "1")


def _stored(path: Path, fields: Fields, start: int) -> tuple[bytes, list[Path]]:
    """The voxels' bytes, decompressed, and the files that hold the image."""
    name = fields["ElementDataFile"]
    local = name.upper() == "LOCAL"
    if not name or name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path} keeps its slices in separate files ({name}).", _CONVERT)
    source = path if local else path.parent / name
    with open_input(source) as file:
        file.seek(start if local else 0)
        stored = file.read()
    skip = fields.get("HeaderSize", "0")
    if skip.isdecimal():
        stored = stored[int(skip) :]
    elif skip == "-1":
        stored = stored[-math.prod(map(int, fields["DimSize"].split())) * _type(fields).itemsize :]
    if _true(fields, "CompressedData"):
        stored = _decompressed(source, stored)
    return stored, [path] if local else [path, source]


def _decompressed(path: Path, stored: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=47)  # zlib or gzip
    try:
        voxels = stream.decompress(stored)
    except zlib.error as error:
        raise InputError(f"{path} is damaged: {error}.", _FETCH) from None
    if not stream.eof:
        raise InputError(f"{path} is cut short: its compressed voxels end early.", _FETCH)
    return voxels


def _ascii(path: Path, stored: bytes, count: int, dtype: np.dtype) -> np.ndarray:
    try:
        values = np.array(stored.split()[:count], np.float64)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}.", _FETCH) from None
    if len(values) < count:
        raise InputError(f"{path} is cut short: {len(values)} of {count} voxels.", _FETCH)
    return values.astype(dtype)


CODEC = Codec(read_header, read, itk.write)
