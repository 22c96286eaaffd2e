"""Verdicts follow from the numbers of a report."""

import pytest
import torch

from regcli.evaluate.report import similarity_report, verdict
from regcli.image import Box, Image, Space
from regcli.warp import Warp

GOOD = {
    "similarity": {"before": 0.3, "linear": 0.5, "after": 0.8, "coverage_percent": 100.0},
    "jacobian": {"folds_percent": 0.0, "folds_anywhere": 0},
    "inverse": {"max_mm": 0.1},
    "labels": {"dice": {"before": 0.4, "after": 0.8}},
    "points": {"tre_mm": {"before": 5.0, "after": 1.0}},
    "stopped": "done",
    "solver": [{"stopped": "converged"}, {"stopped": "steps"}],
}


def judged(part=None, *, foldless=True, **values):
    report = GOOD if part is None else GOOD | {part: GOOD[part] | values}
    return verdict(report, foldless=foldless)


def test_a_good_result_passes():
    assert judged() == {"status": "PASS", "reasons": []}
    aligned = {"before": 1.0, "linear": 1.0, "after": 1.0}
    assert judged("similarity", **aligned)["status"] == "PASS"


@pytest.mark.parametrize(
    ("status", "part", "values"),
    [
        ("FAIL", "similarity", {"after": 0.2}),
        ("FAIL", "similarity", {"after": 0.4}),  # the linear stage had 0.5
        ("WARN", "similarity", {"before": 0.5, "linear": 0.5, "after": 0.5}),
        ("FAIL", "similarity", {"coverage_percent": 40.0}),
        ("FAIL", "jacobian", {"folds_anywhere": 1}),
        ("WARN", "inverse", {"max_mm": 1.5}),
        ("FAIL", "points", {"tre_mm": {"before": 5.0, "after": 6.0}}),
        ("FAIL", "labels", {"dice": {"before": 0.4, "after": 0.3}}),
        ("WARN", "labels", {"dice": {"before": 0.4, "after": 0.0}}),
    ],
)
def test_a_doubtful_one_does_not(status, part, values):
    told = judged(part, **values)
    assert told["status"] == status
    assert len(told["reasons"]) == 1


def test_folds_count_more_where_none_were_promised_to_occur():
    folded = {"folds_percent": 0.5, "folds_anywhere": 100}
    assert judged("jacobian", **folded)["status"] == "FAIL"
    assert judged("jacobian", **folded, foldless=False)["status"] == "WARN"


def test_a_linear_map_is_measured_against_no_linear_stage_but_the_beginning():
    """It is its own linear stage, and has no Jacobian."""
    better, same = ({"before": b, "linear": 0.5, "after": 0.5} for b in (0.3, 0.5))
    for similarity, status in ((better, "PASS"), (same, "WARN")):
        report = GOOD | {"jacobian": None, "similarity": GOOD["similarity"] | similarity}
        assert verdict(report, foldless=False)["status"] == status


def test_a_time_limit_is_a_doubt():
    assert verdict(GOOD | {"stopped": "time"}, foldless=True)["status"] == "WARN"


def test_steps_that_diverged_are_a_doubt():
    assert verdict(GOOD | {"solver": [{"stopped": "diverged"}]}, foldless=True)["status"] == "WARN"


def test_what_lies_outside_the_moving_image_is_not_compared():
    """A large offset would make the zeros outside count as the strongest contrast of all."""
    space = Space((20, 22, 18), torch.eye(4, dtype=torch.float64))
    draw = torch.Generator().manual_seed(0)
    data = torch.rand(1, *space.shape, generator=draw)
    part = Box(space, (4, 0, 0), space.shape)
    fixed, moving = Image(data, space), Image(1e4 + part.cut(data), part.part)
    stages = {"after": Warp(space, torch.eye(4, dtype=torch.float64))}
    covered = torch.zeros(space.shape, dtype=torch.bool)
    covered[4:] = True
    report = similarity_report(fixed, moving, stages, covered, covered, cross=False)
    assert report["ncc"]["after"] == pytest.approx(1, abs=1e-3)


def test_what_resampling_alone_changes_is_no_failure():
    for after, status in ((0.05, "PASS"), (0.2, "FAIL")):
        points = {"tre_mm": {"before": 0.0, "after": after}}
        assert verdict(GOOD | {"points": points}, foldless=True)["status"] == status
    for after, status in ((0.896, "PASS"), (0.89, "FAIL")):
        labels = {"dice": {"before": 0.9, "after": after}}
        assert verdict(GOOD | {"labels": labels}, foldless=True)["status"] == status
