import pytest
import torch

from regcli.errors import InputError, RecipeError
from regcli.train.data.vocabulary import DeclaredTypes, vocabulary_of

WORDS = DeclaredTypes(
    types={"white": (2, 41), "front": (1003, 2003), "back": (1011,)},
    groups={"cortex": ((3, 42), ("front", "back"))},
    other=(85,),
)


def test_a_code_that_tells_types_apart_is_one_and_another_is_a_set_of_them():
    words = vocabulary_of({2, 3, 41, 42, 85, 1003, 1011}, WORDS)
    classes = dict(zip(words.codes, words.classes, strict=True))
    assert words.count == 4
    assert words.names == ("background", "white", "front", "back")
    assert (classes[0], classes[85], classes[2], classes[41]) == (0, 0, 1, 1)
    assert (classes[1003], classes[1011]) == (2, 3)
    assert classes[3] == classes[42] == 4
    assert words.sets == ((2, 3),)
    assert words.types == {0: 0, 2: 1, 41: 1, 85: 0, 1003: 2, 1011: 3}


def test_a_group_that_no_map_needs_is_no_set():
    words = vocabulary_of({2, 41, 1003, 1011}, WORDS)
    assert (words.count, words.sets) == (4, ())


def test_a_code_that_is_not_declared_is_named():
    with pytest.raises(InputError, match="code 77"):
        vocabulary_of({2, 41, 77, 1003, 1011}, WORDS)


def test_a_type_that_nobody_outlines_is_named():
    with pytest.raises(InputError, match="'back'"):
        vocabulary_of({2, 41, 3, 1003}, WORDS)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"types": {"white": (2,), "grey": (2,)}}, "code 2"),
        ({"types": {"white": (0,)}}, "code 0"),
        ({"types": {"white": ()}}, "'white' has no codes"),
        ({"types": {" ": (2,)}}, "' ' is no name"),
        ({"types": {"background": (2,)}}, "'background' is no name"),
        ({"groups": {"all": ((9,), ("white", "green"))}}, "'green' is no type"),
        ({"groups": {"all": ((9,), ("white",))}}, "fewer than two"),
        ({"groups": {"all": ((2,), ("white", "grey"))}}, "code 2"),
        ({"other": (2,)}, "code 2"),
    ],
)
def test_contradictions_are_refused(changes, named):
    with pytest.raises(RecipeError, match=named):
        DeclaredTypes(**{"types": {"white": (2,), "grey": (3,)}} | changes)


def test_parcels_and_the_callosum_look_like_their_tissue():
    words = vocabulary_of({2, 3, 41, 42, 251, 1003, 2030, 10, 49, 500})
    tissues = dict(zip(words.codes, words.tissues, strict=True))
    assert tissues[1003] == tissues[2030] == tissues[42] == tissues[3]
    assert tissues[251] == tissues[41] == tissues[2]
    assert tissues[49] == tissues[10] != tissues[3]
    inside = dict(zip(words.codes, words.inside, strict=True))
    assert inside[1003]
    assert inside[251]
    assert not inside[500]


def test_parcels_count_as_cortex_where_nothing_else_is_declared():
    words = vocabulary_of({2, 3, 41, 42, 1003, 2030, 251})
    assert words.types[1003] == words.types[2030] == words.types[3]
    assert words.types[251] == words.types[2]


def test_regions_count_together_where_only_their_sum_is_known():
    words = vocabulary_of({2, 3, 41, 42, 85, 1003, 1011}, WORDS)
    fine = torch.tensor([0, 1, 1, 2, 2, 3, 3, 0])
    coarse = torch.tensor([0, 1, 1, 4, 4, 4, 4, 4])
    one, other = words.common(fine, coarse)
    assert one.tolist() == [0, 1, 1, 4, 4, 4, 4, 0]
    assert other.tolist() == coarse.tolist()
    assert all(torch.equal(t, fine) for t in words.common(fine, fine))
