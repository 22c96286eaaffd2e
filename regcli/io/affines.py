"""Linear transforms in ITK's files (LPS mm) and as RAS matrices, both fixed to moving world.

A plain text file of 4x4 numbers is taken as a RAS mm matrix from fixed to moving world, as greedy,
c3d_affine_tool and NiftyReg write it. FSL's flirt writes the same shape with another meaning,
which depends on both images; its spacing gives it away, and it is refused.
"""

import re
import threading
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from regcli.errors import InputError, OutputError
from regcli.io.files import extension, open_input
from regcli.io.header import LPS
from regcli.io.itk import last_line, translated

TRANSFORM_FILES = (".mat", ".tfm", ".txt", ".h5", ".hdf5", ".xfm")
_WRITABLE = (".mat", ".tfm", ".txt")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_FLIRT_ROW = re.compile(r"(\S+  ){4}")
_PLAIN_BYTES = 4096
HDF5_LOCK = threading.Lock()  # the library inside SimpleITK is not safe for threads
_CHECK = "Check what the file is; transforms are ITK .mat, .tfm, .txt or .h5 files."


def write_affine(matrix: Tensor, path: str | Path, *, centre: Tensor | None = None) -> None:
    """Write a linear transform as ITK and ANTs do (0GenericAffine.mat).

    Args:
        matrix: (4, 4) float64, RAS mm, fixed to moving world.
        path: .mat (MATLAB 4), .tfm or .txt.
        centre: (3,) RAS mm, the point that the stored translation refers to; default the origin.
            The map is the same whatever it is.

    Raises:
        OutputError: If the format is none of these, or the file cannot be written.
    """
    path = Path(path)
    if extension(path) not in _WRITABLE:
        raise OutputError(
            f"{path} cannot be written: {extension(path) or 'no ending'} is no format for an"
            " affine.",
            f"End its name in one of {', '.join(_WRITABLE)}.",
        )
    write_transform(to_itk(matrix, centre=centre), path)


def read_affine(path: str | Path) -> Tensor:
    """A linear transform from a file of any kind that ITK reads, or a plain 4x4 text file.

    Returns:
        (4, 4) float64, RAS mm, fixed to moving world.

    Raises:
        InputError: If the file cannot be read, is not linear, or cannot be inverted.
    """
    path = Path(path)
    plain = read_plain(path)
    if plain is not None:
        return plain
    return from_itk(read_transform(path), path)


def read_plain(path: Path) -> Tensor | None:
    """The RAS matrix of a plain 4x4 text file; None if the file is something else.

    Raises:
        InputError: If the file is missing, or its matrix is not an invertible affine of RAS mm.
    """
    with open_input(path) as file:
        text = file.read(_PLAIN_BYTES + 1).decode("latin-1")
    rows = [line for line in text.splitlines() if line.strip()]
    try:
        numbers = [[float(word) for word in row.split()] for row in rows]
    except ValueError:
        return None
    if [len(row) for row in numbers] != [4, 4, 4, 4]:
        return None
    if numbers[3] != [0, 0, 0, 1]:
        raise InputError(
            f"{path} is a 4x4 matrix whose last row is not 0 0 0 1.", "Check what the file is."
        )
    if all(_FLIRT_ROW.fullmatch(row) for row in rows):
        raise InputError(
            f"{path} looks like a matrix of FSL's flirt, whose meaning depends on both images.",
            "Convert it: c3d_affine_tool -ref FIXED -src MOVING FILE -fsl2ras -oitk affine.tfm.",
        )
    return checked(torch.tensor(numbers, dtype=torch.float64), path)


def is_hdf5(path: Path) -> bool:
    """Whether a transform file is HDF5 by its name.

    Raises:
        InputError: If its name is no transform file's, or says HDF5 where the content does not.
    """
    kind = extension(path)
    with open_input(path) as file:
        start = file.read(len(_HDF5_MAGIC))
    if kind not in TRANSFORM_FILES:
        raise InputError(f"{path} is no transform file ({kind or 'no ending'}).", _CHECK)
    if kind in (".h5", ".hdf5") and start != _HDF5_MAGIC:
        raise InputError(f"{path} is not an HDF5 file, though its name ends in {kind}.", _CHECK)
    return kind in (".h5", ".hdf5")


def read_transform(path: Path) -> sitk.Transform:
    """The transform of an ITK file, not looked into.

    Raises:
        InputError: If it cannot be read.
    """
    is_hdf5(path)
    with HDF5_LOCK, translated(path):
        return sitk.ReadTransform(str(path))


def write_transform(transform: sitk.Transform, path: Path) -> None:
    """Write an ITK transform in the format that the file's ending names.

    Raises:
        OutputError: If the file cannot be written.
    """
    try:
        with HDF5_LOCK:
            sitk.WriteTransform(transform, str(path))
    except RuntimeError as error:
        raise OutputError(
            f"{path} cannot be written: {last_line(error)}.", "Check the folder and its disk."
        ) from None


def to_itk(matrix: Tensor, *, centre: Tensor | None = None) -> sitk.AffineTransform:
    """The ITK transform (LPS) of a RAS matrix (4, 4) about a RAS point (3,)."""
    lps = LPS @ matrix.numpy() @ LPS
    middle = np.zeros(3) if centre is None else LPS[:3, :3] @ centre.to(torch.float64).numpy()
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetCenter(middle.tolist())
    transform.SetTranslation((lps[:3, 3] + lps[:3, :3] @ middle - middle).tolist())
    return transform


def from_itk(transform: sitk.Transform, path: Path) -> Tensor:
    """The RAS matrix (4, 4) of any linear ITK transform, 2-D or 3-D, by where it takes points.

    Raises:
        InputError: If it is not linear, or cannot be inverted; the message names `path`.
    """
    if not transform.IsLinear():
        raise InputError(
            f"{path} holds a {transform.GetName()}, which is not linear.",
            "Give an affine here; a composite or a displacement field goes to regcli apply -t.",
        )
    n = transform.GetDimension()
    origin = np.array(transform.TransformPoint([0.0] * n))
    columns = [np.array(transform.TransformPoint(axis.tolist())) - origin for axis in np.eye(n)]
    matrix = np.eye(4)
    matrix[:n, :n] = np.stack(columns, axis=1)
    matrix[:n, 3] = origin
    return checked(torch.from_numpy(LPS @ matrix @ LPS), path)


def checked(matrix: Tensor, path: Path) -> Tensor:
    """The matrix, once it is finite and can be inverted.

    Raises:
        InputError: If not; the message names `path`.
    """
    if not bool(matrix.isfinite().all()):
        raise InputError(f"{path} holds numbers that are not finite.", _CHECK)
    scales = torch.linalg.svdvals(matrix[:3, :3])
    if float(scales[2]) <= 1e-9 * float(scales[0]):
        raise InputError(f"{path} holds a singular matrix.", "Check how it was made.")
    return matrix
