import math

import pytest

from regcli.models.trust import Volumes

USUAL = Volumes((math.log(10.0), math.log(500.0)), (0.5, 0.01))


def test_usual_volumes_are_trusted():
    assert USUAL.share([10.0, 500.0]) == 1
    assert USUAL.share([10 * math.exp(1.7), 500 * math.exp(0.5)]) == 1  # people differ


@pytest.mark.parametrize("found", [[10 * math.exp(1.8), 500.0], [10.0, 800 * 1.3], [0.0, 500.0]])
def test_each_unusual_volume_costs_its_share(found):
    assert USUAL.share(found) == 0.5


def test_nothing_found_is_not_trusted():
    assert USUAL.share([0.0, 0.0]) == 0
