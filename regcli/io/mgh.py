"""FreeSurfer's MGH as bytes; files that state no orientation are coronal, as FreeSurfer has it."""

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from regcli.errors import InputError, OutputError
from regcli.image import Image, Storage
from regcli.io.codec import Codec, Layout, header_of, read_by, write_bytes
from regcli.io.header import Header, check_spacing, make_header
from regcli.io.voxels import channels_last, stored, unscaled

_START = 284
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_WRITTEN = ("uint8", "int16", "int32")
_CONVERT = "Check what the file is, and convert it to NIfTI."


def read_header(path: Path) -> Header:
    """See Codec."""
    return header_of(path, decode, _START)


def read(path: Path) -> tuple[Header, np.ndarray, str]:
    """See Codec."""
    return read_by(path, decode)


def write(image: Image, path: Path) -> None:
    """See Codec."""
    voxels = channels_last(stored(image.data, _storage(image, path)))
    affine = image.space.affine.numpy()
    file = nib.MGHImage(voxels, affine)  # pyright: ignore[reportArgumentType]
    write_bytes(file.to_bytes(), path)


def decode(raw: bytes, path: Path) -> Layout:
    """The layout of a FreeSurfer MGH from its first 284 bytes or more.

    Raises:
        InputError: If it is none, or its grid is degenerate.
    """
    if len(raw) < _START or raw[:4] != b"\0\0\0\1":
        raise InputError(f"{path} is not a FreeSurfer MGH file.", _CONVERT)
    fields = MGHHeader(raw[:_START], check=False)
    code = int(fields["type"])
    if code not in _TYPES:
        raise InputError(f"{path} has voxels of an unknown MGH type ({code}).", _CONVERT)
    shape = [int(n) for n in fields["dims"]]
    check_spacing(path, fields["delta"].tolist())
    warnings = []
    if not int.from_bytes(raw[28:30], "big"):  # goodRASFlag
        warnings.append(f"{path} states no orientation; FreeSurfer's coronal default is used.")
    dtype = np.dtype(_TYPES[code])
    with np.errstate(all="ignore"):  # what is not finite is refused below
        affine = np.array(fields.get_affine(), np.float64)
    storage = Storage(dtype.name)
    header = make_header(path, shape, affine=affine, storage=storage, warnings=warnings)
    return Layout(header, dtype, _START)


def _storage(image: Image, path: Path) -> Storage:
    """The narrowest MGH type that holds the image's own."""
    dtype = np.dtype(unscaled(image.storage).dtype)
    if dtype.kind == "f":
        return Storage("float32")
    for name in _WRITTEN:
        if np.can_cast(dtype, name):
            return Storage(name)
    low, high = (value.item() for value in image.data.aminmax())
    if max(-low, high) < 2**31:
        return Storage("int32")
    raise OutputError(f"{path}: MGH cannot hold values up to {high:g}.", "Write .nii.gz instead.")


CODEC = Codec(read_header, read, write)
