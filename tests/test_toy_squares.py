"""The toy square experiment runs, learns, and its gradient is that of the whole solve."""

import csv
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "examples/toy_squares.py"


@pytest.fixture(scope="module")
def toy():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def features(toy):
    """Smooth moving and fixed maps that match under an affine map but for a little noise."""
    moving = torch.nn.functional.interpolate(random(2, 3, 4, 4, seed=0), (12, 12), mode="bicubic")
    truth = torch.tensor([[1.05, 0.08, 0.1], [-0.06, 0.95, -0.07]], dtype=torch.float64)
    value, _ = toy.sample(moving, (toy.centres(12).double() @ truth.mT).expand(2, -1, -1))
    return moving, value.mT.reshape(2, 3, 12, 12) + 0.01 * random(2, 3, 12, 12, seed=1)


def converged(toy, M, F):
    theta = toy.minimise(torch.eye(2, 3, dtype=M.dtype).expand(len(M), 2, 3), M, F, 60)
    _, g, H = toy.linearize(theta, M, F)
    assert (g.norm(dim=1) < 1e-6 * H.diagonal(dim1=1, dim2=2).sum(1)).all()
    return theta


def test_the_implicit_gradient_is_that_of_the_whole_solve(toy, features):
    v, h = random(2, 2, 3, seed=2), 1e-4
    M, F = (x.clone().requires_grad_() for x in features)
    theta = converged(toy, M, F)
    attached = toy.attach_gradient(theta, M, F, damping=1e-9)
    assert attached.equal(theta)
    (v * attached).sum().backward()
    for seed in range(3, 7):
        toward = [random(*M.shape, seed=seed), random(*M.shape, seed=-seed)]
        predicted = (M.grad * toward[0]).sum() + (F.grad * toward[1]).sum()
        ahead, behind = (
            (v * converged(toy, M + s * toward[0], F + s * toward[1])).sum() for s in (h, -h)
        )
        torch.testing.assert_close((ahead - behind) / (2 * h), predicted, rtol=0.02, atol=0)


def test_slopes_are_derivatives_of_values(toy):
    maps = random(2, 3, 6, 6, seed=0)
    points = (0.5 * random(2, 20, 2, seed=1)).requires_grad_()
    value, slopes = toy.sample(maps, points)
    w = random(*value.shape, seed=2)
    (w * value).sum().backward()
    torch.testing.assert_close(points.grad, (w[..., None] * slopes).sum(2))


def test_squares_meet_by_half_or_not_at_all(toy):
    for meet in (True, False):
        generator = torch.Generator().manual_seed(0)
        fixed, moving = toy.draw(20, meet, held_out=True, generator=generator)
        assert (fixed.sum((1, 2, 3)) == toy.SIDE**2).all()
        common = (fixed * moving).sum((1, 2, 3))
        assert (common >= toy.SIDE**2 / 4).all() if meet else (common == 0).all()


@pytest.mark.slow
def test_the_script_learns_and_writes_its_results(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(toy.main.__globals__, "HELD_OUT", 16)
    toy.main(tmp_path, steps=10)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    for name in ("loss.png", "landscape.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "toy_squares.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["images"] == "held out"]
    loss = {(r["features"], r["squares"], int(r["step"])): float(r["loss"]) for r in rows}
    assert loss["raw intensities", "apart", 0] > 0.95
    assert loss["learned", "apart", 0] > 0.9
    assert loss["learned", "apart", 10] < 0.7
    assert loss["learned", "overlapping", 10] < 0.7 * loss["learned", "overlapping", 0]
