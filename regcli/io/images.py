"""Images from files and back, whatever their format; every defect named."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regcli.errors import InputError, OutputError, RecipeError
from regcli.image import Image, Storage
from regcli.io import files, itk, metaimage, mgh, nifti
from regcli.io.codec import Codec
from regcli.io.header import Header
from regcli.io.voxels import intensities

# The formats of images, by the endings of their files, as messages list them.
FORMATS: Mapping[str, Codec] = {
    ".nii": nifti.CODEC,
    ".nii.gz": nifti.CODEC,
    ".mgh": mgh.CODEC,
    ".mgz": mgh.CODEC,
    ".mgh.gz": mgh.CODEC,
    ".mha": metaimage.CODEC,
    ".mhd": replace(metaimage.CODEC, write=None),
    ".nrrd": itk.CODEC,
    ".nhdr": replace(itk.CODEC, write=None),
}
# Parcellations have up to some thousand codes, and structures of several voxels each; a scan of
# integers has hundreds of values, of which in a head every tenth goes on in the next voxel.
_STRUCTURES, _ALIKE = 150, 0.3


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image and the file it came from.

    Attributes:
        image: (1, I, J, K) and its grid.
        path: The file.
        sha256: Of the file's bytes, in hexadecimal.
        warnings: What was odd in the header but could be settled.
    """

    image: Image
    path: Path
    sha256: str
    warnings: tuple[str, ...]


def read_header(path: str | Path) -> Header:
    """The checked header of an image file, without its voxels.

    Raises:
        InputError: If the file is missing, damaged, not an image, or its grid is degenerate.
    """
    path = Path(path)
    return _codec(path).read_header(path)


def read_image(
    path: str | Path,
    *,
    labels: bool = False,
    constant: bool = False,
    frame: int | str | None = None,
) -> ImageFile:
    """A scalar image, 2-D or 3-D, from a file.

    Args:
        path: NIfTI, MGH/MGZ, MetaImage or NRRD.
        labels: The values are codes: they must be integers, and come as such.
        constant: All voxels may be the same, as in a mask; what is registered must differ.
        frame: Which volume of a 4-D file, from 0, or "mean"; not used if there is only one.

    Returns:
        The image; integers if stored so without a slope, else float32.

    Raises:
        InputError: If the file is missing, damaged, not a scalar image, or its grid or its
            values cannot be used.
        RecipeError: If `frame` is neither a number nor "mean".
    """
    path = Path(path)
    header, values, digest = _codec(path).read(path)
    i, j, k = header.space.shape
    data, storage = _one_frame(header, values.reshape(header.frames, k, j, i), frame)
    data = data.permute(2, 1, 0).contiguous()[None]  # (1, I, J, K)
    data = _checked(data, path, labels=labels, constant=constant)
    return ImageFile(Image(data, header.space, labels, storage), path, digest, header.warnings)


def write_image(image: Image, path: str | Path) -> None:
    """Write an image in the type and scaling of its storage; (C, I, J, K) with C > 1 as 4-D.

    Integers are rounded and clipped to their type. A type or a scaling that the format lacks is
    replaced by the next wider type. Compressed bytes depend on the voxels and the header alone.

    Args:
        image: What to write.
        path: Its ending names the format: .nii, .nii.gz, .mgh, .mgz, .mha or .nrrd.

    Raises:
        OutputError: If the format is none of these or cannot hold the values.
    """
    path = Path(path)
    kind = files.extension(path)
    codec = FORMATS.get(kind)
    if codec is None or codec.write is None:
        *most, last = (ending for ending, codec in FORMATS.items() if codec.write is not None)
        raise OutputError(
            f"{path} cannot be written: {kind or 'no ending'} is not a format for images.",
            f"End its name in {', '.join(most)} or {last}.",
        )
    codec.write(image, path)


def _codec(path: Path) -> Codec:
    """The file's format, once it is one that can be read."""
    kind = files.extension(path)
    if kind not in FORMATS:
        files.open_input(path).close()
        raise InputError(
            f"{path} has an unknown image format ({kind or 'no ending'}).",
            f"Convert it to one of {', '.join(FORMATS)}.",
        )
    return FORMATS[kind]


def _one_frame(
    header: Header, values: np.ndarray, frame: int | str | None
) -> tuple[Tensor, Storage]:
    """One volume (K, J, I) of (T, K, J, I) stored values, as intensities."""
    if isinstance(frame, str) and frame != "mean":
        if not frame.isdecimal():
            raise RecipeError(f"--frame {frame} is not a frame.", "Give a number from 0, or mean.")
        frame = int(frame)
    count, path, storage = header.frames, header.path, header.storage
    if count == 1:
        return intensities(values[0], storage, path), storage
    if frame is None:
        raise InputError(
            f"{path} is 4-D: it holds {count} volumes.", "Pick one by --frame N, or --frame mean."
        )
    if frame == "mean":
        total = torch.zeros(values.shape[1:], dtype=torch.float64)
        for volume in values:
            total += intensities(volume, storage, path)
        return (total / count).to(torch.float32), Storage()
    if not 0 <= int(frame) < count:
        raise InputError(
            f"{path} has no frame {frame}: it holds {count} volumes.",
            f"Give --frame 0 to {count - 1}, or --frame mean.",
        )
    return intensities(values[int(frame)], storage, path), storage


def _checked(data: Tensor, path: Path, *, labels: bool, constant: bool) -> Tensor:
    """The same values, usable; integers if they are labels."""
    if data.is_floating_point():
        bad = data.numel() - int(torch.isfinite(data).sum())
        if bad:
            raise InputError(
                f"{path} holds {bad} of {data.numel()} voxels that are NaN, infinite or "
                "beyond float32.",
                "Replace them by the background value.",
            )
    low, high = (value.item() for value in data.aminmax())
    if not labels and not constant and low == high:
        raise InputError(
            f"{path} is constant: every voxel is {low:g}.", "Give an image that shows something."
        )
    if not labels:
        return data
    if low == high == 0:
        raise InputError(f"{path} holds no labels: every voxel is 0.", "Check the file.")
    if data.is_floating_point() and not bool((data == data.round()).all()):
        raise InputError(
            f"{path} holds fractions, so it is no label image.",
            "Give a file of integers; resample labels with nearest or label interpolation.",
        )
    if _restless(data):
        raise InputError(
            f"{path} holds intensities, it seems: hundreds of values, and neighbours differ.",
            "Give a label image: an integer code for each structure.",
        )
    if not data.is_floating_point():
        return data
    return data.to(torch.int32 if max(-low, high) < 2**31 else torch.int64)


def _restless(data: Tensor) -> bool:
    """Whether values are too many, and too few of them go on in the next voxel, for structures."""
    axis = 1 + max(range(3), key=lambda n: data.shape[1 + n])
    count = data.shape[axis] - 1
    here, there = data.narrow(axis, 0, count), data.narrow(axis, 1, count)
    shown = here != 0
    if int((shown & (here == there)).sum()) >= _ALIKE * int(shown.sum()):
        return False
    return len(data.unique()) > _STRUCTURES
