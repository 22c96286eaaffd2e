"""How well learned features know structures: Dice in drawn T1 images, and in real scans.

    python benchmarks/structures.py WEIGHTS... [--drawn N] [--scans NAME,NAME,...]

Drawn images are clean T1 of the three people that the recipe holds out (labelmaps/, sub-13 to 15),
whole brains of 2 mm, the same for all weights. Real scans are those of manual/, whose labels were
drawn by hand at 1 mm: features of 2 mm are interpolated there. Both come from REGCLI_DATA; from the
real ones nothing is learned, and the ones named by default are those that choices are made on.
"""

import argparse
import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from regcli.image import Image, Space
from regcli.io.cases import read_cohort
from regcli.io.images import read_image
from regcli.io.weights import facts, find, tensors
from regcli.ops.sample import sample
from regcli.registration.features.channels import channels
from regcli.registration.features.extract import describe, working_grid
from regcli.registration.features.model import FeatureModel, assemble
from regcli.registration.normalize import prepare
from regcli.registration.pyramid import Prepared
from regcli.train.data.subjects import Source, read_subjects
from regcli.train.features.types import CLEAN, VALIDATION
from regcli.train.plan import TrainPlan
from regcli.train.synth.images import draw, generator_of

DATA = Path(os.environ.get("REGCLI_DATA", "../shared/data"))
HELD_OUT = ("sub-13", "sub-14", "sub-15")
SCANS = ("1000", "1001", "1002", "1006", "1007", "1008", "1009", "1010")
CORTEX = 3
NAMED = {17: "hippocampus", 18: "amygdala", 26: "accumbens", 2: "white matter", CORTEX: "cortex"}


class Known:
    """Weights, and the FreeSurfer code, of the left side, that each of their types stands for."""

    def __init__(self, name: str) -> None:
        file = find(name)
        header = facts(file.path)
        self.learned: FeatureModel = assemble(file.name, file.sha256, header, tensors(file.path))
        count = self.learned.net.channels
        held = [min(c.codes, default=-1) for c in channels(count, header)]
        self.codes = np.array([CORTEX if c >= 1000 else c for c in held])

    def found(self, image: Prepared, space: Space) -> np.ndarray:
        """(I, J, K): the code that is most probable at every voxel of a grid; 0 for none."""
        own = self.learned
        grid = working_grid(image.space, own.spacing_mm, own.net.multiple)
        still = torch.eye(4, dtype=torch.float64)
        seen = describe(own.net, image.onto(grid, still), own.gains)
        matrix = (torch.linalg.inv(seen.spaces[-1].affine) @ space.affine)[:3]
        shares = sample(seen.levels[-1].float(), matrix=matrix, shape=space.shape)[0].numpy()
        cortex, codes = self.codes == CORTEX, self.codes.copy()
        if cortex.sum() > 1:  # its regions count together
            first = int(np.flatnonzero(cortex)[0])
            shares[first] = shares[cortex].sum(axis=0)
            keep = ~cortex
            keep[first] = True
            shares, codes = shares[keep], codes[keep]
        codes[0] = 0
        return codes[shares.argmax(axis=0)]


def drawn(count: int) -> Iterator[tuple[Prepared, np.ndarray]]:
    """Images of held-out people, and the codes that they show."""
    cohort = read_cohort(DATA / "labelmaps", validation=HELD_OUT, labels_only=True)
    people = replace(cohort, training=cohort.validation, validation=(), pairs=())
    subjects = read_subjects([Source(people, synth=True)], None, lambda share: None)
    plan = TrainPlan().holding(subjects.usual_mm)
    drawing = replace(plan.drawing, cut=0.0, **CLEAN)
    lefts = {number: code for code, number in reversed(subjects.vocabulary.types.items())}
    table = np.array([lefts[n] if n else 0 for n in range(subjects.vocabulary.count)])
    mm = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    for n in range(count):
        who = subjects.training[n % len(subjects.training)]
        one = draw(who, subjects.vocabulary, drawing, generator_of(0, VALIDATION + n))
        yield Prepared(Space(plan.shape, mm), one.image), table[one.types[0, 0].numpy()]


def scanned(names: list[str]) -> Iterator[tuple[Prepared, Image, np.ndarray]]:
    """Real scans, and the codes that were drawn by hand where FreeSurfer has such; -1 elsewhere."""
    with (DATA / "manual" / "to_freesurfer.csv").open() as file:
        rows = [row for row in csv.reader(file) if len(row) == 2 and row[1].isdigit()]
    lefts = {41: 2, 42: 3, 43: 4, 44: 4, 5: 4, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13}
    lefts |= {53: 17, 54: 18, 58: 26, 60: 28}
    table = np.full(1000, -1)
    table[0] = 0
    table[100:] = CORTEX
    for hand, code in rows:
        if hand.isdigit():
            table[int(hand)] = lefts.get(int(code), int(code))
    for name in names:
        image = read_image(DATA / "manual" / f"sub-{name}_T1w.nii.gz").image
        labels = read_image(DATA / "manual" / f"sub-{name}_dseg.nii.gz", labels=True).image
        labels = labels.canonical()
        ready = prepare(image, None, torch.device("cpu"))
        yield ready, labels, table[labels.data[0].numpy().astype(int)]


def overlaps(found: np.ndarray, truth: np.ndarray) -> dict[int, float]:
    """Dice of every code above 0 that the truth shows."""
    codes = [int(c) for c in np.unique(truth) if c > 0]
    both = {c: ((found == c) & (truth == c)).sum() for c in codes}
    return {c: float(2 * both[c] / ((found == c).sum() + (truth == c).sum())) for c in codes}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--drawn", type=int, default=12)
    parser.add_argument("--scans", default=",".join(SCANS))
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    known = {name: Known(name) for name in options.weights}
    scores: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for image, truth in drawn(options.drawn):
        for name, weights in known.items():
            for code, dice in overlaps(weights.found(image, image.space), truth).items():
                scores["drawn T1", name][code].append(dice)
    for image, labels, truth in scanned([n for n in options.scans.split(",") if n]):
        for name, weights in known.items():
            for code, dice in overlaps(weights.found(image, labels.space), truth).items():
                scores["real T1", name][code].append(dice)
    table = Table("images", "weights", "mean", *NAMED.values())
    out = []
    for (kind, name), of in scores.items():
        means = {code: float(np.mean(dice)) for code, dice in sorted(of.items())}
        mean = float(np.mean([dice for code, dice in means.items() if code != 24]))
        table.add_row(kind, name, f"{mean:.3f}", *(f"{means[c]:.3f}" for c in NAMED))
        out.append({"images": kind, "weights": name, "mean": mean, "dice": means})
    Console().print(table)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
