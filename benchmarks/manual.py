"""Dice over smoothness, as curves: real T1 scans with labels drawn by hand.

    python benchmarks/manual.py choose|confirm [--methods NAME...] [--smoothness X...] [--json FILE]
    python benchmarks/manual.py choose|confirm --peer NAME=FOLDER

Scans lie in REGCLI_DATA or ../shared/data, in manual/ (MICCAI 2012 multi-atlas training scans, CC
BY-NC: to measure with and to choose by, not to train with). Dice are means over the labels that
both scans have; the spread of log det J (SDlogJ) and the folds are those of the whole map, affine
included, by central differences where the fixed scan is brighter than 5 % of its 99th percentile.
Shear is the root mean square of the strain's logarithm without its change of volume, there.
A peer's maps are FOLDER/manual_FIXED_MOVING/disp.nii.gz: displacements in mm, LPS, on the fixed
grid, affine included.
"""

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from rich.console import Console
from rich.table import Table

import regcli

# Settings are chosen by pairs of ten people, and looked at in pairs of the five others at the end.
PAIRS = {
    "choose": "1000_1001 1002_1006 1007_1008 1009_1010 1011_1012 1006_1000 1008_1011 1012_1009",
    "confirm": "1013_1014 1014_1015 1015_1017 1017_1036 1036_1013 1015_1013",
}
METHODS = {
    "classical": {"model": "classical"},
    "default": {},
    "diffusion": {"model": "classical", "regularizer": ("diffusion",)},
}
# Neuromorphometrics' codes; those from 100 on are cortical
DEEP = (4, 11, 23, *range(30, 33), *range(35, 42), 44, 45, 47, 48, 51, 52, *range(55, 63))
_CORTEX, _FOREGROUND, _LEAST = 100, 0.05, 1e-3
SHOWN = {
    "sdlogj": ".3f",
    "all": ".4f",
    "cortex": ".4f",
    "deep": ".4f",
    "folds_percent": ".4f",
    "shear": ".3f",
    "solve_s": ".1f",
}
Row = dict[str, Any]


def main() -> None:
    """Register, score, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", choices=PAIRS)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--smoothness", nargs="+", type=float, default=[0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("REGCLI_DATA", default)) / "manual"
    rows: list[Row] = []
    for pair in PAIRS[asked.pairs].split():
        rows += [peer(folder, pair, *text.split("=")) for text in asked.peer]
        for method in asked.methods if not asked.peer else ():
            for smoothness in asked.smoothness:
                rows.append(registered(folder, pair, method, smoothness))
                if asked.json:  # long runs are looked at before they end
                    asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    show(rows)


def registered(folder: Path, pair: str, method: str, smoothness: float) -> Row:
    """What one of our registrations scores."""
    fixed, moving = (folder / f"sub-{who}_T1w.nii.gz" for who in pair.split("_"))
    recipe = regcli.RegisterRecipe(smoothness=smoothness, **METHODS[method])
    result = regcli.register(fixed, moving, recipe)
    space = result.warp.space
    points = space.voxel_to_world(grid(space.shape))
    phi = result.warp(points).view(*space.shape, 3).numpy()
    row = {"method": method, "smoothness": smoothness, "pair": pair}
    return row | scores(folder, pair, phi) | {"solve_s": result.seconds["solve"]}


def peer(folder: Path, pair: str, name: str, results: str) -> Row:
    """What a map of another tool scores."""
    image = sitk.ReadImage(str(Path(results) / f"manual_{pair}" / "disp.nii.gz"))
    u = sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3).astype(float) * (-1, -1, 1)  # RAS
    space = regcli.read_image(folder / f"sub-{pair.split('_')[0]}_T1w.nii.gz").image.space
    x = space.voxel_to_world(grid(space.shape)).view(*space.shape, 3).numpy()
    return {"method": name, "pair": pair} | scores(folder, pair, x + u)


def scores(folder: Path, pair: str, phi: np.ndarray) -> Row:
    """Overlap and smoothness of a whole map.

    Args:
        folder: Of the scans.
        pair: FIXED_MOVING.
        phi: (I, J, K, 3) RAS mm, where each voxel of the fixed scan comes from.
    """
    one, other = pair.split("_")
    fixed, labels, moving = (
        regcli.read_image(folder / name).image
        for name in (f"sub-{one}_T1w.nii.gz", f"sub-{one}_dseg.nii.gz", f"sub-{other}_dseg.nii.gz")
    )
    a, m = (image.data[0].numpy().astype(int) for image in (labels, moving))
    where = moving.space.world_to_voxel(torch.from_numpy(phi)).round().long().numpy()
    inside = ((where >= 0) & (where < m.shape)).all(axis=-1)
    i, j, k = np.moveaxis(np.clip(where, 0, np.array(m.shape) - 1), -1, 0)
    return overlaps(a, m, np.where(inside, m[i, j, k], 0)) | strains(fixed, phi)


def overlaps(fixed: np.ndarray, moving: np.ndarray, moved: np.ndarray) -> Row:
    """Mean Dice over the labels of both scans, over cortical and over deep ones."""
    codes = sorted((set(np.unique(fixed)) & set(np.unique(moving))) - {0})
    most = int(max(fixed.max(), moving.max())) + 1
    a, b, both = (
        np.bincount(t.ravel(), minlength=most) for t in (fixed, moved, fixed[fixed == moved])
    )
    dice = {code: 2 * both[code] / (a[code] + b[code]) for code in codes}
    groups = {"all": codes, "cortex": [c for c in codes if c >= _CORTEX]}
    groups["deep"] = [c for c in codes if c in DEEP]
    return {name: float(np.mean([dice[c] for c in group])) for name, group in groups.items()}


def strains(fixed: regcli.Image, phi: np.ndarray) -> Row:
    """SDlogJ, folds and shear of a map where the fixed image shows something."""
    f = fixed.data[0].numpy()
    shown = (f > _FOREGROUND * np.percentile(f[f > 0], 99))[1:-1, 1:-1, 1:-1]
    slopes = [np.gradient(phi, axis=axis)[1:-1, 1:-1, 1:-1][shown] for axis in range(3)]
    J = np.stack(slopes, axis=-1) @ np.linalg.inv(fixed.space.affine[:3, :3].numpy())
    det = np.linalg.det(J)
    stretch = 0.5 * np.log(np.clip(np.linalg.eigvalsh(J.transpose(0, 2, 1) @ J), _LEAST**2, None))
    shear = stretch - stretch.mean(axis=1, keepdims=True)
    return {
        "sdlogj": float(np.log(np.clip(det, _LEAST, None)).std()),
        "folds_percent": 100 * float(np.mean(det <= 0)),
        "shear": float(np.sqrt(np.square(shear).sum(axis=1).mean())),
    }


def grid(shape: tuple[int, int, int]) -> torch.Tensor:
    """(N, 3): all voxels of a grid."""
    return torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in shape))


def show(rows: list[Row]) -> None:
    """Means over pairs, one line for each method and smoothness."""
    table, groups = Table(box=None), defaultdict(list)
    for row in rows:
        groups[row["method"], row.get("smoothness", "")].append(row)
    for column in ("method", "smoothness", "pairs", *SHOWN):
        table.add_column(column.replace("_", " "), justify="right")
    for (method, smoothness), group in groups.items():
        means = (
            format(float(np.mean([row[name] for row in group])), form) if name in group[0] else ""
            for name, form in SHOWN.items()
        )
        table.add_row(method, str(smoothness), str(len(group)), *means)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
