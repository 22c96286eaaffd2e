"""How much overlap is lost where scans are thick, cropped, or on other grids.

    python benchmarks/robustness.py FIXED FIXED_LABELS MOVING MOVING_LABELS [--weights W]

The pair is registered as it is, with the moving image in slices of 3 mm, with the fixed image cut
by 15 % on each side, and with the moving image turned, on voxels of another size. Overlap is that
of the labels as they were, of those that lie where the fixed image shows something.

Source: the variants are those of Jena et al., DIO, 2025, Table 4.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from regcli.evaluate.metrics import dice
from regcli.image import Box, Image, Space
from regcli.io.images import read_image
from regcli.recipe import RegisterRecipe
from regcli.registration.normalize import foreground, prepare
from regcli.registration.pipeline import register
from regcli.warp import Warp

Pair = tuple[Image, Image]
EYE = torch.eye(4, dtype=torch.float64)
THICK_MM, CUT, TURN_RAD = 3.0, 0.15, 0.2


def thick(fixed: Image, moving: Image) -> Pair:
    """The moving image in slices of 3 mm along its last axis."""
    space = moving.canonical().space
    i, j, k = space.shape
    return fixed, onto(
        moving, space.resize((i, j, round((k - 1) * space.spacing[2] / THICK_MM) + 1))
    )


def cropped(fixed: Image, moving: Image) -> Pair:
    """The fixed image without 15 % of what it shows on each side."""
    shown = (fixed.data[0] > 0).nonzero()
    low, high = shown.amin(dim=0), shown.amax(dim=0)
    cut = CUT * (high - low)
    start, stop = (low + cut).ceil().int().tolist(), (high - cut).floor().int().tolist()
    box = Box(fixed.space, (start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    return Image(box.cut(fixed.data[None])[0].contiguous(), box.part), moving


def regridded(fixed: Image, moving: Image) -> Pair:
    """The moving image turned about two axes, on voxels that are a fifth larger."""
    a, c, s = EYE.clone(), math.cos(TURN_RAD), math.sin(TURN_RAD)
    b = EYE.clone()
    a[:2, :2] = torch.tensor([[c, -s], [s, c]])
    b[1:3, 1:3] = torch.tensor([[c, -s], [s, c]])
    space = moving.space
    centre = EYE.clone()
    centre[:3, 3] = space.centre
    turned = centre @ a @ b @ torch.linalg.inv(centre) @ space.affine
    i, j, k = space.shape
    grid = Space(space.shape, turned).resize((round(i / 1.2), round(j / 1.2), round(k / 1.2)))
    return fixed, onto(moving, grid)


def onto(image: Image, space: Space) -> Image:
    """The image on another grid, smoothed to suit it."""
    ready = prepare(image, None, torch.device("cpu"))
    return Image(ready.onto(space, EYE).data[0], space)


VARIANTS: dict[str, Callable[[Image, Image], Pair]] = {
    "clean": lambda fixed, moving: (fixed, moving),
    "moving in 3 mm slices": thick,
    "fixed cut by 15 %": cropped,
    "moving on a turned grid": regridded,
}


def main() -> None:
    """Register all variants and print their overlap."""
    parser = argparse.ArgumentParser(description="Overlap of changed pairs.")
    for name in ("fixed", "fixed_labels", "moving", "moving_labels"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--weights", default="")
    parser.add_argument("--codes", help="2,3,...: of the labels that count; default those shown")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    images = [read_image(path).image for path in (asked.fixed, asked.moving)]
    labels = [read_image(p, labels=True).image for p in (asked.fixed_labels, asked.moving_labels)]
    recipe = replace(RegisterRecipe(), model=asked.model, weights=asked.weights)
    named = asked.codes and [int(code) for code in asked.codes.split(",")]
    codes = named or shown(images[0], labels[0])
    table = Table("variant", "Dice", "of the same voxels, clean", "loss, points", box=None)
    rows, best = [], None
    for name, change in VARIANTS.items():
        fixed, moving = change(*images)
        warp = register(fixed, moving, recipe).warp
        best = best or warp
        found, clean = (overlap(w, labels, fixed.space, codes) for w in (warp, best))
        rows.append({"variant": name, "dice": found, "clean": clean})
        table.add_row(name, f"{found:.4f}", f"{clean:.4f}", f"{100 * (clean - found):.2f}")
    Console().print(table)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def shown(image: Image, labels: Image) -> list[int]:
    """The codes that an image shows: of a stripped brain, not those of the skull."""
    inside = foreground(image)
    codes = labels.data[0].unique().tolist()
    return [c for c in codes if c and float(inside[labels.data[0] == c].float().mean()) > 0.5]


def overlap(warp: Warp, labels: list[Image], space: Space, codes: list[int]) -> float:
    """Mean Dice of the labels on a grid that lies within the warp's."""
    truth = Warp(space, EYE).apply(labels[0], space, "nearest")
    moved = warp.apply(labels[1], space, "nearest")
    scores = dice(truth.data[0], moved.data[0], codes)
    return sum(scores.values()) / len(scores)


if __name__ == "__main__":
    main()
