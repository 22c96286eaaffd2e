"""Verdicts follow from the numbers of a report."""

import pytest

from regcli.evaluate.report import verdict

GOOD = {
    "similarity": {"before": 0.3, "linear": 0.5, "after": 0.8, "coverage_percent": 100.0},
    "jacobian": {"folds_percent": 0.0, "folds_anywhere": 0},
    "inverse": {"max_mm": 0.1},
    "labels": {"dice": {"before": 0.4, "after": 0.8}},
    "points": {"tre_mm": {"before": 5.0, "after": 1.0}},
    "stopped": "done",
}


def judged(part=None, *, diffeo=True, **values):
    report = GOOD if part is None else GOOD | {part: GOOD[part] | values}
    return verdict(report, diffeo=diffeo)


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
    assert judged("jacobian", **folded, diffeo=False)["status"] == "WARN"


def test_a_time_limit_is_a_doubt():
    assert verdict(GOOD | {"stopped": "time"}, diffeo=True)["status"] == "WARN"
