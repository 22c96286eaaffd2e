"""Every number of a record stands in the row and the column, or the sentence, that names it."""

import html
import re

import pytest
from conftest import SPACES
from reports import SHA, record

from regcli.report.tables import numbers, provenance, summary

SPACE = SPACES["anisotropic"]
HOSTILE = "</td><script>alert('x')</script>&\""


def rows(markup):
    """Texts of every row of the tables, by that of its first cell."""
    found = {}
    for line in re.findall(r"<tr>(.*?)</tr>", markup, re.DOTALL):
        cells = [
            html.unescape(re.sub("<.*?>", " ", c)) for c in re.findall(r"<t[hd].*?</t[hd]>", line)
        ]
        first, *rest = (" ".join(cell.split()) for cell in cells)
        found[first] = rest
    return found


def staged(before, linear, after):
    return {"before": before, "linear": linear, "after": after}


@pytest.fixture
def measured():
    """A record in which no two numbers are equal."""
    of_labels = {"per_label_before": {"2": 0.11, "17": 0.12}}
    of_labels |= {"per_label_linear": {"2": 0.21, "17": 0.22}, "per_label": {"2": 0.31, "17": None}}
    distance = {"per_label_before": {"2": 9.1, "17": 9.2}}
    distance |= {"per_label_linear": {"2": 8.1, "17": 8.2}, "per_label": {"2": 7.1, "17": 7.2}}
    similarity = staged(0.41, 0.42, 0.43) | {"name": "mi", "ncc": staged(0.51, 0.52, 0.53)}
    return record(
        SPACE,
        similarity=similarity | {"coverage_percent": 96.6},
        labels={
            "dice": staged(0.61, 0.62, 0.63) | of_labels,
            "hd95_mm": staged(6.1, 6.2, 6.3) | distance,
        },
        points={"tre_mm": staged(5.1, 5.2, 5.3)},
        inverse={"mean_mm": 0.0123, "max_mm": 0.456},
    )


def test_means_stand_before_linear_and_after(measured):
    found = rows(numbers(measured))
    assert found["measure"] == ["before", "linear", "after"]
    assert found["mutual information, nats"] == ["0.410", "0.420", "0.430"]
    assert found["correlation (NCC)"] == ["0.510", "0.520", "0.530"]
    assert found["Dice, mean"] == ["0.610", "0.620", "0.630"]
    assert found["HD95, mean, mm"] == ["6.10", "6.20", "6.30"]
    assert found["TRE, mean, mm"] == ["5.10", "5.20", "5.30"]


def test_each_label_has_a_row_in_the_order_of_codes(measured):
    found = rows(numbers(measured))
    assert found["2"] == ["0.110", "0.210", "0.310", "9.10", "8.10", "7.10"]
    assert found["17"] == ["0.120", "0.220", "-", "9.20", "8.20", "7.20"]
    assert list(found)[-2:] == ["2", "17"]
    assert found["label"] == [
        *(f"Dice {stage}" for stage in ("before", "linear", "after")),
        *(f"HD95 {stage}, mm" for stage in ("before", "linear", "after")),
    ]


def test_many_labels_are_folded_away(measured):
    assert "<details open>" in numbers(measured)
    for values in measured["labels"].values():
        for name in ("per_label", "per_label_before", "per_label_linear"):
            values[name] = {str(code): 0.5 for code in range(1, 14)}
    assert "<details>" in numbers(measured)
    assert "Each of 13 labels" in numbers(measured)


def test_signs_of_a_wrong_pair_are_told(measured):
    text = html.unescape(re.sub("<.*?>", "", numbers(measured)))
    for said in (
        "97 % of the fixed foreground or mask lies inside the moving image",
        "overlap by 98 % (Dice)",  # of 98.5, to even
        "turns by 4.2 degrees and scales by 0.93 to 1.12",
        "correlation is 0.610, and would be 0.580 with one image mirrored",
        "off by 0.012 mm on average, 0.46 mm at most",
    ):
        assert said in text


@pytest.mark.parametrize("same", [True, False])
def test_what_contrast_was_found_is_told(measured, same):
    measured["agreement"]["same_contrast"] = same
    text = numbers(measured)
    assert ("one contrast" in text) == same
    assert ("different contrasts" in text) != same
    assert "MIND from 0.154 to 0.121" in text


def test_the_outcome_is_a_sentence_of_what_was_measured(measured):
    assert summary(measured) == (
        "Mutual information, nats 0.410 before, 0.430 after; Dice 0.610 → 0.630; "
        "TRE 5.10 → 5.30 mm; 1.2 s."
    )
    bare = measured | {"labels": None, "points": None}
    assert summary(bare) == "Mutual information, nats 0.410 before, 0.430 after; 1.2 s."
    assert summary(record(SPACE)).startswith("Local correlation (LNCC) 0.310")


def test_what_ran_is_told_with_files_and_times(measured):
    ran, recipe = map(rows, provenance(measured, "regcli 1.2.3").split("<details>"))
    assert ran["versions"] == ["regcli 1.2.3"]
    assert ran["weights"] == [f"dio-brain, SHA-256 {SHA}"]
    assert ran["device"] == ["cpu, 2 threads, seed 0"]
    assert ran["memory"] == ["512 MiB at most"]
    assert ran["seconds"] == ["read 1.25, linear 1.25, solve 1.25, write 1.25, total 1.25"]
    (fixed,) = ran["fixed image"]
    assert fixed == f"/data/fixed.nii.gz 30 x 28 x 24 voxels of 1.2 x 1.5 x 2.6 mm SHA-256 {SHA}"
    assert recipe["levels"] == recipe["weights"] == ["automatic"]
    assert recipe["smoothness"] == ["1.0"]


def test_a_run_on_a_gpu_without_weights_or_regularizer_says_so(measured):
    other = {"weights": None, "regularizer": [], "peak_memory_mb": {"cpu": 7, "cuda": 9}}
    found = rows(provenance(measured | other, "").split("<details>")[0])
    assert found["weights"] == ["none"]
    assert found["regularizer"] == ["none"]
    assert found["memory"] == ["7 MiB at most, 9 MiB on the GPU"]


@pytest.mark.parametrize("name", ["command", "device"])
def test_text_of_users_stays_in_its_cell(measured, name):
    made = provenance(measured | {name: HOSTILE}, "")
    assert "<script>" not in made
    assert HOSTILE in rows(made)[name][0]


def test_paths_notes_recipes_and_labels_of_users_are_text(measured):
    measured["fixed"]["path"] = measured["weights"]["name"] = HOSTILE
    measured["notes"], measured["metric"] = [HOSTILE], [HOSTILE]
    measured["recipe"] = {HOSTILE: HOSTILE, "metric": [HOSTILE]}
    made = provenance(measured, HOSTILE)
    assert "<script>" not in made
    assert html.unescape(made).count(HOSTILE) == 8
