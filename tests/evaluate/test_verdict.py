"""Verdicts follow from the numbers of a report."""

import pytest

from regcli.evaluate.verdict import verdict

ENERGIES = {"measure": "energy x", "residuals": [1.0, 0.6, 0.52, 0.51, 0.509, 0.508]}
LEVEL = ENERGIES | {"stopped": "converged"}
GOOD = {
    "similarity": {"before": 0.3, "linear": 0.5, "after": 0.8, "coverage_percent": 100.0},
    "jacobian": {"folds_percent": 0.0, "folds_anywhere": 0, "sdlogj": 0.5, "min": 0.1, "max": 9.0},
    "inverse": {"max_mm": 0.1, "round_trip_mean_mm": 0.2},
    "labels": {"dice": {"before": 0.4, "after": 0.8}},
    "points": {"tre_mm": {"before": 5.0, "after": 1.0}},
    "stopped": "done",
    "solver": [LEVEL, LEVEL],
    "recipe": {"init": "auto"},
    "fixed": {"spacing": [1.0, 1.0, 1.0]},
    "alignment": {"rotation_degrees": 4.0, "scales": [1.1, 1.0, 0.9]},
    "foreground": {
        "overlap_percent": 99.0,
        "moving_inside_percent": 100.0,
        "counted_percent": 100.0,
    },
    "metric": ["lncc", "mind:weight=0.3"],
    "agreement": {
        "correlation": 0.8,
        "same_contrast": True,
        "mismatch": {"linear": 0.2, "after": 0.1},
        "information": {"linear": 0.4, "after": 0.7},
    },
    "handedness": {"as_is": 0.6, "mirrored": 0.58},
    "trust": {"used": True, "fixed": 1.0, "moving": 1.0},
}


def judged(part=None, *, foldless=True, **values):
    report = GOOD if part is None else GOOD | {part: GOOD[part] | values}
    return verdict(report, foldless=foldless)


def ended(**last):
    """Judged by how the last level ended."""
    return verdict(GOOD | {"solver": [LEVEL, LEVEL | last]}, foldless=True)


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
        ("WARN", "similarity", {"coverage_percent": 90.0}),
        ("WARN", "foreground", {"moving_inside_percent": 80.0}),
        ("WARN", "foreground", {"overlap_percent": 70.0}),
        ("WARN", "foreground", {"counted_percent": 2.0}),
        ("WARN", "alignment", {"rotation_degrees": 45.0}),
        ("WARN", "alignment", {"scales": [1.1, 1.0, 0.6]}),
        ("WARN", "alignment", {"scales": [1.5, 1.0, 0.9]}),
        ("WARN", "handedness", {"as_is": 0.5, "mirrored": 0.52}),
        ("WARN", "agreement", {"correlation": 0.4, "same_contrast": False}),
        ("WARN", "agreement", {"mismatch": {"linear": 0.2, "after": 0.22}}),
        ("WARN", "agreement", {"information": {"linear": 0.4, "after": 0.3}}),
        ("WARN", "trust", {"moving": 0.9}),
        ("WARN", "trust", {"used": False, "moving": 0.9}),
        ("WARN", "jacobian", {"sdlogj": 1.3}),
        ("WARN", "inverse", {"round_trip_mean_mm": 0.5}),
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


def test_linear_maps_need_not_bring_outlines_together():
    apart = GOOD | {"foreground": GOOD["foreground"] | {"overlap_percent": 80.0}}
    assert verdict(apart, foldless=True)["status"] == "WARN"
    assert verdict(apart | {"jacobian": None}, foldless=False)["status"] == "PASS"


def test_a_time_limit_is_a_doubt():
    assert verdict(GOOD | {"stopped": "time"}, foldless=True)["status"] == "WARN"


def test_solvers_that_had_not_come_to_an_end_are_a_doubt():
    steps = {"measure": "relative residual", "residuals": [1.0, 0.5, 0.2, 0.1]}
    assert ended(stopped="diverged")["status"] == "WARN"
    assert ended(**steps, stopped="steps")["status"] == "WARN"
    assert ended(**steps, stopped="plateau")["status"] == "WARN"
    assert ended(stopped="steps", residuals=[1.0, 0.8, 0.7, 0.6])["status"] == "WARN"


def test_solvers_that_had_all_but_come_to_an_end_are_none():
    steps = {"measure": "relative residual", "residuals": [1.0, 0.5, 0.1, 0.01]}
    assert ended(**steps, stopped="steps")["status"] == "PASS"
    assert ended(stopped="steps")["status"] == "PASS"


def test_a_pair_of_which_nothing_suits_the_weights_is_no_odd_pair():
    """Neither of two knees is like a brain."""
    assert judged("trust", used=False, fixed=0.4, moving=0.5)["status"] == "PASS"
    assert verdict(GOOD | {"trust": None}, foldless=True)["status"] == "PASS"


def test_who_gives_a_start_knows_how_far_it_turns():
    turned = GOOD | {"alignment": {"rotation_degrees": 90.0, "scales": [1.0, 1.0, 1.0]}}
    assert verdict(turned, foldless=True)["status"] == "WARN"
    known = turned | {"recipe": {"init": "start.mat"}}
    assert verdict(known, foldless=True)["status"] == "PASS"


def test_a_round_trip_is_measured_in_voxels():
    coarse = GOOD | {"fixed": {"spacing": [2.0, 2.0, 2.0]}}
    coarse |= {"inverse": {"max_mm": 0.1, "round_trip_mean_mm": 0.5}}
    assert verdict(coarse, foldless=True)["status"] == "PASS"


def test_what_resampling_alone_changes_is_no_failure():
    for after, status in ((0.05, "PASS"), (0.2, "FAIL")):
        points = {"tre_mm": {"before": 0.0, "after": after}}
        assert verdict(GOOD | {"points": points}, foldless=True)["status"] == status
    for after, status in ((0.896, "PASS"), (0.89, "FAIL")):
        labels = {"dice": {"before": 0.9, "after": after}}
        assert verdict(GOOD | {"labels": labels}, foldless=True)["status"] == status


def test_only_metrics_of_one_contrast_need_one():
    across = GOOD | {"agreement": GOOD["agreement"] | {"correlation": 0.1, "same_contrast": False}}
    for metric, status in (("mind", "PASS"), ("mi:bins=16", "PASS"), ("ncc", "WARN")):
        told = verdict(across | {"metric": [metric]}, foldless=True)
        assert told["status"] == status
    assert "ncc" in told["reasons"][0]
    assert verdict(GOOD | {"agreement": None}, foldless=True)["status"] == "PASS"


def test_images_that_matched_already_may_lose_a_little_by_interpolation():
    for after, status in ((1.68, "PASS"), (1.5, "WARN")):
        inside = GOOD["agreement"] | {"information": {"linear": 1.7, "after": after}}
        assert verdict(GOOD | {"agreement": inside}, foldless=True)["status"] == status
