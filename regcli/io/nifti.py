"""NIfTI as bytes; sform goes before qform before pixdim, the last as LPS, like ITK."""

import struct
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from regcli.errors import InputError
from regcli.image import Image, Space, Storage
from regcli.io.codec import Codec, Layout, header_of, read_by, write_bytes
from regcli.io.header import LPS, Header, check_spacing, corner_gap, make_header
from regcli.io.voxels import channels_last, stored

HEADER_BYTES = 540  # of NIfTI-2, the longest
_TOLERANCE_MM = 0.01
_UNITS_MM = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
_VECTOR_INTENTS = (1006, 1007)
_CONVERT = "Check what the file is, and convert it to NIfTI."


def read_header(path: Path) -> Header:
    """See Codec."""
    return header_of(path, decode, HEADER_BYTES)


def read(path: Path) -> tuple[Header, np.ndarray, str]:
    """See Codec."""
    return read_by(path, decode)


def write(image: Image, path: Path) -> None:
    """See Codec."""
    write_stored(stored(image.data, image.storage), image.space, image.storage, path)


def write_stored(voxels: np.ndarray, space: Space, storage: Storage, path: Path) -> None:
    """Write values that are scaled already.

    Args:
        voxels: (C, I, J, K) as they are to be stored.
        space: Their grid.
        storage: What they mean.
        path: .nii or .nii.gz.
    """
    write_bytes(encode(channels_last(voxels), space.affine.numpy(), storage), path)


def decode(raw: bytes, path: Path) -> Layout:
    """The layout of a single-file NIfTI-1 or NIfTI-2 from its first HEADER_BYTES bytes or more.

    Raises:
        InputError: If it is none, holds no image of numbers, or its grid is degenerate.
    """
    fields = _fields(raw, path)
    shape = _shape(fields, path)
    dtype = _type(fields, path)
    stated = zip(fields["pixdim"][1:4].tolist(), shape, strict=False)
    check_spacing(path, [size for size, voxels in stated if size != 0 or voxels > 1])
    affine, warnings = _affine(fields, (*shape, 1, 1)[:3], path)
    unit, millimetres = _UNITS_MM.get(int(fields["xyzt_units"]) % 8, ("mm", 1.0))
    if unit != "mm":
        affine[:3] *= millimetres
        warnings.append(f"{path} is in {unit}; converted to mm.")
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        slope, intercept = 1.0, 0.0
    storage = Storage(dtype.name, slope, intercept)
    header = make_header(path, shape, affine=affine, storage=storage, warnings=warnings)
    least = fields.single_vox_offset
    offset = float(fields["vox_offset"])
    return Layout(header, dtype, max(int(offset), least) if np.isfinite(offset) else least)


def encode(voxels: np.ndarray, affine: np.ndarray, storage: Storage) -> bytes:
    """A NIfTI-1 file (NIfTI-2 if an axis is longer than 32767), in mm, with sform and qform.

    Args:
        voxels: (I, J, K) or (I, J, K, T), stored values.
        affine: (4, 4) voxel index to RAS+ mm. The qform is left out where it cannot hold it.
        storage: Scaling to state.
    """
    kind = nib.Nifti2Header if max(voxels.shape) > 32767 else nib.Nifti1Header
    fields = kind(endianness="<")
    fields.set_data_shape(voxels.shape)
    fields.set_data_dtype(voxels.dtype)
    fields.set_slope_inter(storage.slope, storage.intercept)
    fields.set_xyzt_units("mm", "sec")
    fields.set_sform(affine, code=1)
    fields.set_qform(affine, code=1)
    if corner_gap(_qform(fields), _sform(fields), voxels.shape[:3]) > _TOLERANCE_MM:
        fields["qform_code"] = 0
    fields["vox_offset"] = kind.single_vox_offset
    start = fields.binaryblock.ljust(kind.single_vox_offset, b"\0")
    return start + voxels.astype(voxels.dtype.newbyteorder("<"), copy=False).tobytes(order="F")


def _fields(raw: bytes, path: Path) -> nib.Nifti1Header:
    for order in "<>":
        size = struct.unpack(f"{order}i", raw[:4].ljust(4, b"\0"))[0]
        if size == 348 and raw[344:348] == b"n+1\0":
            return nib.Nifti1Header(raw[:348], endianness=order, check=False)
        if size == 540 and raw[4:8] == b"n+2\0" and len(raw) >= 540:
            return nib.Nifti2Header(raw[:540], endianness=order, check=False)
    if raw[344:348] == b"ni1\0":
        raise InputError(f"{path} is one half of a NIfTI .hdr/.img pair.", _CONVERT)
    raise InputError(f"{path} is not a NIfTI file: it does not begin like one.", _CONVERT)


def _shape(fields: nib.Nifti1Header, path: Path) -> tuple[int, ...]:
    dimensions = int(fields["dim"][0])
    if not 1 <= dimensions <= 7:
        raise InputError(f"{path} states {dimensions} dimensions.", _CONVERT)
    shape = tuple(int(n) for n in fields["dim"][1 : dimensions + 1])
    vectors = len(shape) == 5 and shape[3] == 1 and shape[4] > 1
    if vectors or (int(fields["intent_code"]) in _VECTOR_INTENTS and len(shape) > 3):
        raise InputError(
            f"{path} is a displacement field ({' x '.join(map(str, shape))}), not an image.",
            "Give an image here; a field goes to regcli apply -t or regcli jacobian.",
        )
    return shape


def _type(fields: nib.Nifti1Header, path: Path) -> np.dtype:
    code = int(fields["datatype"])
    try:
        dtype = np.dtype(fields.get_data_dtype())
    except (HeaderDataError, KeyError):
        dtype = np.dtype("V1")
    if dtype.kind in "iuf":
        return dtype
    found = {128: "colours (RGB)", 2304: "colours (RGBA)"}.get(code, "an unknown kind of voxels")
    raise InputError(
        f"{path} holds {'complex numbers' if dtype.kind == 'c' else found}"
        f" (NIfTI datatype {code}).",
        "Give an image with one real number per voxel.",
    )


def _affine(
    fields: nib.Nifti1Header, shape: tuple[int, ...], path: Path
) -> tuple[np.ndarray, list[str]]:
    if shape[2] == 1 and not fields["pixdim"][3] > 0:
        fields["pixdim"][3] = 1
    if fields["pixdim"][0] != -1:
        fields["pixdim"][0] = 1  # the standard's reading of anything else
    sform = _sform(fields) if int(fields["sform_code"]) > 0 else None
    broken = ""
    try:
        qform = _qform(fields) if int(fields["qform_code"]) > 0 else None
    except (ValueError, HeaderDataError):
        qform, broken = None, f"{path}: its qform is not a rotation and was not used."
    warnings = [broken] if broken else []
    if sform is not None:
        warnings += _contradictions(fields, sform, qform, shape, path)
        return sform, warnings
    if qform is not None:
        return qform, warnings
    warnings.append(
        f"{path} states no orientation (sform and qform codes are 0); its array axes are taken"
        " to run left, back and up, as ITK does."
    )
    return LPS @ np.diag((*(float(d) for d in fields["pixdim"][1:4]), 1.0)), warnings


def _sform(fields: nib.Nifti1Header) -> np.ndarray:
    return np.array(fields.get_sform(), np.float64)


def _qform(fields: nib.Nifti1Header) -> np.ndarray:
    return np.array(fields.get_qform(), np.float64)


def _contradictions(
    fields: nib.Nifti1Header,
    sform: np.ndarray,
    qform: np.ndarray | None,
    shape: tuple[int, ...],
    path: Path,
) -> list[str]:
    if not np.isfinite(sform).all():
        return []
    if qform is not None:
        gap = corner_gap(sform, qform, shape)
        if gap > _TOLERANCE_MM:
            return [f"{path}: sform and qform disagree by up to {gap:.3g} mm; the sform is used."]
        return []
    stated = fields["pixdim"][1:4]
    if np.allclose(np.linalg.norm(sform[:3, :3], axis=0), stated, rtol=0.01):
        return []
    numbers = " x ".join(f"{float(size):g}" for size in stated)
    return [f"{path}: its sform contradicts its voxel size ({numbers} mm); the sform is used."]


CODEC = Codec(read_header, read, write)
