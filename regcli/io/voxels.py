"""Intensities as a file stores them, and back."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regcli.errors import InputError
from regcli.image import Storage

_WIDER = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}  # torch can not index these


def intensities(volume: np.ndarray, storage: Storage, path: Path) -> Tensor:
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


def stored(data: Tensor, storage: Storage) -> np.ndarray:
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


def channels_last(voxels: np.ndarray) -> np.ndarray:
    """(C, I, J, K) as (I, J, K), or (I, J, K, C) of several channels."""
    return voxels[0] if len(voxels) == 1 else np.moveaxis(voxels, 0, -1)


def unscaled(storage: Storage) -> Storage:
    """The storage for a format without slope and intercept, nor floats of 16 or 128 bits."""
    scaled = (storage.slope, storage.intercept) != (1.0, 0.0)
    return Storage("float32" if scaled or storage.dtype.startswith("float1") else storage.dtype)
