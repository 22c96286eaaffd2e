"""Images from files and back: NIfTI, MGH, MetaImage and NRRD, every defect named."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regcli.errors import InputError, OutputError, RecipeError
from regcli.image import Image, Space, Storage
from regcli.io import files, itk, metaimage
from regcli.io import nifti as formats
from regcli.io.header import Header

_NIFTI = (".nii", ".nii.gz")
_MGH = (".mgh", ".mgz", ".mgh.gz")
_META = (".mha", ".mhd")
_NRRD = (".nrrd", ".nhdr")
_READABLE = (*_NIFTI, *_MGH, *_META, *_NRRD)
_WIDER = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}  # torch can not index these
_MGH_TYPES = ("uint8", "int16", "int32", "float32")
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
    kind = _known(path)
    if kind in _META:
        return metaimage.read_meta_header(path)
    if kind in _NRRD:
        return itk.read_nrrd_header(path)
    decode = formats.decode_nifti if kind in _NIFTI else formats.decode_mgh
    return decode(files.read_start(path, formats.HEADER_BYTES), path).header


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
    header, values, digest = _load(path)
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
        path: .nii, .nii.gz, .mgh, .mgz, .mha or .nrrd.

    Raises:
        OutputError: If the format is none of these or cannot hold the values.
    """
    path = Path(path)
    kind = files.extension(path)
    affine = image.space.affine.numpy()
    if kind in _NIFTI:
        voxels = _channels_last(_stored(image.data, image.storage))
        raw = formats.encode_nifti(voxels, affine, image.storage)
    elif kind in _MGH:
        storage = _mgh_storage(image, path)
        raw = formats.encode_mgh(_channels_last(_stored(image.data, storage)), affine)
    elif kind in (".mha", ".nrrd"):
        itk.write_itk(path, _stored(image.data, _unscaled(image.storage)), affine)
        return
    else:
        raise OutputError(
            f"{path} cannot be written: {kind or 'no ending'} is not a format for images.",
            "End its name in .nii.gz, .nii, .mgz, .mgh, .mha or .nrrd.",
        )
    if kind not in (".nii", ".mgh"):
        raw = b"".join(files.compressed([raw]))
    path.write_bytes(raw)


def write_stored(voxels: Tensor, space: Space, storage: Storage, path: Path) -> None:
    """Write values that are scaled already, without a wider copy of them in memory.

    Args:
        voxels: (C, I, J, K) as they are to be stored.
        space: Their grid.
        storage: What they mean.
        path: .nii or .nii.gz.
    """
    values = voxels.detach().cpu().numpy()
    assert files.extension(path) in _NIFTI and values.dtype == np.dtype(storage.dtype)
    raw = formats.encode_nifti(_channels_last(values), space.affine.numpy(), storage)
    with path.open("wb") as file:
        file.writelines(files.compressed([raw]) if path.suffix == ".gz" else [raw])


def _load(path: Path) -> tuple[Header, np.ndarray, str]:
    """Header, all stored values flat with I fastest, SHA-256."""
    kind = _known(path)
    if kind in _META:
        return metaimage.read_meta(path)
    if kind in _NRRD:
        return itk.read_nrrd(path)
    raw, digest = files.read_whole(path)
    layout = (formats.decode_nifti if kind in _NIFTI else formats.decode_mgh)(raw, path)
    return layout.header, layout.voxels(raw), digest


def _known(path: Path) -> str:
    """The file's extension, once it is one that can be read."""
    kind = files.extension(path)
    if kind not in _READABLE:
        files.open_input(path).close()
        raise InputError(
            f"{path} has an unknown image format ({kind or 'no ending'}).",
            f"Convert it to one of {', '.join(_READABLE)}.",
        )
    return kind


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
        return _intensities(values[0], storage, path), storage
    if frame is None:
        raise InputError(
            f"{path} is 4-D: it holds {count} volumes.", "Pick one by --frame N, or --frame mean."
        )
    if frame == "mean":
        total = torch.zeros(values.shape[1:], dtype=torch.float64)
        for volume in values:
            total += _intensities(volume, storage, path)
        return (total / count).to(torch.float32), Storage()
    if not 0 <= int(frame) < count:
        raise InputError(
            f"{path} has no frame {frame}: it holds {count} volumes.",
            f"Give --frame 0 to {count - 1}, or --frame mean.",
        )
    return _intensities(values[int(frame)], storage, path), storage


def _intensities(volume: np.ndarray, storage: Storage, path: Path) -> Tensor:
    """Stored values as integers if there is no scaling, else as float32."""
    scaled = (storage.slope, storage.intercept) != (1.0, 0.0)
    if volume.dtype.kind == "f" or scaled:
        result = np.empty(volume.shape, np.float32)
        with np.errstate(over="ignore"):  # becomes infinite, and is reported as such
            for plane, out in zip(volume, result, strict=True):
                out[:] = plane * np.float64(storage.slope) + storage.intercept if scaled else plane
        return torch.from_numpy(result)
    if volume.dtype == np.uint64 and volume.max() > np.iinfo(np.int64).max:
        raise InputError(f"{path} holds integers beyond 2^63.", "Store it as float32.")
    native = _WIDER.get(volume.dtype.name, volume.dtype.newbyteorder("="))
    return torch.from_numpy(volume.astype(native))


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


def _stored(data: Tensor, storage: Storage) -> np.ndarray:
    """(C, I, J, K) intensities as they are stored."""
    values, dtype = data.detach().cpu().numpy(), np.dtype(storage.dtype)
    if (storage.slope, storage.intercept) != (1.0, 0.0):
        values = (values.astype(np.float64) - storage.intercept) / storage.slope
    if dtype.kind == "f":
        return values.astype(dtype)
    info = np.iinfo(dtype)
    if values.dtype.kind in "iu":
        bounds = np.iinfo(values.dtype.name)
        return values.clip(max(info.min, bounds.min), min(info.max, bounds.max)).astype(dtype)
    if dtype.itemsize > 2:
        values = values.astype(np.float64)
    top = float(info.max) if int(float(info.max)) <= info.max else np.nextafter(float(info.max), 0)
    return np.rint(values).clip(float(info.min), top).astype(dtype)


def _channels_last(voxels: np.ndarray) -> np.ndarray:
    return voxels[0] if len(voxels) == 1 else np.moveaxis(voxels, 0, -1)


def _unscaled(storage: Storage) -> Storage:
    """The storage for a format without slope and intercept, nor floats of 16 or 128 bits."""
    scaled = (storage.slope, storage.intercept) != (1.0, 0.0)
    return Storage("float32" if scaled or storage.dtype.startswith("float1") else storage.dtype)


def _mgh_storage(image: Image, path: Path) -> Storage:
    """The narrowest MGH type that holds the image's own."""
    dtype = np.dtype(_unscaled(image.storage).dtype)
    if dtype.kind == "f":
        return Storage("float32")
    for name in _MGH_TYPES[:3]:
        if np.can_cast(dtype, name):
            return Storage(name)
    low, high = (value.item() for value in image.data.aminmax())
    if max(-low, high) < 2**31:
        return Storage("int32")
    raise OutputError(f"{path}: MGH cannot hold values up to {high:g}.", "Write .nii.gz instead.")
