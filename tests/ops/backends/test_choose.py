"""Calls go to the body that serves them; a whole registration works with the GPU's bodies."""

import os
from dataclasses import replace

import phantoms
import pytest
import torch

from regcli.image import Space
from regcli.ops import (
    correlation,
    field,
    filter,
    histogram,
    jacobian,
    match,
    mind,
    newton,
    sample,
    twogrid,
)
from regcli.ops.backends import choose
from regcli.recipe import RegisterRecipe
from regcli.registration.pipeline import register
from regcli.transforms import unfold

if not torch.cuda.is_available():  # before anybody imports triton
    os.environ.setdefault("TRITON_INTERPRET", "1")

MODULES = (correlation, field, filter, histogram, jacobian, match, mind, newton, sample, twogrid)
SPACE = Space((7, 8, 6), torch.diag(torch.tensor([5.0, 5.0, 6.0, 1.0])).double())
RECIPE = RegisterRecipe(
    init="none",
    metric=("lncc:radius=1", "mind:weight=0.3"),
    regularizer=("diffusion",),  # volume has loops of the processor alone, and takes other steps
    levels=(1,),
)


def test_gradients_go_to_torch_and_tensors_of_the_processor_to_its_loops():
    x = torch.zeros(3)
    assert choose.backend(x, None) == "numba"
    assert choose.backend(x, x.clone().requires_grad_()) == "reference"
    assert choose.backend(torch.zeros(3, device="meta")) == "reference"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU's own tests are nearer the truth")
def test_a_registration_by_the_backend_of_the_gpu_is_that_of_the_processor(monkeypatch):
    pytest.importorskip("triton")
    pair = phantoms.pair(SPACE)
    recipe = replace(RECIPE, iterations=(1,))
    wanted = register(pair.fixed, pair.moving, recipe)
    assert bool((wanted.warp.displacement != 0).any())
    called = []

    def there(*tensors):
        given = [t for t in tensors if t is not None]
        return "reference" if any(t.requires_grad for t in given) else "triton"

    def loaded(name):
        called.append(name)
        return choose.triton(name)

    for module in MODULES:
        monkeypatch.setattr(module, "backend", there)
        monkeypatch.setattr(module, "triton", loaded, raising=False)
    monkeypatch.setattr(unfold, "_asks", lambda y: False)
    monkeypatch.setattr(unfold, "_REPAIRS", unfold._REPAIRS[1:3])  # the interpreter is slow
    found = register(pair.fixed, pair.moving, recipe)
    assert set(called) == {"correlation", "field", "filter", "jacobian", "match", "sample"}
    gap = (found.warp.displacement - wanted.warp.displacement).norm(dim=1)
    moved = wanted.warp.displacement.norm(dim=1)
    assert float(gap.max()) < 0.01 * float(moved.max())
    traces = [[t.solution.residuals for t in r.traces] for r in (found, wanted)]
    for one, other in zip(*traces, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
