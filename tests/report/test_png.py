import numpy as np
from reports import decode

from regcli.report.planes import LIMIT
from regcli.report.png import GREYS, blend, data_uri, greys


def test_a_picture_has_the_colours_of_its_palette():
    palette = greys((255, 0, 1))
    picture = np.random.default_rng(0).integers(0, GREYS + 1, (17, 30), dtype=np.uint8)
    np.testing.assert_array_equal(decode(data_uri(picture, palette)), palette[picture])


def test_colours_run_from_the_first_anchor_to_the_last_and_marks_follow():
    palette = blend([(0, 0, 0), (100, 100, 100), (0, 200, 255)], (1, 2, 3))
    assert palette.shape == (GREYS + 1, 3)
    assert palette[[0, GREYS - 1, GREYS]].tolist() == [[0, 0, 0], [0, 200, 255], [1, 2, 3]]


def test_a_report_of_nothing_but_noise_stays_light():
    noise = np.random.default_rng(0).integers(0, GREYS, (LIMIT, LIMIT), dtype=np.uint8)
    # fixed, before, linear, after, checkerboard, edges, Jacobian, and under the grid
    assert 3 * 8 * len(data_uri(noise, greys())) < 2.8e6
