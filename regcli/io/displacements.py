"""Displacement fields in image files as ITK and ANTs write them: LPS mm, turned to RAS here.

A field file holds u of x -> x + u(x), from the world of the image whose grid it has. In NIfTI it
is 5-D, (I, J, K, 1, 3): intent 1007 (vector) holds LPS components; 1006 (displacement vector) RAS
components, which ITK negates on reading. Without such an intent nobody can know, and the file is
refused. A sheared grid is written into the sform alone; ITK refuses such a file, regcli reads it.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from torch import Tensor

from regcli.errors import InputError, OutputError
from regcli.image import Space, Storage
from regcli.io.files import compressed, extension, open_input, read_start, read_whole
from regcli.io.header import LPS, corner_gap, make_header
from regcli.io.itk import translated
from regcli.io.nifti import HEADER_BYTES

FIELD_FILES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
_NIFTI = (".nii", ".nii.gz")
_LPS_INTENT, _RAS_INTENT = 1007, 1006
_POSITIONS = {"Mapping": "SPM", "NREG_TRANS": "NiftyReg"}  # intent names of other meanings of 1007
_TOLERANCE_MM = 0.01
_CHECK = "Check what the file is, or fetch it again."
_LPS_SIGNS = (-1.0, -1.0, 1.0)


def write_displacement(space: Space, displacement: Tensor | None, path: str | Path) -> None:
    """Write a displacement as ANTs writes a 1Warp.nii.gz.

    Args:
        space: The grid of the displacement.
        displacement: u, (1, 3, I, J, K) RAS mm; None for zeros.
        path: .nii.gz or .nii.

    Raises:
        OutputError: If the format is neither, or the file cannot be written.
    """
    u = _vectors(space, displacement).to(torch.float32)
    lps = (0 - u[0], 0 - u[1], u[2])  # not -u: the bytes of -0 compress badly
    little = np.dtype("<f4")
    components = (
        part.permute(2, 1, 0).contiguous().numpy().astype(little, copy=False).tobytes()
        for part in lps
    )
    write_nifti(Path(path), (_nifti_header(space), *components))


def write_nifti(path: Path, parts: Iterable[bytes]) -> None:
    """Write the bytes of a NIfTI file of floats, compressed if its name says so.

    Raises:
        OutputError: If the name is not a NIfTI's, or the file cannot be written.
    """
    if extension(path) not in _NIFTI:
        raise OutputError(
            f"{path} cannot be written: displacement fields are NIfTI.",
            "End its name in .nii.gz or .nii.",
        )
    if extension(path) == ".nii.gz":
        parts = compressed(parts)
    try:
        with path.open("wb") as file:
            file.writelines(parts)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", "Check the folder and its disk."
        ) from None


def read_nifti(path: Path) -> tuple[nib.Nifti1Header, np.ndarray]:
    """The header of a NIfTI file of any shape and its values as they are meant, float32.

    Raises:
        InputError: If it is missing, damaged or cut short, or its values are no real numbers.
    """
    raw, _ = read_whole(path)
    fields = _nifti_fields(raw, path)
    shape, dtype = fields.get_data_shape(), fields.get_data_dtype()
    count, start = math.prod(shape), max(int(fields["vox_offset"]), fields.single_vox_offset)
    need = start + count * dtype.itemsize
    if len(raw) < need:
        raise InputError(
            f"{path} is cut short: {len(raw)} of {need} bytes are there.",
            "Copy or download the file again.",
        )
    values = np.frombuffer(raw, dtype, count, start).astype(np.float32)
    slope, intercept = fields.get_slope_inter()
    if (slope, intercept) not in ((None, None), (1.0, 0.0)):
        values = values * np.float32(slope) + np.float32(intercept)
    return fields, values.reshape(shape, order="F")


def read_displacement(path: str | Path) -> tuple[Space, Tensor]:
    """A displacement field from NIfTI (5-D, intent 1007 or 1006), MetaImage or NRRD.

    Returns:
        Its grid and u, (1, 3, I, J, K) float32 RAS mm; a 2-D field has one slice, and zero as
        its third component.

    Raises:
        InputError: If the file is missing, damaged, or not a displacement field.
    """
    path = Path(path)
    if extension(path) in _NIFTI:
        return _read_field(path)
    if extension(path) not in FIELD_FILES:
        raise InputError(
            f"{path} is no displacement field file ({extension(path) or 'no ending'}).",
            f"Give one of {', '.join(FIELD_FILES)}.",
        )
    open_input(path).close()
    with translated(path):
        image = sitk.ReadImage(str(path))
    return field_from_itk(image, path)


def is_displacement(path: str | Path) -> bool:
    """Whether the header of an image file says that its voxels are displacements or vectors.

    Raises:
        InputError: If the file is missing or damaged.
    """
    path = Path(path)
    if extension(path) not in FIELD_FILES:
        return False
    if extension(path) in _NIFTI:
        fields = _nifti_fields(read_start(path, HEADER_BYTES), path)
        return int(fields["intent_code"]) in (_LPS_INTENT, _RAS_INTENT)
    open_input(path).close()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with translated(path):
        reader.ReadImageInformation()
    floats = (sitk.sitkVectorFloat32, sitk.sitkVectorFloat64)
    return reader.GetPixelID() in floats and reader.GetNumberOfComponents() in (2, 3)


def field_from_itk(image: sitk.Image, path: Path) -> tuple[Space, Tensor]:
    """The displacement field that an ITK image of LPS vectors holds, 2-D or 3-D.

    Raises:
        InputError: If it is none; the message names `path`.
    """
    n, parts = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if n not in (2, 3) or parts not in (n, 3):
        raise InputError(
            f"{path} is no displacement field: it is {n}-D with {parts} values per voxel.",
            "Give a field with one component per axis.",
        )
    affine = np.eye(4)
    affine[:n, :n] = np.reshape(image.GetDirection(), (n, n)) * image.GetSpacing()
    affine[:n, 3] = image.GetOrigin()
    values = torch.from_numpy(sitk.GetArrayViewFromImage(image).astype(np.float32))
    lps = values.permute(*range(n, -1, -1)).reshape(parts, *image.GetSize(), *(1,) * (3 - n))
    return field_of(lps, flip=True, affine=LPS @ affine, path=path)


def field_of(
    vectors: Tensor, *, flip: bool, affine: np.ndarray, path: Path
) -> tuple[Space, Tensor]:
    """The grid and u, (1, 3, I, J, K) RAS mm, of vectors read from a file.

    Args:
        vectors: (2 or 3, I, J, K) mm, float32; LPS if `flip`, else RAS. The result is in their
            memory and keeps its order, so that a large field is not turned over.
        flip: See vectors.
        affine: (4, 4) voxel index to RAS+ mm.
        path: For messages.

    Raises:
        InputError: If they are no sound displacement field.
    """
    parts, shape = vectors.shape[0], vectors.shape[1:]
    if parts == 2 and shape[2] > 1:
        raise InputError(
            f"{path} has two components on {shape[2]} slices.", "Give a field with three."
        )
    if not bool(vectors.sum().isfinite()):  # the one test that copies nothing
        raise InputError(f"{path} holds displacements that are not finite.", "Mend the field.")
    if flip:
        for part, sign in zip(vectors, _LPS_SIGNS, strict=False):
            part.mul_(sign)
    if parts == 2:
        vectors = torch.cat([vectors, torch.zeros(1, *shape)])
    space = make_header(path, shape, affine=affine, storage=Storage()).space
    return space, vectors[None]


def _vectors(space: Space, displacement: Tensor | None) -> Tensor:
    """(3, I, J, K) mm."""
    return torch.zeros(3, *space.shape) if displacement is None else displacement[0]


def _nifti_header(space: Space) -> bytes:
    fields = nib.Nifti1Header(endianness="<")
    fields.set_data_shape((*space.shape, 1, 3))
    fields.set_data_dtype(np.float32)
    fields.set_intent(_LPS_INTENT)
    fields.set_slope_inter(1, 0)
    fields.set_xyzt_units("mm")
    affine = space.affine.numpy()
    fields.set_sform(affine, code=1)
    fields.set_qform(affine, code=1)
    if corner_gap(np.array(fields.get_qform()), affine, space.shape) > _TOLERANCE_MM:
        fields["qform_code"] = 0
    fields["vox_offset"] = fields.single_vox_offset
    return fields.binaryblock.ljust(fields.single_vox_offset, b"\0")


def _nifti_fields(raw: bytes, path: Path) -> nib.Nifti1Header:
    wide = raw[4:8] == b"n+2\0"
    kind = nib.Nifti2Header if wide else nib.Nifti1Header
    if not wide and raw[344:348] != b"n+1\0":
        raise InputError(f"{path} is not a NIfTI file: it does not begin like one.", _CHECK)
    try:
        fields = kind(raw[: kind.sizeof_hdr], check=False)
        real = fields.get_data_dtype().kind in "iuf"
    except (HeaderDataError, KeyError, WrapStructError) as error:
        raise InputError(f"{path} is not a sound NIfTI file: {error}.", _CHECK) from None
    if not real or not 1 <= int(fields["dim"][0]) <= 7 or min(fields.get_data_shape()) < 1:
        raise InputError(f"{path} does not hold real numbers on a grid.", _CHECK)
    if not np.isfinite(fields["vox_offset"]):
        raise InputError(f"{path} does not say where its values begin.", _CHECK)
    return fields


def _read_field(path: Path) -> tuple[Space, Tensor]:
    fields, values = read_nifti(path)
    flip = _lps(fields, path)
    u = torch.from_numpy(values[:, :, :, 0].transpose(3, 0, 1, 2))
    try:
        affine = np.array(fields.get_best_affine())
    except (ValueError, HeaderDataError):
        raise InputError(f"{path} has a qform that is not a rotation.", _CHECK) from None
    return field_of(u, flip=flip, affine=affine, path=path)


def _lps(fields: nib.Nifti1Header, path: Path) -> bool:
    """Whether the vectors are LPS, once it is settled that the file is a field of them."""
    shape, intent = fields.get_data_shape(), int(fields["intent_code"])
    size = " x ".join(map(str, shape))
    if len(shape) != 5 or shape[3] != 1 or shape[4] not in (2, 3):
        fault = f"its size is {size}, not I x J x K x 1 x 3"
    elif intent not in (_LPS_INTENT, _RAS_INTENT):
        fault = f"its intent is {intent}, so that its units and axes are unknown"
    elif int(fields["sform_code"]) <= 0 and int(fields["qform_code"]) <= 0:
        fault = "it states no orientation"
    else:
        name = fields.get_intent()[2]
        tool = next((t for start, t in _POSITIONS.items() if name.startswith(start)), None)
        if tool is None:
            return intent == _LPS_INTENT
        fault = f"it is {tool}'s, whose values mean something else"
    raise InputError(
        f"{path} is not a displacement field as ITK writes it: {fault}.",
        "Convert it to a 5-D NIfTI of LPS mm with intent 1007; a field in voxels is Learn2Reg's.",
    )
