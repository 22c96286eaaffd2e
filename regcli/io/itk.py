"""NRRD in, MetaImage and NRRD out by SimpleITK, whose world is LPS: it is turned to RAS here."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regcli.errors import InputError, OutputError
from regcli.image import Image, Storage
from regcli.io.codec import Codec
from regcli.io.files import digest_of, open_input
from regcli.io.header import LPS, Header, check_spacing, make_header
from regcli.io.voxels import stored, unscaled

_TYPES = {
    sitk.sitkUInt8: "uint8",
    sitk.sitkInt8: "int8",
    sitk.sitkUInt16: "uint16",
    sitk.sitkInt16: "int16",
    sitk.sitkUInt32: "uint32",
    sitk.sitkInt32: "int32",
    sitk.sitkUInt64: "uint64",
    sitk.sitkInt64: "int64",
    sitk.sitkFloat32: "float32",
    sitk.sitkFloat64: "float64",
}
_COMPLEX = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)
_VECTORS = (sitk.sitkVectorFloat32, sitk.sitkVectorFloat64)


def read_header(path: Path) -> Header:
    """See Codec."""
    return _header(path, _reader(path))


def read(path: Path) -> tuple[Header, np.ndarray, str]:
    """See Codec."""
    reader = _reader(path)
    header = _header(path, reader)
    with translated(path):
        image = reader.Execute()
    return header, sitk.GetArrayFromImage(image).ravel(), digest_of(path, *_detached(path))


def write(image: Image, path: Path) -> None:
    """See Codec; MetaImage or NRRD, compressed."""
    voxels = stored(image.data, unscaled(image.storage))
    file = sitk.GetImageFromArray(
        np.ascontiguousarray(voxels.transpose(3, 2, 1, 0) if len(voxels) > 1 else voxels[0].T),
        isVector=len(voxels) > 1,
    )
    affine = LPS @ image.space.affine.numpy()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    file.SetSpacing(spacing.tolist())
    file.SetOrigin(affine[:3, 3].tolist())
    file.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    try:
        sitk.WriteImage(file, str(path), useCompression=True, compressionLevel=1)
    except RuntimeError as error:
        raise OutputError(
            f"{path} cannot be written: {last_line(error)}.", "Check the folder and its disk."
        ) from None


def _reader(path: Path) -> sitk.ImageFileReader:
    """A reader that knows the header."""
    with open_input(path) as file:
        if file.read(4) != b"NRRD":
            raise InputError(f"{path} is not a NRRD file.", "Check what the file is.")
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO")
    reader.SetFileName(str(path))
    with translated(path):
        reader.ReadImageInformation()
    return reader


def _header(path: Path, reader: sitk.ImageFileReader) -> Header:
    n, shape = reader.GetDimension(), reader.GetSize()
    kind, channels = reader.GetPixelID(), reader.GetNumberOfComponents()
    if kind not in _TYPES:
        found = f"{channels} values per voxel" if channels > 1 else "no real numbers"
        if kind in _COMPLEX:
            found = "complex numbers"
        elif kind in _VECTORS and channels == n:
            found = "a displacement field"
        raise InputError(
            f"{path} holds {found}, not an image.", "Give an image with one number per voxel."
        )
    check_spacing(path, reader.GetSpacing()[:3])
    used = min(n, 3)
    affine = np.zeros((4, 4))
    direction = np.reshape(reader.GetDirection(), (n, n))
    affine[:used, :used] = (direction * reader.GetSpacing())[:used, :used]
    affine[:used, 3] = reader.GetOrigin()[:used]
    affine[3, 3] = 1
    return make_header(path, shape, affine=LPS @ affine, storage=Storage(_TYPES[kind]))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """ITK prints no warnings, and what it raises becomes an InputError."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot be read, it may be damaged: {last_line(error)}.",
            "Copy or download the file again.",
        ) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def last_line(error: RuntimeError) -> str:
    """The last line of an error, without ITK's addresses and line numbers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no reason given"


def _detached(path: Path) -> list[Path]:
    """The file that holds the voxels, where the header names one."""
    with open_input(path) as file:
        text = file.read(1 << 16).split(b"\n\n")[0].decode("latin-1")
    found = re.search(r"^data ?file:\s*(\S+)\s*$", text, re.M | re.I)
    return [path.parent / found[1]] if found and found[1].upper() != "LIST" else []


CODEC = Codec(read_header, read, write)
