"""What networks of steps do beyond the steps that they were trained for.

    python benchmarks/convergence.py LABELS WEIGHTS... [--pairs N] [--json FILE] [--picture FILE]

LABELS is a folder of label maps, of which sub-13, sub-14 and sub-15 must be held out; WEIGHTS are
files that regcli train wrote. Held-out pairs are drawn, the coarser levels of every network take
the steps that it was trained for, and plain steps are then taken on its finest level, up to eight
times as many as in training: no early stop, and no choice of the best state.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from regcli.io import weights as files
from regcli.io.cases import read_cohort
from regcli.ops.jacobian import jacobian_determinant
from regcli.registration.equilibrium.force import advance, rms
from regcli.registration.equilibrium.model import StepModel, assemble
from regcli.train.data.subjects import Subjects, read_subjects
from regcli.train.losses import map_loss
from regcli.train.plan import TrainPlan
from regcli.train.steps.pairs import TrainingPair, TrainingPairs
from regcli.transforms.grids import resample_field

HELD_OUT = ("sub-13", "sub-14", "sub-15")
TIMES = 8  # of the steps in training
SMOOTHNESS = 0.1  # in the loss that is printed; training's may differ
console = Console(width=110)


def main() -> None:
    """Iterate, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    subjects = read_people(asked.labels)
    curves = []
    for path in asked.weights:
        network = read_network(path)
        pairs = TrainingPairs(subjects, TrainPlan(model="deq", spacing_mm=network.spacing_mm))
        runs = [follow(network, pair, pairs) for pair in pairs.validation[: asked.pairs]]
        name = path.parent.name if path.stem == "best" else path.stem
        curves.append({"name": name, "steps": network.steps, "runs": runs})
        show(curves[-1:])
    show(curves)
    if asked.json:
        asked.json.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    if asked.picture:
        draw(curves, asked.picture)


def read_people(labels: Path) -> Subjects:
    """Those of a folder of label maps, three of them held out."""
    cohort = read_cohort(labels, validation=HELD_OUT, least=2, labels_only=True)
    return read_subjects(cohort, synth=True, progress=lambda share: None)


def read_network(path: Path) -> StepModel:
    """What regcli train wrote."""
    return assemble(path.stem, "", files.facts(path), files.tensors(path))


def follow(network: StepModel, pair: TrainingPair, pairs: TrainingPairs) -> list[dict[str, float]]:
    """Dice, folds, residual and loss before every step on the finest level, and after the last."""
    levels = pairs.views(pair, network.levels, network.net.multiple)
    u, rows = levels[0].start, []
    for level, view in enumerate(levels):
        memory = ()
        if level:
            u = resample_field(u, levels[level - 1].space, view.space)
        finest = level == len(levels) - 1
        for step in range(network.steps * (TIMES if finest else 1) + finest):
            onward, memory = advance(network.net, view, u, level, memory, sigma=network.sigma)
            if finest and worth(step, network.steps):
                rows.append(
                    {
                        "step": step,
                        "dice": pairs.score(pair, u, view, SMOOTHNESS),
                        "folds": 100 * float((jacobian_determinant(u) <= 0).float().mean()),
                        "residual": float(rms(onward - u)),
                        "relative": float((onward - u).norm() / onward.norm()),
                        "loss": float(map_loss(view.fixed, view.moving, u, view.shown, SMOOTHNESS)),
                    }
                )
            u = onward
    return rows


def worth(step: int, trained: int) -> bool:
    """Whether a step is recorded: eight in training, later ones twice a trained number."""
    return step % max(trained // 8, 1) == 0 if step <= trained else 2 * step % trained == 0


def mean(curve: dict[str, Any], name: str) -> list[tuple[int, float]]:
    """A quantity's mean over pairs, by step."""
    runs = curve["runs"]
    return [
        (rows[0]["step"], sum(row[name] for row in rows) / len(rows))
        for rows in zip(*runs, strict=True)
    ]


def show(curves: list[dict[str, Any]]) -> None:
    """At the trained number of steps, at twice, four and eight times as many, and at the best."""
    table = Table("network", "steps", "Dice", "folds, %", "residual", "relative", "loss", box=None)
    for curve in curves:
        dice = mean(curve, "dice")
        best = max(dice, key=lambda pair: pair[1])[0]
        for times in (1, 2, 4, 8):
            step = curve["steps"] * times
            row = [dict(mean(curve, name)).get(step) for name in QUANTITIES]
            table.add_row(
                curve["name"] if times == 1 else "",
                f"{step} ({times}T)",
                *("?" if value is None else f"{value:.4f}" for value in row),
            )
        table.add_row("", f"{best} (best)", f"{dict(dice)[best]:.4f}")
    console.print(table)


QUANTITIES = ("dice", "folds", "residual", "relative", "loss")


def draw(curves: list[dict[str, Any]], path: Path) -> None:
    """Dice, folds and relative residual against steps as multiples of those in training."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, name in zip(axes, ("dice", "folds", "relative"), strict=True):
        for curve in curves:
            points = [(step / curve["steps"], value) for step, value in mean(curve, name)]
            axis.plot(*zip(*points, strict=True), label=f"{curve['name']} (T = {curve['steps']})")
        axis.axvline(1, color="0.8", zorder=0)
        axis.set_xscale("symlog", base=2, linthresh=1)
        axis.set_xlabel("steps on the finest level / trained steps")
    axes[0].set_title("Dice")
    axes[1].set_title("folds, % of voxels")
    axes[2].set_title("relative residual")
    axes[1].set_yscale("symlog", linthresh=0.1)
    axes[1].set_ylim(bottom=0)
    axes[2].set_yscale("log")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
