"""A small pair of heads as files: images, label maps and corresponding points."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from conftest import SPACES
from phantoms import Pair, pair
from torch import Tensor

from regcli.image import Image, Storage
from regcli.io.images import write_image


@dataclass(frozen=True, eq=False)
class Scans:
    """Files of a pair; the heads fill grids of other shape, spacing and orientation."""

    truth: Pair
    fixed: Path
    moving: Path
    fixed_labels: Path
    moving_labels: Path
    fixed_points: Path
    moving_points: Path


def write_pair(folder: Path, truth: Pair | None = None) -> Scans:
    truth = truth or pair(SPACES["odd"], SPACES["oblique"])
    scans = Scans(
        truth,
        *(folder / f"{name}.nii.gz" for name in ("fixed", "moving")),
        *(folder / f"{name}_labels.nii.gz" for name in ("fixed", "moving")),
        *(folder / f"{name}_points.csv" for name in ("fixed", "moving")),
    )
    for image, path in ((truth.fixed, scans.fixed), (truth.moving, scans.moving)):
        data = (1000 * image.data).round().to(torch.int16)
        write_image(replace(image, data=data, storage=Storage("int16")), path)
    for image, path in (
        (truth.fixed_labels, scans.fixed_labels),
        (truth.moving_labels, scans.moving_labels),
    ):
        write_image(replace(image, storage=Storage("int16")), path)
    write_csv(scans.fixed_points, truth.points)
    write_csv(scans.moving_points, truth.phi(truth.points))
    return scans


def write_csv(path: Path, points: Tensor) -> None:
    rows = [",".join(f"{x:.9f}" for x in point) for point in points.tolist()]
    path.write_text("\n".join(["x,y,z", *rows]) + "\n")


def write_voxels(path: Path, data: Tensor, like: Image, dtype: str = "int16") -> Path:
    write_image(Image(data[None], like.space, storage=Storage(dtype)), path)
    return path
