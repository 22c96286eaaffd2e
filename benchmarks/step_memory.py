"""What training of steps holds in memory: constant for an equilibrium, rising where unrolled.

    python benchmarks/step_memory.py [--network NAME] [--size N] [--json FILE]

A pair of random images is registered by T steps and their training losses are passed back: as an
equilibrium (three states and the last, two phantom steps each, one after another) and unrolled.
Printed: bytes that autograd keeps at most, each storage once, and by how much the process grew at
its largest, each in a process of its own; on a GPU also what was allocated there at most.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from saved import Saved

from regcli.image import Space
from regcli.registration.equilibrium.force import LearnedForce, View, march
from regcli.registration.equilibrium.model import step_network
from regcli.solve.step_adjoint import PhantomSteps, trajectory
from regcli.train.losses import map_loss

WAYS = ("equilibrium", "unrolled")
STEPS = (4, 8, 12, 16, 32, 48)
STATES, PHANTOM, GAMMA, SIGMA = 3, 2, 0.5, 0.6
console = Console()


def main() -> None:
    """Measure every point in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="guided")
    parser.add_argument("--size", type=int, default=49, help="voxels along each axis")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        print(json.dumps(measure(asked.point[0], int(asked.point[1]), asked.network, asked.size)))
        return
    rows = []
    for steps in STEPS:
        for way in WAYS:
            own = [sys.executable, __file__, "--point", way, str(steps)]
            own += ["--network", asked.network, "--size", str(asked.size)]
            told = subprocess.run(own, check=True, capture_output=True, text=True).stdout
            rows.append({"way": way, "steps": steps} | json.loads(told))
    show(rows)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(way: str, steps: int, network: str, size: int) -> dict[str, Any]:
    """One point: megabytes that autograd kept, that the process grew by, that a GPU held."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = step_network(network).to(device).train()
    view, tiny = (pair(n, device) for n in (size, 17))
    learn("equilibrium", STATES + 1, net, tiny)  # what libraries take for themselves is not ours
    before = _peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with Saved(*net.parameters(), view.fixed, view.moving) as saved:
        learn(way, steps, net, view)
    return {
        "saved_mb": saved.most / 1e6,
        "grown_mb": _peak() - before,
        "cuda_mb": torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else None,
    }


def pair(size: int, device: torch.device) -> View:
    """Two random images."""
    fixed, moving = (torch.rand(1, 1, size, size, size, device=device) for _ in range(2))
    return View(Space((size, size, size), torch.eye(4, dtype=torch.float64)), fixed, moving)


def learn(way: str, steps: int, net: Any, view: View) -> None:
    """The gradients of one pair."""
    net.zero_grad()
    if way == "unrolled":
        *_, u = march(net, [view], steps, SIGMA)
        map_loss(view.fixed, view.moving, u, view.shown, 0.1).backward()
        return
    g = LearnedForce(net, view, SIGMA).onward
    *visited, last = trajectory(g, view.start, steps, STATES)
    for state, weight in (*((v, GAMMA) for v in visited), (last, 1.0)):
        u = PhantomSteps(PHANTOM, 1.0).attach(g, state)
        (weight * map_loss(view.fixed, view.moving, u, view.shown, 0.1)).backward()


def _peak() -> float:
    """Most memory that this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def show(rows: list[dict[str, Any]]) -> None:
    """Print, and say how much the unrolled way takes more."""
    table = Table("steps", "kept, MB", "unrolled", "ratio", "grown, MB", "unrolled", box=None)
    for steps in STEPS:
        one, other = (next(r for r in rows if (r["way"], r["steps"]) == (w, steps)) for w in WAYS)
        ratio = f"{other['saved_mb'] / one['saved_mb']:.1f}"
        kept = (f"{r['saved_mb']:.0f}" for r in (one, other))
        grown = (f"{r['grown_mb']:.0f}" for r in (one, other))
        table.add_row(str(steps), *kept, ratio, *grown)
    console.print(table)


if __name__ == "__main__":
    main()
