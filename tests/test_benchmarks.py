"""The benchmarks run, and compare loops with what they claim to compare."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

SHAPE = (12, 10, 9)


def _load(name):
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


kernels = _load("kernels")


@pytest.mark.parametrize("case", kernels.cases(SHAPE, 4), ids=lambda case: case.name)
def test_every_loop_and_its_plain_form_run(case):
    with torch.no_grad():
        fast, plain = case.loop(), case.plain()
    alike = ("compose", "determinant", "exponentiate", "gauss", "transpose")
    if case.name.startswith(alike):
        torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)
    if case.name.startswith("warp"):
        torch.testing.assert_close(fast[0], plain, atol=1e-4, rtol=1e-4)


def test_the_bandwidth_is_that_of_a_machine():
    assert 1e8 < kernels.bandwidth(1 << 20) < 1e13


def test_an_equilibrium_is_trained_in_constant_memory_and_unrolled_steps_are_not():
    memory = _load("step_memory")
    kept = {
        way: [memory.measure(way, steps, "update", 17)["saved_mb"] for steps in (4, 8)]
        for way in memory.WAYS
    }
    assert kept["equilibrium"][0] == kept["equilibrium"][1]
    assert kept["unrolled"][1] > 1.8 * kept["unrolled"][0] > 1.8 * kept["equilibrium"][0]
