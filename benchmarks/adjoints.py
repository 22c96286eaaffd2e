"""Adjoints against finite differences of whole solves: are the gradients right, at what cost?

    python benchmarks/adjoints.py [--json FILE]

Smooth random features on 24^3 voxels are matched to the end; a loss of the displacement is
differentiated by every adjoint, and by matching features changed a little either way. Printed:
the adjoint's derivative over the measured one, along the exact gradient and along a random smooth
change of the features; its cosine to the exact gradient, its length over that one's, and its cost.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from regcli.ops.filter import gaussian
from regcli.ops.match import Quadratic, exact_squares
from regcli.ops.newton import diffuse, solve
from regcli.ops.sample import sample
from regcli.registry import ADJOINTS, build
from regcli.solve.adjoint import Energy, unrolled
from regcli.solve.base import Problem
from regcli.solve.descent import Relaxation

SIZE, CHANNELS = 24, 4
NOISES = (0.0, 0.1)  # of the fixed features, whose deviation is 1
CHANGE = 0.005  # of the features, for differences
EXACT = "ift:iterations=300"
SPECS = (
    *("gn-ift", "gn-ift:iterations=40", "ift"),
    *("jfb", "phantom:steps=5", "phantom:steps=20", "phantom:steps=100"),
    *("unroll:steps=10", "unroll:steps=30", "unroll:steps=100"),  # the relaxation, with its graph
)
Features = tuple[Tensor, Tensor]  # moving and fixed, or what is added to them


@dataclass(frozen=True, eq=False)
class Case:
    """A pair of features and a loss <v, u> of its displacement.

    Attributes:
        features: (1, C, I, J, K) each.
        energy: Between them.
        start: Where solving starts, (1, 3, I, J, K) voxels.
        v: The loss's gradient, (1, 3, I, J, K).
    """

    features: Features
    energy: Energy
    start: Tensor
    v: Tensor


def main() -> None:
    """Print one table per level of noise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    path = parser.parse_args().json
    results = [measure(case(noise), noise) for noise in NOISES]
    for result in results:
        _show(result)
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def case(noise: float) -> Case:
    """Features and the same ones moved by a known displacement, plus noise as smooth as they."""
    moving, wave = smooth(CHANNELS, 0, 1.5), smooth(3, 1, 2.0)
    # all of it between voxels, where the slope of linear interpolation does not jump
    truth = 0.5 + 0.3 * wave / wave.abs().max()
    fixed = sample(moving, truth) + noise * smooth(CHANNELS, 2, 1.5)
    weight = torch.zeros(1, 1, SIZE, SIZE, SIZE)
    weight[:, :, 1:-1, 1:-1, 1:-1] = 1  # beyond the outermost voxels, the slope jumps too
    energy = Energy(weight, torch.full((3, 3), 0.05))
    v = smooth(3, 3, 1.5)
    return Case((moving, fixed), energy, torch.full_like(truth, 0.5), v / v.numel())


def smooth(channels: int, seed: int, sigma: float) -> Tensor:
    """Random, (1, channels, I, J, K), of deviation 1."""
    draw = torch.Generator().manual_seed(seed)
    x = gaussian(torch.randn(1, channels, SIZE, SIZE, SIZE, generator=draw), sigma)
    return x / x.std()


def optimum(features: Features, energy: Energy, start: Tensor) -> Tensor:
    """The displacement of least energy, as far as float32 goes, by the repository's solver."""
    moving, fixed = features

    def evaluate(u: Tensor) -> tuple[Tensor, Quadratic]:
        model = exact_squares(moving, fixed, u, energy.weight, energy.scale)
        return model.value + diffuse(u, energy.stiffness)[1], model

    problem = Problem(
        evaluate,
        lambda u, model, damping: solve(model, u, energy.stiffness, damping, 40),
        lambda u, step: u + 0.7 * step,
    )
    solution = Relaxation(steps=200, tol=1e-12).run(problem, start, lambda share: True)
    if not solution.converged:
        raise SystemExit("The solver did not converge, so there is nothing to compare with.")
    return solution.y


def measure(case: Case, noise: float) -> dict[str, Any]:
    """All adjoints on one case."""
    u = optimum(case.features, case.energy, case.start)
    exact, _ = gradient(case, u, EXACT)  # which also compiles the loops
    size = (_dot(exact, exact) / (2 * exact[0].numel())) ** 0.5
    directions = {
        "gradient": (exact[0] / size, exact[1] / size),
        "random": (smooth(CHANNELS, 4, 1.5), smooth(CHANNELS, 5, 1.5)),
    }
    measured = {name: difference(case, way, u) for name, way in directions.items()}
    rows = []
    for spec in SPECS:
        found, cost = gradient(case, u, spec)
        sizes = _dot(found, found) ** 0.5, _dot(exact, exact) ** 0.5
        row = {name: _dot(found, way) / measured[name] for name, way in directions.items()}
        row |= {"cosine": _dot(found, exact) / (sizes[0] * sizes[1]), "length": sizes[0] / sizes[1]}
        rows.append({"adjoint": spec, **row, **cost})
    moved = sample(case.features[0], u) - case.features[1]
    return {"noise": noise, "residual": float(moved.square().mean().sqrt()), "rows": rows}


def difference(case: Case, way: Features, u: Tensor) -> float:
    """The loss's derivative when the features go some way, from solves on both sides."""
    ends = []
    for sign in (1, -1):
        M, F = (f + sign * CHANGE * w for f, w in zip(case.features, way, strict=True))
        ends.append(float((optimum((M, F), case.energy, u) * case.v).sum(dtype=torch.float64)))
    return (ends[0] - ends[1]) / (2 * CHANGE)


def gradient(case: Case, u: Tensor, spec: str) -> tuple[Features, dict[str, float]]:
    """The loss's gradient for both features, and what it cost."""
    M, F = (f.clone().requires_grad_() for f in case.features)
    blocks = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        blocks[storage.data_ptr()] = storage  # kept, so that no address serves twice
        return t

    began = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        if spec.startswith("unroll"):
            steps = int(spec.partition("=")[2])
            found = unrolled(case.start, M, F, case.energy, steps=steps)
        else:
            found = build(ADJOINTS, spec).attach(u, M, F, case.energy)
        loss = (found * case.v).sum()
        attached = time.perf_counter()
        loss.backward()
    ended = time.perf_counter()
    assert M.grad is not None and F.grad is not None
    saved = sum(storage.nbytes() for storage in blocks.values())
    cost = {"attach_s": attached - began, "backward_s": ended - attached, "saved_mb": saved / 1e6}
    return (M.grad, F.grad), cost


def _dot(a: Features, b: Features) -> float:
    return sum(float((x * y).sum(dtype=torch.float64)) for x, y in zip(a, b, strict=True))


def _show(result: dict[str, Any]) -> None:
    names = ("adjoint", "gradient", "random", "cosine", "length", "forth s", "back s", "MB")
    title = f"noise {result['noise']:g}: a residual of {result['residual']:.3f} at the optimum"
    table = Table(*names, title=title, box=None, padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True
    for row in result["rows"]:
        ratios = (f"{row[name]:.3f}" for name in ("gradient", "random"))
        near = (f"{row['cosine']:.4f}", f"{row['length']:.3f}")
        cost = (f"{row['attach_s']:.3f}", f"{row['backward_s']:.3f}", f"{row['saved_mb']:.1f}")
        table.add_row(row["adjoint"], *ratios, *near, *cost)
    Console().print(table)


if __name__ == "__main__":
    main()
