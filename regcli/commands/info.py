"""describe: what a file holds, for `regcli info`."""

from pathlib import Path
from typing import Any

from regcli.errors import InputError
from regcli.io.displacements import FIELD_FILES
from regcli.io.files import extension
from regcli.io.images import read_header
from regcli.io.warps import describe_transform

_TRANSFORMS = (".mat", ".tfm", ".txt", ".h5", ".hdf5")


def describe(path: Path) -> dict[str, Any]:
    """Facts about an image, a warp or a linear transform; of images the header alone is read.

    Raises:
        InputError: If the file is none of these.
    """
    if extension(path) in _TRANSFORMS:
        return {"path": str(path)} | describe_transform(path)
    try:
        return _describe_image(path)
    except InputError as no_image:
        if extension(path) not in FIELD_FILES or not path.is_file():
            raise
        try:
            return {"path": str(path)} | describe_transform(path)
        except InputError:
            raise no_image from None


def _describe_image(path: Path) -> dict[str, Any]:
    header = read_header(path)
    space = header.space
    return {
        "path": str(path),
        "kind": "image",
        "shape": list(space.shape),
        "spacing_mm": list(space.spacing),
        "orientation": space.codes,
        "dtype": header.storage.dtype,
        "slope": header.storage.slope,
        "intercept": header.storage.intercept,
        "frames": header.frames,
        "affine_to_ras_mm": space.affine.tolist(),
        "warnings": list(header.warnings),
    }
