"""Whether a pair deforms alike at 1 and at 2 mm, with the same --smoothness.

    python benchmarks/voxel_sizes.py FIXED MOVING [--transform NAME] [--json FILE]

FIXED and MOVING are images of voxels of about 1 mm that are aligned already; means of eight voxels
make the coarse pair. Prints the mean length of the displacement where the fixed image shows
something, mm, and the share of it at 2 mm that lies elsewhere than at 1 mm.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import regcli
from regcli.image import Image, Space
from regcli.ops.twogrid import average
from regcli.registration.normalize import foreground

REGULARIZERS = (
    ("diffusion",),
    ("bending",),
    ("elastic",),
    ("tv",),
    ("diffusion", "folding"),
)
console = Console(width=100)


def main() -> None:
    """Register, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fixed", type=Path)
    parser.add_argument("moving", type=Path)
    parser.add_argument("--transform", default="freeform")
    parser.add_argument("--model", default="classical")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    fine = [regcli.read_image(path).image for path in (asked.fixed, asked.moving)]
    coarse = [halved(image) for image in fine]
    shown = foreground(coarse[0]).nonzero().double()
    points = coarse[0].space.voxel_to_world(shown)
    rows: list[dict[str, Any]] = []
    for names in REGULARIZERS:
        recipe = regcli.RegisterRecipe(
            model=asked.model,
            transform=asked.transform,
            regularizer=names,
            init="none",
            threads=asked.threads,
        )
        one, two = (moved(regcli.register(*pair, recipe), points) for pair in (fine, coarse))
        row = {
            "regularizer": " + ".join(names),
            "mean_1mm": float(one.norm(dim=1).mean()),
            "mean_2mm": float(two.norm(dim=1).mean()),
            "apart_mm": float((one - two).norm(dim=1).mean()),
        }
        rows.append(row | {"ratio": row["mean_2mm"] / row["mean_1mm"]})
        if asked.json:
            asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    table = Table("regularizer", "mean |u| at 1 mm", "at 2 mm", "ratio", "apart, mm")
    for row in rows:
        numbers = (row[key] for key in ("mean_1mm", "mean_2mm", "ratio", "apart_mm"))
        table.add_row(row["regularizer"], *(f"{number:.3f}" for number in numbers))
    console.print(table)


def moved(result: Any, points: Tensor) -> Tensor:
    """How far a registration takes points (N, 3), mm."""
    return result.warp(points) - points


def halved(image: Image) -> Image:
    """Means of eight voxels, on a grid of voxels twice as large."""
    index = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    index[:3, 3] = 0.5
    data = average(image.data.float()[None])[0]
    i, j, k = data.shape[1:]
    return Image(data, Space((i, j, k), image.space.affine @ index))


if __name__ == "__main__":
    main()
