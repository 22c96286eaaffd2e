"""Who is held out."""

from pathlib import Path

import pytest
from caselists import fill, names, refused

from regcli.errors import RecipeError
from regcli.io.cases import PAIR_LIMIT, read_cohort


@pytest.mark.parametrize(
    ("count", "held_out"), [(1, 0), (2, 0), (3, 1), (10, 1), (11, 2), (20, 2), (30, 3), (31, 4)]
)
def test_the_last_tenth_is_held_out(count, held_out, tmp_path):
    fill(tmp_path, *(f"s{n:02}.nii" for n in range(count)))
    cohort = read_cohort(tmp_path)
    assert names(cohort.training) == [f"s{n:02}" for n in range(count - held_out)]
    assert names(cohort.validation) == [f"s{n:02}" for n in range(count - held_out, count)]
    assert cohort == read_cohort(tmp_path)


def test_the_order_of_the_folder_does_not_matter(tmp_path, monkeypatch):
    fill(tmp_path, *(f"images/s{n:02}.nii" for n in range(12)))
    fill(tmp_path, *(f"labels/s{n:02}.nii" for n in range(12)))
    cohort, listed = read_cohort(tmp_path), Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(listed(self), reverse=True))
    assert read_cohort(tmp_path) == cohort


def test_a_share_may_be_asked_for(tmp_path):
    fill(tmp_path, *(f"s{n}.nii" for n in range(8)))
    assert names(read_cohort(tmp_path, share=0.25).validation) == ["s6", "s7"]
    assert read_cohort(tmp_path, share=0).validation == ()
    assert len(read_cohort(tmp_path, share=0.99).training) == 1
    assert names(read_cohort(tmp_path, share=0.1, least=2).validation) == ["s6", "s7"]
    assert read_cohort(tmp_path, share=0, least=2).validation == ()
    fill(tmp_path / "many", *(f"s{n:02}.nii" for n in range(100)))
    assert len(read_cohort(tmp_path / "many", share=0.07).validation) == 7  # 0.07 * 100 > 7
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(RecipeError, match="share"):
            read_cohort(tmp_path, share=share)


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3)])
def test_so_many_are_held_out_that_two_remain(tmp_path, count, kept):
    fill(tmp_path, *(f"s{n}.nii" for n in range(count)))
    assert len(read_cohort(tmp_path, least=2).training) == kept


def test_all_of_a_subject_is_held_out_or_nothing(tmp_path):
    fill(tmp_path, *(f"sub-{s}_ses-{t}_T1w.nii" for s in "abcd" for t in (1, 2)))
    cohort = read_cohort(tmp_path)
    assert names(cohort.validation) == ["sub-d_ses-1_T1w", "sub-d_ses-2_T1w"]
    cohort = read_cohort(tmp_path, validation=("sub-b", "sub-c_ses-2_T1w"))
    assert names(cohort.validation) == ["sub-b_ses-1_T1w", "sub-b_ses-2_T1w", "sub-c_ses-2_T1w"]


def test_named_cases_are_held_out(tmp_path):
    fill(tmp_path, *(f"s{n}.nii" for n in range(5)))
    cohort = read_cohort(tmp_path, validation=("s3", "s1"))
    assert names(cohort.training) == ["s0", "s2", "s4"]
    assert names(cohort.validation) == ["s1", "s3"]
    assert cohort.pairs == (("s1", "s3"), ("s3", "s1"))
    assert cohort.training_pairs == ()


def test_a_name_that_is_unknown_or_leaves_nobody_is_refused(tmp_path):
    fill(tmp_path, "s0.nii", "s1.nii")
    error = refused(tmp_path, "s7 is no case of", validation=("s1", "s7"))
    assert "s0" in error.remedy
    refused(tmp_path, "no case to train on", validation=("s0", "s1"))


def test_pairs_are_all_ordered_ones_while_they_are_few(tmp_path):
    fill(tmp_path, *(f"s{n}.nii" for n in range(6)))
    held_out = ("s1", "s2", "s4", "s5")
    pairs = read_cohort(tmp_path, validation=held_out).pairs
    assert set(pairs) == {(a, b) for a in held_out for b in held_out if a != b}
    assert len(pairs) == 12
    assert read_cohort(tmp_path, validation=("s1",)).pairs == ()


@pytest.mark.parametrize("count", [6, 9, 10, 30])
def test_many_pairs_are_cut_so_that_all_cases_come_up_as_often(count, tmp_path):
    everyone = [f"s{n:02}" for n in range(count + 1)]
    fill(tmp_path, *(f"{name}.nii" for name in everyone))
    pairs = read_cohort(tmp_path, validation=tuple(everyone[1:])).pairs
    assert len(set(pairs)) == len(pairs) == PAIR_LIMIT
    for side in (0, 1):
        often = [sum(pair[side] == name for pair in pairs) for name in everyone[1:]]
        assert max(often) - min(often) <= 1
