"""Which metric is taken for pairs of any contrasts, and how much is lost by it.

    python benchmarks/contrasts.py PAIRS.csv [--errors] [--threads 2]

PAIRS.csv has the columns fixed, moving. Prints, for each pair, the metric of `--metric auto`, the
local correlation and the mismatch that decide, and the share of their weight that learned features
get. With --errors the images of a pair must lie on each other: the moving one is moved by a known
map, and registered back by each metric; the table then says the mean error in mm of each, and by
how much the metric taken is worse than the best.
"""

import argparse
import csv
from pathlib import Path

import torch

from regcli.image import Image, Space
from regcli.io.images import read_image
from regcli.ops.filter import gaussian
from regcli.recipe import RegisterRecipe
from regcli.registration.contrast import measure
from regcli.registration.normalize import foreground, prepare
from regcli.registration.pipeline import register
from regcli.registration.stages import CROSS, SAME
from regcli.warp import Warp

METRICS = {"auto": ("auto",), "lncc": SAME, "mind": CROSS, "mi": ("mi",)}
KNOTS, LENGTH_MM = 12.0, 4.0  # voxels of the known map's smoothing; its typical displacement
EVERY = 997  # of the foreground's voxels, one is looked at


def known_map(space: Space, seed: int) -> Warp:
    """A smooth map of about 5 mm with a small affine."""
    draw = torch.Generator().manual_seed(seed)
    u = gaussian(torch.randn(1, 3, *space.shape, generator=draw), KNOTS)
    u *= LENGTH_MM / u.square().sum(dim=1).mean().sqrt()
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] += 0.02 * torch.randn(3, 3, generator=draw, dtype=torch.float64)
    affine[:3, 3] = space.centre - affine[:3, :3] @ space.centre
    return Warp(space, affine, u)


def errors(fixed: Image, moving: Image, threads: int) -> dict[str, float]:
    """Mean distance in mm from the known map, by metric; classical but for "auto"."""
    truth = known_map(moving.space, 0)
    moved = truth.apply(moving, moving.space, "linear")
    points = moving.space.voxel_to_world(foreground(moved).nonzero()[::EVERY].to(torch.float64))
    found = {}
    for name, metric in METRICS.items():
        model = "auto" if name == "auto" else "classical"
        recipe = RegisterRecipe(model=model, metric=metric, threads=threads)
        phi = register(fixed, moved, recipe).warp
        found[name] = float((phi(truth(points)) - points).norm(dim=1).mean())
    return found


def decision(fixed: Image, moving: Image, threads: int) -> str:
    """The metric of a pair, and the numbers that decide it."""
    recipe = RegisterRecipe(transform="affine", threads=threads)
    affine = register(fixed, moving, recipe).linear
    one, other = (prepare(image, None, torch.device("cpu")) for image in (fixed, moving))
    found = measure(one, other, affine)
    taken, share = ("lncc", 1.0) if found.same else ("mind", found.doubt)
    return f"{taken} | {found.correlation:.2f} | {found.mismatch:.3f} | {share:.1f}"


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    known = parser.parse_args()
    heads = ["fixed", "moving", "taken", "correlation", "mismatch", "features"]
    heads += [*METRICS, "best", "loss"] if known.errors else []
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    with known.pairs.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        paths = [known.pairs.parent / row[side] for side in ("fixed", "moving")]
        fixed, moving = (read_image(path).image for path in paths)
        cells = [*(path.name.partition(".")[0] for path in paths)]
        cells.append(decision(fixed, moving, known.threads))
        if known.errors:
            found = errors(fixed, moving, known.threads)
            best = min(found, key=found.__getitem__)
            cells += [f"{mm:.2f}" for mm in found.values()]
            cells += [best, f"{found['auto'] - found[best]:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
