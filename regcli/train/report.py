"""The card of trained weights: what they came from, how, how good they are, and their limits."""

import csv
import os
import platform
import shlex
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

import regcli
from regcli.train.training import training_of

_SMOOTH = 0.02  # of a task's steps: how many losses are averaged


def environment() -> dict[str, str]:
    """On what a training runs."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "regcli": regcli.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "threads": str(torch.get_num_threads()),
        "gpu": gpu,
    }


def card(record: dict[str, Any], facts: dict[str, Any]) -> str:
    """Markdown.

    Args:
        record: What train.json holds.
        facts: What the header of the weights says.
    """
    plan = record["plan"]
    summary = training_of(plan["model"]).summary(plan)
    drawn = "images drawn from label maps" if record["synth"] else "images"
    if parts := record.get("collections"):
        kinds = (f"{p['folder']}, {'drawn' if p['synth'] else 'as they are'}" for p in parts)
        drawn = "; ".join(kinds)
    start = facts.get("start")
    begun = f"from {start} on, whose data and licence count too: " if start else ""
    lines = [
        f"# Weights of {summary.title}",
        "",
        f"- **Data**: {len(record['training'])} training cases ({drawn}), "
        f"{len(record['validation'])} held out: {', '.join(record['validation'])}.",
        "- **Licence**: that of the data; say here what it allows.",
        f"- **Recipe**: {begun}{summary.course} (adjoint {plan['adjoint']}); "
        f"batch {plan['batch']}, {plan['spacing_mm']:g} mm, "
        f"{'x'.join(map(str, plan['shape']))} voxels, {plan['precision']}; "
        "all of it in train.json and in the file's header. "
        f"Begun by `{shlex.join(record['command'])}`.",
        f"- **Seed**: {plan['seed']}.",
        f"- **Hardware and time**: {_listed(record['environment'])}; "
        f"{facts['seconds'] / 60:.0f} minutes.",
        f"- **Held-out result**: {summary.scores[facts['task']]}: {facts['best']:.4f}, after step "
        f"{facts['step']} of {facts['task']}.",
        f"- **Limits**: made for images like the training data; {summary.limits}.",
        "",
        (f"Channels: {facts['channels']}. " if "channels" in facts else "")
        + f"Voxel size: {facts['spacing_mm']:g} mm.",
    ]
    return "\n".join(lines) + "\n"


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def draw_losses(log: Path, path: Path) -> None:
    """Draw train.csv.

    Args:
        log: Of `train.loop`.
        path: PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not log.exists():
        return
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    objectives = [(name, list(group)) for name, group in groupby(rows, key=lambda row: row["task"])]
    figure = Figure(figsize=(5 * max(len(objectives), 1), 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, max(len(objectives), 1), squeeze=False)
    for column, (name, own) in enumerate(objectives):
        steps = [int(row["step"]) for row in own]
        losses = [float(row["loss"]) for row in own]
        width = max(1, round(_SMOOTH * len(losses)))
        parts = [losses[max(0, n - width) : n + 1] for n in range(len(losses))]
        axes[0, column].plot(steps, losses, color="0.8", linewidth=0.5)
        axes[0, column].plot(steps, [sum(part) / len(part) for part in parts], color="C0")
        axes[0, column].set(title=name, xlabel="step", ylabel="loss")
        scored = [(int(row["step"]), float(row["score"])) for row in own if row["score"]]
        axes[1, column].plot(*zip(*scored, strict=True), marker=".") if scored else None
        axes[1, column].set(xlabel="step", ylabel="held-out score")
    aside = path.with_name(path.name + ".part")
    figure.savefig(aside, format="png", dpi=100)
    aside.replace(path)
