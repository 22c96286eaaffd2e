"""The grids that image files are tested on."""

import numpy as np
import pytest
from imagefiles import GRIDS


@pytest.fixture(params=GRIDS)
def grid(request: pytest.FixtureRequest) -> tuple[tuple[int, int, int], np.ndarray]:
    return GRIDS[request.param]
