"""The interpreter of the other tests takes more than the compiler does; this needs no GPU."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

# every launch is replaced by compilation alone, with the types of its arguments
SCRIPT = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction


class Target:
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0


driver.set_active(Target())
run = JITFunction.run


def compile_only(self, *args, grid, warmup, **options):
    compiled = run(self, *args, grid=grid, warmup=True, **options)
    print(self.__name__, len(compiled.asm["ptx"]))


JITFunction.run = compile_only

from regcli.ops.backends.triton import correlation, field, filter, jacobian, match, sample

shape = (9, 10, 11)
u, x, f = torch.zeros(1, 3, *shape), torch.zeros(1, 1, *shape), torch.zeros(1, 12, *shape)
matrix = torch.eye(3, 4, dtype=torch.float64)
sample.pull(x, u)
sample.warp(f, matrix, u, shape, border=False)
sample.warp(x.bool(), matrix, None, shape, nearest=True)
sample.scatter(f, matrix, u, shape)
field.compose(u, u)
field.invert(u)
jacobian.determinants(u)
jacobian.least(u)
filter.separable(x, (torch.ones(3), torch.ones(1), torch.ones(1)), True)
match.central(f, f.half(), u, x, 1.0)
match.central(f.byte(), f.byte(), u, x, 1.0)
match.exact(f.half(), f.bfloat16(), u, x, 0.5)
correlation.derivatives(x, x, x, 1, 1e-3)
"""
KERNELS = """
_pull _warp _scatter _compose _invert _determinants _least _along _central _exact
_products _coefficients _spread _slopes
"""


@pytest.mark.slow
def test_every_kernel_compiles_for_an_nvidia_gpu(tmp_path):
    env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    env.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == set(KERNELS.split())
