"""A picture of a training: loss and score over steps, one column per task."""

import csv
from itertools import groupby
from pathlib import Path

_SMOOTH = 0.02  # of a task's steps: how many losses are averaged


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
    tasks = [(name, list(group)) for name, group in groupby(rows, key=lambda row: row["task"])]
    figure = Figure(figsize=(5 * max(len(tasks), 1), 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, max(len(tasks), 1), squeeze=False)
    for column, (name, own) in enumerate(tasks):
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
