"""All benchmarks: loops, whole registrations, growth with size, threads.

    python benchmarks/run.py [--quick]

Prints tables and writes benchmarks/results/MACHINE-DATE.json. Real scans come from REGCLI_DATA.
"""

import argparse
import datetime
import itertools
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import kernels
import registrations
import torch
from rich.console import Console
from rich.table import Table

import regcli

SHAPES = ((80, 96, 112), (160, 192, 224), (20, 24, 28), (256, 256, 1))
SPACINGS = (2.8, 2.0, 1.4, 1.0)
console = Console()


def main() -> None:
    """Run everything and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="loops on the small shape only")
    quick = parser.parse_args().quick
    threads = torch.get_num_threads()
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "regcli": regcli.__version__,
        "torch": torch.__version__,
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "threads": threads},
        "kernels": [row for shape in SHAPES[: 1 if quick else None] for row in _kernels(shape)],
    }
    if not quick:
        results["registrations"] = _registrations(threads)
        results["growth"] = _growth(threads)
        results["first_use_s"] = _first_use(threads)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    name = f"{_processor().lower().replace(' ', '-')}-{os.cpu_count()}-{results['date']}.json"
    (folder / name).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {folder / name}")


def _kernels(shape: kernels.Shape) -> list[dict[str, Any]]:
    speed = kernels.bandwidth()
    title = f"{'x'.join(map(str, shape))}, copying at {speed / 1e9:.1f} GB/s"
    table = Table("loop", "ms", "x floor", "torch ms", "times faster", title=title, box=None)
    rows = []
    with torch.no_grad():
        for case in kernels.cases(shape):
            fast, plain = kernels.seconds(case.loop), kernels.seconds(case.plain, repeats=2)
            floor = case.volumes * shape[0] * shape[1] * shape[2] * 4 / speed
            rows.append({"shape": shape, "loop": case.name, "s": fast, "floor_s": floor})
            rows[-1] |= {"torch_s": plain}
            numbers = (1e3 * fast, fast / floor, 1e3 * plain, plain / fast)
            table.add_row(case.name, *(f"{n:.1f}" for n in numbers))
    console.print(table)
    return rows


def _registrations(threads: int) -> list[dict[str, Any]]:
    rows = []
    for name, (fixed, moving) in registrations.real().items():
        for n in sorted({1, threads}):
            rows.append(registrations.register(name, fixed, moving, n))
    _show("whole registrations", rows)
    return rows


def _growth(threads: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for spacing in SPACINGS:
            pair = registrations.phantom(spacing, Path(folder))
            rows.append(registrations.register(f"phantom, {spacing:g} mm", *pair, threads))
    _show("growth with size", rows)
    for small, large in itertools.pairwise(rows):
        volume = large["voxels"] / small["voxels"]
        time = large["seconds"]["total"] / small["seconds"]["total"]
        console.print(f"{volume:.2f} times the voxels: {time:.2f} times the time")
    return rows


def _first_use(threads: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        pair = registrations.phantom(max(SPACINGS), Path(folder))
        seconds = registrations.first_use(*pair, threads)
    console.print(f"the first run of all takes {seconds:.0f} s more: it compiles the loops")
    return seconds


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    parts = ("read", "linear", "solve", "write")
    names = ("pair", "threads", "wall", "CPU", "MB", *parts, "lncc", "folds")
    table = Table(*names, title=f"{title}, seconds", box=None, padding=(0, 1, 0, 0))
    for row in rows:
        times = (f"{row['seconds'][part]:.1f}" for part in parts)
        totals = (f"{row['wall_s']:.1f}", f"{row['cpu_s']:.1f}", f"{row['peak_mb']}")
        end = (f"{row['similarity']:.3f}", f"{row['folds']}")
        table.add_row(row["pair"], f"{row['threads']}", *totals, *times, *end)
    console.print(table)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


if __name__ == "__main__":
    main()
