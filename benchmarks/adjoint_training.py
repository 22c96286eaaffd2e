"""What training through the solver adds, by adjoint, to as much more of the warm start.

    python benchmarks/adjoint_training.py LABELS RUNS [--warm S] [--more S] [--json FILE]

LABELS is a folder of label maps, images are drawn from them at 4 mm. One warm start of S seconds of
processor time; from its weights, each for S more: the same again, and pairs by each adjoint.
Every network is scored alike: mean Dice of the types over registrations of held-out pairs.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from regcli.io.cases import read_cohort
from regcli.registration.features.model import network
from regcli.train.checkpoint import read_facts, read_weights
from regcli.train.data.subjects import Subjects, read_subjects
from regcli.train.features.pairs import Pairs
from regcli.train.features.types import Types
from regcli.train.loop import Callbacks, train
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan

STEPS = 100_000  # more than fit into the time: rates stay near their highest
PLAN = TrainPlan(
    spacing_mm=4.0, shape=(49, 49, 49), warm_steps=STEPS, steps=STEPS, validate_every=25
)
SPECS = ("gn-ift", "jfb", "phantom:steps=5")
CHANNELS = 18  # of the types of FreeSurfer's codes
console = Console()


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--warm", type=float, default=1200, help="CPU seconds")
    parser.add_argument("--more", type=float, default=600, help="CPU seconds")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    cohort = read_cohort(asked.labels, share=0.2, labels_only=True)
    subjects = read_subjects(cohort, synth=True, progress=lambda share: None)
    rows = [score("no network", None, subjects, PLAN)]
    warm = learn(Types(subjects, PLAN), asked.runs / "warm", asked.warm, PLAN)
    rows.append(score("warm start", warm, subjects, PLAN))
    todo: dict[str, Objective[Any]] = {"types": Types(subjects, replace(PLAN, warm_rate=PLAN.rate))}
    for spec in SPECS:
        todo[spec] = Pairs(subjects, replace(PLAN, adjoint=spec))
    for name, objective in todo.items():
        run = asked.runs / name.replace(":", "-")
        best = learn(objective, run, asked.more, PLAN, warm)
        rows.append(score(f"+ {name}", best, subjects, PLAN))
    table = Table(
        "training", "steps", "s", "Dice", title="registrations of held-out pairs", box=None
    )
    for row in rows:
        table.add_row(row["name"], f"{row['steps']}", f"{row['s']:.0f}", f"{row['dice']:.4f}")
    console.print(table)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def learn(
    objective: Objective[Any], run: Path, seconds: float, plan: TrainPlan, start: Path | None = None
) -> Path:
    """The best weights after this much training, from others or from random ones."""
    run.mkdir(parents=True)
    end = time.process_time() + seconds  # whatever else the machine does
    callbacks = Callbacks(
        lambda: time.process_time() < end, console.print, lambda name, share: None
    )
    facts = {"channels": CHANNELS, "network": plan.network}
    begun = read_weights(start) if start else None
    return train(
        [objective], lambda: network(plan.network, CHANNELS), facts, plan, run, callbacks, begun
    )


def score(name: str, weights: Path | None, subjects: Subjects, plan: TrainPlan) -> dict[str, Any]:
    """Mean Dice of held-out registrations with these weights; None is the untrained method."""
    net = network(plan.network, CHANNELS).eval()
    facts = {"step": 0, "seconds": 0.0}
    if weights is None:
        plan = replace(plan, gains=(0.0, 0.0, 0.0))
    else:
        net.load_state_dict(read_weights(weights))
        facts = read_facts(weights)
    with torch.no_grad():
        dice, _ = Pairs(subjects, plan).validate(net)
    return {"name": name, "steps": facts["step"], "s": facts["seconds"], "dice": dice}


if __name__ == "__main__":
    main()
