import math

import pytest

from regcli.registration.features.trust import Volumes

USUAL = Volumes((math.log(10.0), math.log(500.0)), (0.5, 0.01))
WHOLE = [0.0, 0.0]  # nothing lies at the edge of the image
THREE = Volumes((1.0, 2.0, 3.0), (0.2, 0.2, 0.2))


def test_usual_volumes_are_trusted():
    assert USUAL.share([10.0, 500.0], WHOLE) == 1
    assert USUAL.share([10 * math.exp(1.7), 500 * math.exp(0.5)], WHOLE) == 1  # people differ


@pytest.mark.parametrize("found", [[10 * math.exp(1.8), 500.0], [10.0, 800 * 1.3], [0.0, 500.0]])
def test_each_unusual_volume_costs_its_share(found):
    assert USUAL.share(found, WHOLE) == 0.5


def test_nothing_found_is_not_trusted():
    assert USUAL.share([0.0, 0.0], WHOLE) == 0


@pytest.mark.parametrize(
    ("logs", "at_edge", "share"),
    [
        ((1.0, 2.0, 1.0), (0.0, 0.0, 0.3), 1),  # too small, and cut
        ((1.0, 2.0, 1.0), (0.3, 0.3, 0.05), 2 / 3),  # too small, but not cut
        ((1.0, 2.0, 5.0), (0.0, 0.0, 0.3), 2 / 3),  # too large
        ((1.0, 0.0, 1.0), (0.0, 0.3, 0.3), 1 / 3),  # most of it is cut: nothing is known
    ],
)
def test_what_the_edge_cuts_may_be_small(logs, at_edge, share):
    found = [math.exp(one) for one in logs]
    assert THREE.share(found, list(at_edge)) == pytest.approx(share)
