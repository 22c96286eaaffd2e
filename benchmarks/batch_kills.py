"""Whether a batch that is killed and resumed leaves what an uninterrupted one leaves.

    python benchmarks/batch_kills.py RUNS [--jobs 2] [--kills 5] [--data FOLDER] [register options]

24 pairs of real brains and heads, copies with voxels of 2 mm, three of them bad: a missing file, a
gzip cut short, a constant image. The batch runs once undisturbed; again, killed with -9 at random
moments and resumed; and on a Dask cluster of --jobs worker processes, one of which is killed while
it works. All with --deterministic. Every file must have the same hash, but the three that tell
seconds: of regcli.json the rest is compared, of regcli.log and report.html nothing.
"""

import argparse
import csv
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import SimpleITK as sitk
from verdicts import HEAD, PEOPLE, resampled

_TELL_SECONDS = ("regcli.log", "report.html", "regcli.json")
_OWN = ("seconds", "peak_memory_mb", "outputs", "command", "version")  # of regcli.json
_BRAINS = ("mni152_1mm_brain_T1w", "subject_brain_T1w", "subject_brain_T2w")
_BAD = ("missing", "corrupt", "constant")
_PYTHON = sys.executable


def prepare(runs: Path, data: Path) -> None:
    """Write the images and the table."""
    folder = runs / "images"
    folder.mkdir(parents=True, exist_ok=True)
    sources = {who: data / "brains" / f"oasis-{who}_T1w.nii.gz" for who in PEOPLE}
    sources |= {name: data / "heads" / f"{name}.nii.gz" for name in _BRAINS}
    for name, source in sources.items():
        copy = resampled(sitk.ReadImage(str(source), sitk.sitkFloat32), 2)
        sitk.WriteImage(copy, str(folder / f"{name}.nii.gz"))
    for name in (HEAD, "subject_2mm_T1w.nii.gz"):
        shutil.copy(data / "heads" / name, folder / name)
    whole = (folder / "a.nii.gz").read_bytes()
    (folder / "corrupt.nii.gz").write_bytes(whole[: len(whole) // 2])
    flat = sitk.ReadImage(str(folder / "a.nii.gz")) * 0 + 7
    sitk.WriteImage(flat, str(folder / "constant.nii.gz"))
    heads = (HEAD.removesuffix(".nii.gz"), "subject_2mm_T1w")
    groups = (tuple(PEOPLE), _BRAINS, heads)
    pairs = [pair for group in groups for pair in itertools.permutations(group, 2)]
    pairs += [("mni152_1mm_brain_T1w", "a"), *(("b", bad) for bad in _BAD)]
    random.Random(0).shuffle(pairs)
    rows = [f"images/{f}.nii.gz,images/{m}.nii.gz,{f}_{m}" for f, m in pairs]
    (runs / "pairs.csv").write_text("\n".join(["fixed,moving,out", *rows]) + "\n")


def command(out: str, *options: str) -> list[str]:
    """A batch into a folder."""
    start = [_PYTHON, "-m", "regcli", "batch", "pairs.csv", "-o", out, "--deterministic"]
    return [*start, "-q", *options]


def finish(runs: Path, line: list[str]) -> float:
    """Run a batch to its end, which must be exit code 7; returns seconds."""
    began = time.monotonic()
    done = subprocess.run(line, cwd=runs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert done.returncode == 7, done.stderr.decode()
    return time.monotonic() - began


def kill(runs: Path, line: list[str], out: Path, draw: random.Random) -> str:
    """Start a batch, and kill it and nothing else at a random moment; returns what was there.

    It is killed up to six seconds after up to four more results are there: while it starts, works,
    or writes.
    """
    before = len(list(out.glob("*/regcli.json")))
    wanted, pause = before + draw.randint(0, 4), draw.uniform(0, 6)
    began = time.monotonic()
    with subprocess.Popen(line, cwd=runs, stdout=subprocess.DEVNULL) as process:
        while len(list(out.glob("*/regcli.json"))) < wanted:
            assert process.poll() is None, "the batch ended before it was killed"
            time.sleep(0.05)
        time.sleep(pause)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    results = len(list(out.glob("*/regcli.json")))
    return f"killed after {time.monotonic() - began:.1f} s, {before} to {results} results"


def lose_a_worker(runs: Path, line: list[str], out: Path, rows: int) -> float:
    """Run a batch on Dask, and kill a worker of it once some rows are done; returns seconds."""
    began = time.monotonic()
    with subprocess.Popen(line, cwd=runs, stdout=subprocess.DEVNULL) as process:
        while len(list(out.glob("*/regcli.json"))) < rows:
            assert process.poll() is None, "the batch ended before a worker was killed"
            time.sleep(0.2)
        time.sleep(3)  # into the next row
        victim = busiest(process.pid)
        os.kill(victim, signal.SIGKILL)
        print(f"  killed worker {victim} after {time.monotonic() - began:.0f} s")
        assert process.wait() == 7
    return time.monotonic() - began


def busiest(parent: int) -> int:
    """The descendant of a process that has taken most time of a processor."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,cputimes="], capture_output=True, text=True)
    lines = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    family = {parent}
    for _ in range(5):
        family |= {pid for pid, ppid, _ in lines if ppid in family}
    return max((time_, pid) for pid, _, time_ in lines if pid in family - {parent})[1]


def contents(out: Path) -> dict[str, str]:
    """A hash of every file of every result, and of what regcli.json says but for seconds."""
    found = {}
    for path in sorted(out.glob("*/*")):
        name = str(path.relative_to(out))
        if path.name not in _TELL_SECONDS:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "regcli.json":
            record = json.loads(path.read_text())
            kept = {key: value for key, value in record.items() if key not in _OWN}
            found[name] = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    return found


def bad_rows(out: Path) -> list[tuple[str, str]]:
    """Exit code and cause of the rows that failed, as summary.csv has them."""
    with (out / "summary.csv").open(newline="") as file:
        return [(r["out"], r["cause"]) for r in csv.DictReader(file) if r["exit_code"] != "0"]


def main() -> None:
    """Run all three ways, and say whether they agree."""
    default = os.environ.get("REGCLI_DATA", "../shared/data")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=Path(default))
    known, options = parser.parse_known_args()
    runs, jobs = known.runs.resolve(), ("-j", str(known.jobs))
    prepare(runs, known.data.resolve())

    whole = finish(runs, command("whole", *jobs, *options))
    wanted = contents(runs / "whole")
    failed = bad_rows(runs / "whole")
    results = len(list((runs / "whole").glob("*/warp.nii.gz")))
    print(f"undisturbed: {whole:.0f} s, {results} results")
    for out, cause in failed:
        print(f"  {out}: {cause}")
    assert sorted(out for out, _ in failed) == sorted(f"b_{bad}" for bad in _BAD)
    assert len({name.split("/")[0] for name in wanted}) == 21

    draw = random.Random(known.seed)
    for n in range(known.kills):
        again = ("--resume",) if n else ()
        print("  " + kill(runs, command("killed", *jobs, *again, *options), runs / "killed", draw))
    finish(runs, command("killed", *jobs, "--resume", *options))
    print("killed and resumed:", _compared(wanted, contents(runs / "killed")))

    dask = command("dask", "--dask", f"local:{known.jobs}", *options)
    seconds = lose_a_worker(runs, dask, runs / "dask", 4)
    print(f"Dask, a worker killed: {seconds:.0f} s,", _compared(wanted, contents(runs / "dask")))


def _compared(wanted: dict[str, str], found: dict[str, str]) -> str:
    differ = [name for name in wanted | found if wanted.get(name) != found.get(name)]
    assert not differ, f"these differ: {differ}"
    return f"{len(found)} files, all with the same hash"


if __name__ == "__main__":
    main()
