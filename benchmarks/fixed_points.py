"""How many evaluations of a network solvers need for the residual of 48 plain steps.

    python benchmarks/fixed_points.py LABELS WEIGHTS [--pairs N] [--json FILE]

LABELS and WEIGHTS are as in convergence.py. On every level each solver starts where plain steps
left the coarser one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from convergence import read_network, read_people
from rich.console import Console
from rich.table import Table

from regcli.registration.equilibrium.force import LearnedForce
from regcli.registration.equilibrium.model import StepModel
from regcli.registry import FIXED_POINTS, build
from regcli.solve.fixedpoint import Rules, find
from regcli.train.plan import TrainPlan
from regcli.train.steps.pairs import TrainingPair, TrainingPairs
from regcli.transforms.grids import resample_field

PLAIN, MOST = 48, 96  # evaluations: of plain steps, and of the others before they are given up
SOLVERS = (*FIXED_POINTS, "anderson:memory=4,damping=1")
console = Console(width=100)


def main() -> None:
    """Solve, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    network, subjects = read_network(asked.weights), read_people(asked.labels)
    pairs = TrainingPairs(subjects, TrainPlan(model="deq", spacing_mm=network.spacing_mm))
    rows = [
        {"pair": number, **row}
        for number, pair in enumerate(pairs.validation[: asked.pairs])
        for row in race(network, pair, pairs)
    ]
    show(rows)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def race(network: StepModel, pair: TrainingPair, pairs: TrainingPairs) -> list[dict[str, Any]]:
    """Evaluations by level and solver, and the residuals that they ended with."""
    levels, rows = pairs.views(pair, network.levels, network.net.multiple), []
    start = levels[0].start
    for number, view in enumerate(levels):
        if number:
            start = resample_field(start, levels[number - 1].space, view.space)
        g = LearnedForce(network.net, view, network.sigma).onward
        end = start
        with torch.no_grad():
            for _ in range(PLAIN):
                last, end = end, g(end)
        goal = float((end - last).norm() / end.norm())
        rules = Rules(MOST, goal, 0.0)
        for name in SOLVERS:
            found = find(g, start, build(FIXED_POINTS, name), rules, lambda share: True)
            rows.append(
                {
                    "level": number,
                    "solver": name,
                    "goal": goal,
                    "evaluations": found.steps,
                    "stopped": found.stopped,
                    "residual": min(found.residuals),
                }
            )
        start = end
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """By level and solver: mean evaluations, and how often the goal was reached."""
    table = Table("level", "solver", "evaluations", "reached", "residual, least", "goal", box=None)
    for level in sorted({row["level"] for row in rows}):
        for name in SOLVERS:
            own = [row for row in rows if (row["level"], row["solver"]) == (level, name)]
            mean = {
                key: sum(row[key] for row in own) / len(own)
                for key in ("evaluations", "residual", "goal")
            }
            reached = sum(row["stopped"] == "converged" for row in own)
            table.add_row(
                str(level),
                name,
                f"{mean['evaluations']:.1f}",
                f"{reached} of {len(own)}",
                f"{mean['residual']:.5f}",
                f"{mean['goal']:.5f}",
            )
    console.print(table)


if __name__ == "__main__":
    main()
