"""train_types: a network learns to tell the types of label maps apart in images drawn from them."""

import csv
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from regcli.evaluate.metrics import dice
from regcli.models.prepare import FOREGROUND
from regcli.nets.base import FeatureNet
from regcli.registry import NETWORKS, resolve
from regcli.train.anatomy import Anatomy, Vocabulary
from regcli.train.losses import segmentation_loss
from regcli.train.plan import TrainPlan
from regcli.train.state import Averaged, read_state, write_state, write_tensors
from regcli.train.synth import Drawing, draw, generator_of

_COLUMNS = ["step", "loss", "gradient", "dice"]
_VALIDATION = 1 << 20  # steps from here on draw what is validated: no training step sees it


@dataclass(frozen=True, eq=False)
class Subjects:
    """Whom to learn from and whom to be tested on.

    Attributes:
        words: The vocabulary of all.
        training: Anatomies.
        validation: Others.
    """

    words: Vocabulary
    training: list[Anatomy]
    validation: list[Anatomy]


def train_types(
    subjects: Subjects,
    plan: TrainPlan,
    run: Path,
    going: Callable[[], bool],
    tell: Callable[[str], None],
) -> Path:
    """Train, or go on where `run` left off; returns the best weights' path.

    Args:
        subjects: Label maps.
        plan: What to do; of a run that goes on, the same as before.
        run: Folder for last.safetensors, best.safetensors and train.csv.
        going: Asked before every step; False ends the run, which can then be resumed.
        tell: Takes a line about every validation.

    Returns:
        best.safetensors in `run`, which is there after the first validation.
    """
    torch.manual_seed(plan.seed)
    net = _network(plan, subjects.words)
    net.train()
    averaged = Averaged(net, plan.average)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=plan.decay
    )
    facts = {"step": 0, "best": 0.0, "seconds": 0.0, "plan": dataclasses.asdict(plan)}
    last, best, log = (run / name for name in ("last.safetensors", "best.safetensors", "train.csv"))
    if last.exists():
        facts = read_state(last, net, averaged, optimizer)
    _forget(log, facts["step"])
    drawing = Drawing(spacing_mm=plan.spacing_mm, shape=plan.shape)
    began, rows = time.monotonic() - facts["seconds"], []
    for step in range(facts["step"], plan.steps):
        if not going():
            break
        loss, norm = _learn(net, optimizer, subjects, plan, drawing, step)
        averaged.update(net, step)
        rows.append([step, f"{loss:.5f}", f"{norm:.3f}", ""])
        if (step + 1) % plan.validate_every == 0 or step + 1 == plan.steps:
            score = validate(averaged, subjects, plan, drawing)
            seconds = time.monotonic() - began
            rows[-1][-1] = f"{score:.4f}"
            facts |= {"step": step + 1, "seconds": seconds, "best": max(score, facts["best"])}
            if score == facts["best"]:
                write_tensors(best, averaged.values, facts)
            _append(log, rows)  # before the state: rows too many are forgotten, lost ones are lost
            write_state(last, net, averaged, optimizer, facts)
            rows = []
            tell(f"step {step + 1}: Dice of types {score:.4f}, {seconds:.0f} s")
    return best


def _learn(
    net: FeatureNet,
    optimizer: torch.optim.Optimizer,
    subjects: Subjects,
    plan: TrainPlan,
    drawing: Drawing,
    step: int,
) -> tuple[float, float]:
    """One step of the optimizer, on the sample that the step's number decides: loss, gradient."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(plan, step)
    generator = generator_of(plan.seed, step)
    who = int(torch.randint(len(subjects.training), (), generator=generator))
    sample = draw(subjects.training[who], subjects.words, drawing, generator)
    loss = segmentation_loss(net(sample.image, sample.image > FOREGROUND), sample.types)
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), plan.clip)
    optimizer.step()
    return float(loss.detach()), float(norm)


def learning_rate(plan: TrainPlan, step: int) -> float:
    """Of a step, counted from 0."""
    rise = min(1.0, (step + 1) / plan.warmup)
    return plan.rate * rise * 0.5 * (1 + math.cos(math.pi * step / plan.steps))


def validate(averaged: Averaged, subjects: Subjects, plan: TrainPlan, drawing: Drawing) -> float:
    """Mean Dice of the types over images of the validation anatomies, always the same ones."""
    net = _network(plan, subjects.words)
    net.load_state_dict(averaged.values)
    net.eval()
    scores = []
    with torch.no_grad():
        for n in range(4 * len(subjects.validation)):
            who = subjects.validation[n % len(subjects.validation)]
            sample = draw(who, subjects.words, drawing, generator_of(0, _VALIDATION + n))
            found = net(sample.image, sample.image > FOREGROUND)[-1].argmax(dim=1)
            overlap = dice(sample.types[0, 0], found[0])
            scores.append(sum(overlap.values()) / max(len(overlap), 1))
    return sum(scores) / max(len(scores), 1)


def _network(plan: TrainPlan, words: Vocabulary) -> FeatureNet:
    target, options = resolve(NETWORKS, plan.network)
    return target(words.count, **options)


def _append(log: Path, rows: list[list]) -> None:
    new = not log.exists()
    with log.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_COLUMNS, *rows] if new else rows)


def _forget(log: Path, step: int) -> None:
    """Keep the rows of the first steps, one each: a kill leaves more, and maybe a torn one."""
    if not log.exists():
        return
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    aside = log.with_name(log.name + ".part")
    with aside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_COLUMNS, *rows[:step]])
    aside.replace(log)
