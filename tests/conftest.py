"""Fixtures that all tests share."""

import os
from pathlib import Path

# Threads that wait by spinning make the suite three times slower on a busy machine; torch's
# OpenMP reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Workers share the cores; those that each take all of them need a tenth more time.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import compilation
import pytest
import torch
from scipy.spatial.transform import Rotation

from regcli.image import Space


def _space(shape, steps, degrees=0.0, origin=(-20.0, 13.0, 7.0)):
    """A grid whose axes are scaled by `steps` mm (negative: flipped) and turned together."""
    affine = torch.eye(4, dtype=torch.float64)
    turn = Rotation.from_euler("xyz", (degrees, -0.6 * degrees, 0.8 * degrees), degrees=True)
    affine[:3, :3] = torch.from_numpy(turn.as_matrix()) @ torch.diag(torch.tensor(steps).double())
    affine[:3, 3] = torch.tensor(origin)
    return Space(shape, affine)


SPACES = {
    "RAS": _space((26, 28, 24), (2.0, 2.0, 2.0)),
    "LAS": _space((28, 26, 24), (-2.0, 2.0, 2.0)),
    "LPS": _space((24, 28, 26), (-2.0, -2.0, 2.0)),
    "oblique": _space((26, 24, 28), (1.8, -1.9, 2.1), degrees=25.0),
    "anisotropic": _space((30, 28, 24), (1.2, 1.5, 2.6)),
    "odd": _space((25, 31, 27), (2.1, 1.7, 1.9)),
}


@pytest.fixture(params=SPACES)
def space(request):
    """Grids that break code which forgets a flip, a rotation, a spacing or an odd size."""
    return SPACES[request.param]


@pytest.fixture
def data():
    """Folder of real images."""
    default = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("REGCLI_DATA", default)).resolve()
    if not folder.is_dir():
        # others' scans are not part of the repository: CI has them, a fresh clone need not
        pytest.skip(f"no real data at {folder}; set REGCLI_DATA")
    return folder


def pytest_configure():
    """Not when imported: tests import this file once more, for SPACES."""
    compilation.share()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Draw the same numbers in every run: before fixtures, which may draw some."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items):
    """Skip what needs CUDA, with the reason, where there is none; let workers begin apart."""
    items[:] = compilation.deal(items, int(workers or 1))
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA on this machine"))
