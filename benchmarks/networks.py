"""What each network learns in the same time.

    python benchmarks/networks.py LABELS RUNS [--seconds S] [--networks unet,lku] [--json FILE]

LABELS is a folder of label maps, images are drawn from them at 4 mm. Every network is trained for S
seconds of processor time to tell structures apart, and scored by registrations of held-out pairs.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from adjoint_training import CHANNELS, PLAN, console, learn, score
from rich.table import Table

from regcli.io.cases import read_cohort
from regcli.registration.features.model import network
from regcli.train.checkpoint import read_facts
from regcli.train.data.subjects import read_subjects
from regcli.train.features.types import Types


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seconds", type=float, default=900, help="CPU seconds of each network")
    parser.add_argument("--networks", default="unet,lku")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    cohort = read_cohort(asked.labels, share=0.2, labels_only=True)
    subjects = read_subjects(cohort, synth=True, progress=lambda share: None)
    rows = [score("none", None, subjects, PLAN) | {"parameters": 0, "types": None}]
    for name in asked.networks.split(","):
        plan = replace(PLAN, network=name)
        best = learn(
            Types(subjects, plan), asked.runs / name.replace(":", "-"), asked.seconds, plan
        )
        size = sum(p.numel() for p in network(name, CHANNELS).parameters())
        rows.append(score(name, best, subjects, plan))
        rows[-1] |= {"parameters": size, "types": read_facts(best)["best"]}
    table = Table("network", "parameters", "steps", "Dice of types", "of registrations", box=None)
    for row in rows:
        types = "-" if row["types"] is None else f"{row['types']:.4f}"
        table.add_row(
            row["name"], f"{row['parameters']}", f"{row['steps']}", types, f"{row['dice']:.4f}"
        )
    console.print(table)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
