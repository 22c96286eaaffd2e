"""Image files to test with, written by nibabel or byte by byte, and what refusing one means."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from regcli.errors import InputError
from regcli.image import Space, Storage
from regcli.io.images import read_image

INT16 = Storage("int16")
FORMATS = (".nii", ".nii.gz", ".mha", ".nrrd", ".mgz")


def rotation(*angles: float) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[[i, i, j, j], [i, j, i, j]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        matrix = turn @ matrix
    return matrix


def space(shape: tuple[int, ...], affine: np.ndarray | None = None) -> Space:
    i, j, k = shape
    return Space((i, j, k), torch.from_numpy(np.eye(4) if affine is None else affine.copy()))


def affine_of(linear: np.ndarray, origin: tuple[float, ...] = (-11.5, 7.25, 30.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, origin
    return affine


GRIDS = {
    "ras": ((6, 5, 4), affine_of(np.eye(3))),
    "las": ((6, 5, 4), affine_of(np.diag((-1.0, 1, 1)))),
    "lps": ((6, 5, 4), affine_of(np.diag((-1.0, -1, 1)))),
    "oblique": ((6, 5, 4), affine_of(rotation(0.3, -0.5, 0.2) * (1, 1.5, 2))),
    "left-handed oblique": ((6, 5, 4), affine_of(rotation(0.3, 0.5, 0.2) * (-1, 1.5, 2))),
    "anisotropic": ((6, 5, 4), affine_of(np.diag((0.4, 0.9, 5.0)))),
    "odd": ((7, 13, 3), affine_of(rotation(0.1, 0, 0.7) * (1.1, 0.7, 3))),
}


def numbers(shape: tuple[int, ...], dtype: type = np.int16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape, order="C").astype(dtype)


def save(
    path: Path, voxels: np.ndarray, affine: np.ndarray | None = None, **fields: object
) -> Path:
    """A NIfTI file by nibabel, with header fields overwritten."""
    image = nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine, dtype=voxels.dtype)
    image.header["qform_code"], image.header["vox_offset"] = 0, 352
    for key, value in fields.items():
        if key == "pixdim":
            image.header["pixdim"][1 : 1 + len(value)] = value
        else:
            image.header[key] = value
    raw = image.header.binaryblock + b"\0" * 4 + np.asarray(voxels).tobytes(order="F")
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def header_bytes(path: Path, edit: dict[str, object]) -> Path:
    """Overwrite fields that nibabel refuses to write."""
    raw = bytearray(path.read_bytes())
    fields = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in edit.items():
        fields[key] = value
    raw[:348] = fields.binaryblock
    path.write_bytes(raw)
    return path


def refused(path: Path, words: str, **options: object) -> InputError:
    with pytest.raises(InputError) as caught:
        read_image(path, **options)
    error = caught.value
    assert error.code == 3
    assert str(path) in error.cause
    assert "\n" not in error.cause + error.remedy
    assert error.remedy
    assert words in error.cause, error.cause
    return error


def itk_affine(image: sitk.Image) -> np.ndarray:
    """The RAS affine by ITK's own arithmetic, one corner after the other."""
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    points = [image.TransformContinuousIndexToPhysicalPoint([float(v) for v in c]) for c in corners]
    points = np.array(points) * (-1, -1, 1)
    return affine_of((points[1:] - points[0]).T, tuple(points[0]))
