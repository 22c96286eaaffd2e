"""Learn2Reg's displacement fields: (I, J, K, 3), moving voxel = fixed voxel + displacement.

The displacement holds the whole map, affine included, in voxels along the array axes. The files
say nothing of the images; writing needs the moving grid, reading both.
"""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regcli.errors import InputError, OutputError
from regcli.image import Space, Storage
from regcli.io.displacements import read_nifti, write_nifti
from regcli.io.files import extension, open_input
from regcli.io.nifti import encode
from regcli.warp import Warp


def write_learn2reg(warp: Warp, moving_space: Space, path: str | Path) -> None:
    """Write a whole map, on its own grid, as a Learn2Reg displacement.

    Args:
        warp: From the fixed to the moving image; its grid must be that of the fixed image.
        moving_space: The grid of the moving image.
        path: .nii.gz, .nii or .npz.

    Raises:
        OutputError: If the format is none of these, or the file cannot be written.
    """
    path = Path(path)
    if extension(path) not in (".nii", ".nii.gz", ".npz"):
        raise OutputError(
            f"{path} cannot be written: Learn2Reg's fields are NIfTI or npz.",
            "End its name in .nii.gz or .npz.",
        )
    field = _voxel_displacement(warp, moving_space).permute(1, 2, 3, 0).numpy()  # (I, J, K, 3)
    if extension(path) != ".npz":
        write_nifti(path, [encode(field, warp.space.affine.numpy(), Storage())])
        return
    try:
        np.savez_compressed(path, field)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", "Check the folder and its disk."
        ) from None


def read_learn2reg(path: str | Path, fixed_space: Space, moving_space: Space) -> Warp:
    """The map of a Learn2Reg displacement between two grids.

    Args:
        path: .nii.gz, .nii or .npz with one array; (I, J, K, 3), or (3, I, J, K) as in LUMIR.
        fixed_space: The grid of the fixed image.
        moving_space: The grid of the moving image.

    Returns:
        The map on the fixed grid. Its affine is the identity: the files do not tell it apart.

    Raises:
        InputError: If the file is missing or damaged, or its shape is not the fixed image's.
    """
    values = read_voxel_displacement(path, fixed_space.shape)
    return warp_of(values, fixed_space, moving_space)


def read_voxel_displacement(path: str | Path, shape: tuple[int, int, int]) -> np.ndarray:
    """The displacements of a Learn2Reg field, voxels.

    Args:
        path: See `read_learn2reg`.
        shape: Of the fixed image.

    Returns:
        (I, J, K, 3) float32.

    Raises:
        InputError: If the file is missing or damaged, or its shape is not the fixed image's.
    """
    path = Path(path)
    values = _read_array(path)
    if values.shape == (3, *shape):
        values = values.transpose(1, 2, 3, 0)
    if values.shape != (*shape, 3):
        raise InputError(
            f"{path} has the shape {values.shape}; the fixed image needs {(*shape, 3)}.",
            "Give the fixed image that the field belongs to; fields at half size are not read.",
        )
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds displacements that are not finite.", "Mend the field.")
    return values.astype(np.float32)


def warp_of(displacement: np.ndarray, fixed_space: Space, moving_space: Space) -> Warp:
    """The map, on the fixed grid, of displacements (I, J, K, 3) in voxels.

    Its affine is the identity: the displacements do not tell it apart.
    """
    d = torch.from_numpy(displacement).permute(3, 0, 1, 2)  # (3, I, J, K) voxels
    rotation = moving_space.affine[:3, :3]
    u = _linear_field(moving_space.affine - fixed_space.affine, fixed_space.shape, rotation, d)
    return Warp(fixed_space, torch.eye(4, dtype=torch.float64), u[None])


def _voxel_displacement(warp: Warp, moving_space: Space) -> Tensor:
    """A_mov^-1 phi(A_fix v) - v of every voxel v, (3, I, J, K) float32."""
    back = torch.linalg.inv(moving_space.affine) @ warp.affine
    shift = back @ warp.space.affine - torch.eye(4, dtype=torch.float64)
    u = None if warp.displacement is None else warp.displacement[0]
    return _linear_field(shift, warp.space.shape, back[:3, :3], u)


def _linear_field(
    matrix: Tensor, shape: tuple[int, int, int], rotation: Tensor, vectors: Tensor | None
) -> Tensor:
    """The sum matrix (v, 1) + rotation vectors(v) of every voxel v, in float64, (3, *shape)."""
    i, j, k = (torch.arange(n, dtype=torch.float64) for n in shape)
    out = torch.empty(3, *shape)
    for c in range(3):
        row = matrix[c]
        total = (row[0] * i)[:, None, None] + (row[1] * j)[:, None] + row[2] * k + row[3]
        if vectors is not None:
            total += sum(rotation[c, d] * vectors[d] for d in range(3))
        out[c] = total
    return out


def _read_array(path: Path) -> np.ndarray:
    if extension(path) == ".npz":
        with open_input(path) as file:
            try:
                with np.load(file, allow_pickle=False) as arrays:
                    if len(arrays.files) == 1:
                        return arrays[arrays.files[0]]
                    count = len(arrays.files)
            except (ValueError, zipfile.BadZipFile) as error:
                raise InputError(f"{path} is damaged: {error}.", "Fetch it again.") from None
        raise InputError(f"{path} holds {count} arrays, not one.", "Give a file with one array.")
    if extension(path) not in (".nii", ".nii.gz"):
        raise InputError(
            f"{path} is no Learn2Reg field ({extension(path) or 'no ending'}).",
            "Give a .nii.gz, .nii or .npz file.",
        )
    return read_nifti(path)[1]
