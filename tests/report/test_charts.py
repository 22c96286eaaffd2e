"""Charts are read off their coordinates: what is higher stands higher, and in its place."""

import re

import numpy as np
import pytest

from regcli.report.charts import grid_lines, histogram_chart, level_chart
from regcli.report.pictures import OCTAVES, Histogram

LEVEL = {"stage": "diffeo", "level": 1, "shape": [7, 8, 9], "steps": 3, "stopped": "converged"}
LEVEL |= {"measure": "energy x", "residuals": [1.0, 0.5, 0.25, 0.0]}


def curve(chart):
    """(N, 2) of the points of a chart."""
    (points,) = re.findall(r'points="([^"]*)"', chart)
    return np.array([[float(x) for x in point.split(",")] for point in points.split()])


def bars(chart, kind):
    """x, height of the bars of a class."""
    found = re.findall(rf'<rect x="(\S+)" y="\S+" width="\S+" height="(\S+)" class="{kind}"', chart)
    return np.array([[float(x), float(height)] for x, height in found])


def test_energies_fall_from_the_top_left_in_proportion():
    points = curve(level_chart(LEVEL))
    np.testing.assert_allclose(np.diff(points[:, 0]), np.diff(points[:, 0])[0], atol=0.11)
    height = np.ptp(points[:, 1])
    assert height > 90  # of 110
    np.testing.assert_allclose((points[:, 1] - points[0, 1]) / height, [0, 0.5, 0.75, 1], atol=2e-3)
    assert points[0, 0] < 10


def test_relative_residuals_fall_by_powers_of_ten():
    chart = level_chart(LEVEL | {"measure": "relative residual", "residuals": [1.0, 0.1, 0.01]})
    steps = np.diff(curve(chart)[:, 1])
    assert steps[0] == pytest.approx(steps[1], abs=0.11)
    assert steps[0] > 40
    assert "(log scale)" in chart
    assert "(log scale)" not in level_chart(LEVEL)


def test_what_hardly_changes_is_drawn_flat():
    points = curve(level_chart(LEVEL | {"residuals": [1.0, 0.9999, 0.9998]}))
    assert np.ptp(points[:, 1]) < 3
    assert np.ptp(curve(level_chart(LEVEL | {"residuals": [0.0, 0.0]}))[:, 1]) == 0


def test_a_step_without_a_number_leaves_the_others_in_their_places():
    whole, holed = (
        curve(level_chart(LEVEL | {"residuals": [1.0, middle, 0.25, 0.0]}))
        for middle in (0.5, float("nan"))
    )
    np.testing.assert_allclose(holed, whole[[0, 2, 3]])


@pytest.mark.parametrize(
    ("stopped", "words"),
    [("steps", "the limit"), ("time", "out of time"), ("converged", "converged")],
)
def test_a_level_is_told_in_words(stopped, words):
    chart = level_chart(LEVEL | {"stopped": stopped, "residuals": [1.0, 0.12345, 0.012346]})
    assert f"3 steps, {words}; energy 1 to 0.01235" in chart
    assert "diffeo, level 2, 7x8x9" in chart


def test_names_of_stages_and_ends_are_text():
    for name in ("stage", "stopped"):
        chart = level_chart(LEVEL | {name: '<script>"'})
        assert "<script>" not in chart
        assert chart.count("&lt;script&gt;&quot;") == 2  # seen, and read aloud


def test_bars_are_as_high_as_the_logarithm_of_their_counts():
    chart = histogram_chart(Histogram([0, 9, 99, 999], 99))
    found, folds = bars(chart, "bar"), bars(chart, "bar fold")
    np.testing.assert_allclose(found[:, 1] / found[-1, 1], [0, 1 / 3, 2 / 3, 1], atol=2e-3)
    assert folds[0, 1] == found[2, 1]
    assert folds[0, 0] < found[:, 0].min()
    assert (np.diff(found[:, 0]) > 0).all()
    assert "99 of 1206 voxels folded" in chart


def test_labels_of_octaves_stand_under_their_bars():
    count = int(2 * OCTAVES)
    chart = histogram_chart(Histogram([1] * count, 0))
    labels = {text: float(x) for x, text in re.findall(r'<text x="(\S+)" [^>]*>([^<]*)<', chart)}
    edges = bars(chart, "bar")[:, 0]
    assert list(labels)[2:] == ["≤ 1/8", "1/4", "1/2", "1", "2", "4", "≥ 8"]
    np.testing.assert_allclose(list(labels.values())[2:-1], edges, atol=0.11)


def test_a_histogram_of_nothing_is_flat():
    chart = histogram_chart(Histogram([0, 0], 0))
    assert not bars(chart, "bar")[:, 1].any()
    assert "0 of 0 voxels folded" in chart


def test_lines_of_a_grid_go_through_their_points():
    lines = [np.array([[0.0, 1.0], [2.04, 3.26]]), np.array([[5.0, 6.0], [7.0, 8.0]])]
    assert grid_lines(lines) == '<path d="M0.0 1.0L2.0 3.3M5.0 6.0L7.0 8.0" class="grid"/>'
