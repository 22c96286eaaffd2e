"""Learn features with which an affine solver finds a square that it cannot see.

    python examples/toy_squares.py OUT/ [--steps 160] [--seed 0]

Each image shows one white square; an affine map shall bring the squares together. In half of the
pairs they do not meet: a small move changes no difference of intensities, and the solver is stuck.
A network learns features that the solver can follow, from nothing but how well the squares
coincide when it has finished. How does that loss reach the network, through the solver? The
solver minimises an energy E(theta; M, F) of moving and fixed features and ends where its gradient
g(theta*; M, F) = 0. Change the features a little: theta* moves so that g stays zero,
H dtheta* + dg = 0 with H = dg/dtheta. That is implicit differentiation,

    dtheta* = -H^-1 dg,

whichever way theta* was found: no step is remembered, none is undone. See `attach_gradient`.

OUT/ receives loss.png, landscape.png (the energy over translations) and toy_squares.csv. The task
is that of Jena et al., Deep implicit optimization, 2025 (4.1), at a quarter of its size.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional

CANVAS, REGION, SIDE = 64, 32, 8  # pixels: an image; its middle, where squares are; a square
LEVELS = (16, 8, 4, 2)  # pixels per feature, coarse to fine
BATCH, HELD_OUT = 8, 64  # pairs of each kind
KINDS = {"overlapping": True, "apart": False}

Pair = tuple[Tensor, Tensor]  # fixed and moving images, (B, 1, CANVAS, CANVAS) each
Features = Callable[[Tensor], list[Tensor]]  # images to maps (B, C, n, n), coarse to fine
Row = tuple[int, str, str, str, float]  # step, features, images, squares, mean soft-Dice loss


def draw(count: int, meet: bool, *, held_out: bool, generator: torch.Generator) -> Pair:
    """Pairs of squares that overlap by half or more along each axis, or that do not touch.

    Pairs whose four coordinates add up to a multiple of five are kept out of the training.
    """
    free, corners = REGION - SIDE, []
    while len(corners) < count:
        fixed, moving = torch.randint(free + 1, (2, 2), generator=generator)
        if meet:
            near = torch.randint(-SIDE // 2, SIDE // 2 + 1, (2,), generator=generator)
            moving = (fixed + near).clamp(0, free)
        apart = bool((moving - fixed).abs().max() > SIDE)
        if apart != meet and (int((fixed + moving).sum()) % 5 == 0) == held_out:
            corners.append(torch.stack([fixed, moving]))
    return paint(torch.stack(corners))


def paint(corners: Tensor) -> Pair:
    """Images of squares from their corners in the region: (B, 2 images, 2 axes)."""
    along = torch.arange(CANVAS) - corners[..., None] - (CANVAS - REGION) // 2
    i, j = ((along >= 0) & (along < SIDE)).float().unbind(2)
    images = i[..., None] * j[:, :, None]
    return images[:, :1], images[:, 1:]


class Net(nn.Module):
    """A U-Net without skips: a feature is made of what lies around, not of its own pixel."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 32, 32), channels: int = 4) -> None:
        super().__init__()
        up = (widths[-1], *widths[::-1])
        self.down = nn.ModuleList(map(_block, (1, *widths), widths))
        self.up = nn.ModuleList(map(_block, up, up[1:]))
        self.heads = nn.ModuleList(nn.Conv2d(n, channels, 3, padding=1) for n in up[1:])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps of images (B, 1, CANVAS, CANVAS), one per level."""
        x = 2 * image - 1
        for block in self.down:
            x = block(functional.avg_pool2d(x, 2))
        maps = []
        for block, head in zip(self.up, self.heads, strict=True):
            x = block(functional.interpolate(x, scale_factor=2.0, mode="bilinear") if maps else x)
            maps.append(head(x))
        return maps


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers = []
    for n in (inputs, outputs):
        layers += [nn.Conv2d(n, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


def pooled(image: Tensor) -> list[Tensor]:
    """Intensities on the network's levels, and at full size."""
    return [functional.avg_pool2d(image, level) for level in (*LEVELS, 1)]


def centres(n: int) -> Tensor:
    """(n * n, 3): (i, j, 1) of the points of an n x n map; the canvas spans -1 to 1."""
    line = (2 * torch.arange(n) + 1) / n - 1
    return torch.cartesian_prod(line, line, torch.ones(1))


def sample(maps: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear values (B, P, C) and their slopes (B, P, C, 2) at points (B, P, 2).

    Written out, so that autograd can differentiate the slopes as well, which is where g has its
    features. Beyond its outermost points a map goes on unchanged.
    """
    b, c, n, _ = maps.shape
    index = (points + 1) * n / 2 - 0.5
    low = index.detach().floor().clamp(0, n - 2)
    i, j = (index - low).clamp(0, 1).split(1, dim=2)
    within = (index - low == torch.cat([i, j], dim=2)) * n / 2  # d index / d point
    row = (low @ low.new_tensor([n, 1])).long() + n * n * torch.arange(b)[:, None]
    rows = maps.flatten(2).mT.reshape(-1, c)
    p00, p01, p10, p11 = (
        rows.index_select(0, (row + step).flatten()).view(b, -1, c) for step in (0, 1, n, n + 1)
    )
    top, bottom = p00 + j * (p01 - p00), p10 + j * (p11 - p10)
    right = (p01 - p00) + i * (p11 - p10 - p01 + p00)
    return top + i * (bottom - top), torch.stack([bottom - top, right], 3) * within[:, :, None]


def linearize(theta: Tensor, M: Tensor, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E = |r|^2 / 2, g = J^T r, H = J^T J of r(x) = M(theta x) - F(x), with J = dr/dtheta.

    What J^T J lacks of the Hessian is in proportion to r, small where the features match.

    theta, (B, 2, 3), takes (i, j, 1) of the fixed to (i, j) of the moving image; M and F are
    (B, C, n, n). Returns (B,), (B, 6) and (B, 6, 6).
    """
    x = centres(M.shape[-1]).to(M)
    value, slopes = sample(M, x @ theta.mT)
    r = (value - F.flatten(2).mT).flatten(1)  # (B, P * C)
    J = (slopes[..., None] * x[:, None, None]).flatten(3).flatten(1, 2)  # (B, P * C, 6)
    return r.square().sum(1) / 2, (r[:, None] @ J)[:, 0], J.mT @ J


def damped_solve(H: Tensor, g: Tensor, damping: Tensor) -> Tensor:
    """H^-1 g as (B, 2, 3); damping, (B,) or (), is relative to H's mean diagonal."""
    size = damping * H.diagonal(dim1=1, dim2=2).mean(1) + torch.finfo(H.dtype).tiny
    return torch.linalg.solve(H + size[:, None, None] * torch.eye(6).to(H), g).view(-1, 2, 3)


@torch.no_grad()
def minimise(theta: Tensor, M: Tensor, F: Tensor, iterations: int = 10) -> Tensor:
    """theta* by Levenberg-Marquardt: a step that does not lower E is made shorter, not taken."""
    damping = torch.full((len(M),), 1e-2).to(M)
    E, g, H = linearize(theta, M, F)
    for _ in range(iterations):
        trial = theta - damped_solve(H, g, damping)
        found = linearize(trial, M, F)
        gains = found[0] < E
        E, g, H, theta = (
            torch.where(gains.view(-1, *[1] * (old.dim() - 1)), new, old)
            for new, old in zip((*found, trial), (E, g, H, theta), strict=True)
        )
        damping = torch.where(gains, damping / 3, damping * 5).clamp(1e-4, 1e4)
    return theta


def attach_gradient(theta: Tensor, M: Tensor, F: Tensor, damping: float = 1e-2) -> Tensor:
    """theta* as it is, with dtheta* = -H^-1 dg as its derivative by the features.

    Only g has a graph. Backwards, autograd solves H p = dloss/dtheta, six equations, and pulls -p
    through g: the features are looked at once, however long the search was. Damping keeps quiet
    what the features leave open, such as the turn of a round blob.
    """
    _, g, H = linearize(theta, M, F)
    return theta - damped_solve(H.detach(), g - g.detach(), torch.tensor(damping).to(M))


def register(features: Features, pair: Pair) -> list[Tensor]:
    """theta* of every level, (B, 2, 3), each sought from the coarser one."""
    fixed, moving = (features(image) for image in pair)
    theta = torch.eye(2, 3).expand(len(pair[0]), 2, 3)
    found = []
    for M, F in zip(moving, fixed, strict=True):
        theta = minimise(theta, M, F)
        found.append(attach_gradient(theta, M, F))
    return found


def dice_loss(theta: Tensor, pair: Pair) -> Tensor:
    """1 - soft Dice of the fixed and the moved square, (B,)."""
    fixed, moving = pair
    a, b = sample(moving, centres(CANVAS) @ theta.mT)[0].flatten(1), fixed.flatten(1)
    return 1 - (2 * (a * b).sum(1) + 1e-5) / (a.sum(1) + b.sum(1) + 1e-5)


def train(net: Net, steps: int, seed: int, held_out: dict[str, Pair]) -> list[Row]:
    """Teach `net` by how well squares coincide; rows of every step and of held-out pairs."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, steps)
    rows = evaluate(0, "learned", net, held_out)
    for step in range(1, steps + 1):
        kinds = [draw(BATCH, m, held_out=False, generator=generator) for m in KINDS.values()]
        pair = torch.cat([k[0] for k in kinds]), torch.cat([k[1] for k in kinds])
        losses = torch.stack([dice_loss(theta, pair) for theta in register(net, pair)])
        optimizer.zero_grad()
        losses.mean().backward()  # of all levels
        optimizer.step()
        slower.step()
        for kind, loss in zip(KINDS, losses[-1].split(BATCH), strict=True):
            rows.append((step, "learned", "training", kind, loss.mean().item()))
        if step % 20 == 0 or step == steps:
            rows += evaluate(step, "learned", net, held_out)
            typer.echo(f"step {step} of {steps}: held-out loss {rows[-1][-1]:.3f}, squares apart")
    return rows


@torch.no_grad()
def evaluate(step: int, name: str, features: Features, held_out: dict[str, Pair]) -> list[Row]:
    """Rows of the finest level, one for each kind of pair."""
    losses = {kind: dice_loss(register(features, p)[-1], p) for kind, p in held_out.items()}
    return [(step, name, "held out", kind, x.mean().item()) for kind, x in losses.items()]


def landscape(M: Tensor, F: Tensor, shifts: Tensor) -> Tensor:
    """E of one pair with its moving square shifted by (i, j) pixels, (n, n); 1 at the middle."""
    theta = torch.eye(2, 3).repeat(len(shifts) ** 2, 1, 1)
    theta[:, :, 2] = -2 / CANVAS * torch.cartesian_prod(shifts, shifts)
    E = torch.cat([linearize(one[None], M, F)[0] for one in theta])
    return E.view(len(shifts), -1) / E[len(E) // 2]


@torch.no_grad()
def plot_landscapes(net: Net, path: Path) -> None:
    """The energy of a held-out pair of squares apart, of intensities and of features."""
    from matplotlib.figure import Figure

    fixed, moving = paint(torch.tensor([[[4, 3], [14, 19]]]))
    shifts = torch.arange(-20.0, 20.1, 2)
    raw, learned = ([f(image) for image in (moving, fixed)] for f in (pooled, net))
    figure = Figure((9, 7.4), layout="constrained")
    panels = [(maps, level) for level in (-1, 0) for maps in (raw, learned)]
    for axes, (maps, level) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        M, F = maps[0][level], maps[1][level]
        energy = landscape(M, F, shifts)
        figure.colorbar(axes.contourf(shifts, shifts, energy, 20), ax=axes, label="E / E at start")
        axes.plot(0, 0, "wo", mec="k", label="start")
        axes.plot(-16, -10, "r*", ms=14, mec="w", label="squares coincide")
        axes.set(xlabel="shift along j (pixels)", ylabel="shift along i (pixels)")
        name = "raw intensities" if maps is raw else "learned features"
        axes.set_title(f"{name}, grid of {M.shape[2]} x {M.shape[3]}")
        axes.invert_yaxis()
    figure.axes[0].legend(loc="lower right")
    figure.suptitle("What the solver sees: matching energy over shifts of the moving square")
    figure.savefig(path, dpi=80)


def plot_losses(rows: list[Row], path: Path) -> None:
    """Losses against steps, and as levels those of raw intensities."""
    from matplotlib.figure import Figure

    figure = Figure((10, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="training step", ylabel="soft-Dice loss (0: squares coincide)")
    for kind, colour in zip(KINDS, ("tab:blue", "tab:red"), strict=True):
        for images, style in (("held out", "o-"), ("training", ":")):
            own = [(row[0], row[4]) for row in rows if row[1:4] == ("learned", images, kind)]
            axes.plot(*zip(*own, strict=True), style, c=colour, label=f"{kind}: learned, {images}")
        for name, style in (("raw intensities", "--"), ("raw, coarse to fine", "-.")):
            level = next(row[4] for row in rows if row[1:4] == (name, "held out", kind))
            axes.axhline(level, ls=style, c=colour, label=f"{kind}: {name}")
    axes.set_title("One affine solver, on learned features and on intensities")
    axes.legend(ncols=2, loc=(0.2, 0.55))
    figure.savefig(path, dpi=80)


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the results.")],
    steps: Annotated[int, typer.Option(min=1, help="Of training; half a second each.")] = 160,
    seed: Annotated[int, typer.Option(help="Of the weights and of all pairs.")] = 0,
) -> None:
    """Learn features with which an affine solver finds a square that it cannot see."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    net = Net()
    other = torch.Generator().manual_seed(seed + 1)
    held_out = {k: draw(HELD_OUT, m, held_out=True, generator=other) for k, m in KINDS.items()}
    rows = evaluate(0, "raw intensities", lambda image: [image], held_out)
    rows += evaluate(0, "raw, coarse to fine", pooled, held_out)
    rows += train(net, steps, seed, held_out)
    with (out / "toy_squares.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "features", "images", "squares", "loss"), *rows])
    plot_losses(rows, out / "loss.png")
    plot_landscapes(net, out / "landscape.png")
    typer.echo(f"\nMean soft-Dice loss of {HELD_OUT} held-out pairs each   overlapping   apart")
    tested = [row for row in rows if row[2] == "held out" and row[0] in (0, steps)]
    for (step, features, *_, first), (*_, second) in zip(tested[::2], tested[1::2], strict=True):
        name = f"learned, {step} steps" if features == "learned" else features
        typer.echo(f"{name:47}{first:12.3f}{second:8.3f}")


if __name__ == "__main__":
    typer.run(main)
