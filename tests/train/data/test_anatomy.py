from dataclasses import replace

import torch
from heads import CODES, labels, subject

from regcli.train.data.anatomy import anatomy
from regcli.train.data.vocabulary import vocabulary_of


def test_sides_share_types_and_what_is_outside_has_none():
    words = vocabulary_of(
        {2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28, 41, 42, 5, 507}
    )
    types = words.types
    assert words.count == 18
    assert types[2] == types[41] > 0
    assert types[4] == types[5] > 0
    assert types[0] == types[507] == 0


def test_codes_that_are_not_freesurfers_have_a_type_each():
    words = vocabulary_of([3, 1, 2])
    assert words.codes == (0, 1, 2, 3)
    assert words.classes == (0, 1, 2, 3)


def test_an_anatomy_is_cut_to_what_it_shows_and_stays_where_it_was():
    words = vocabulary_of(CODES)
    whole = labels(shape=(40, 41, 39), centre=(20.0, 19.0, 21.0))
    part = subject(words, shape=(40, 41, 39), centre=(20.0, 19.0, 21.0))
    codes = torch.tensor(words.codes)[part.indices[0, 0].int()]
    start = part.space.affine[:3, 3].int().tolist()
    i, j, k = (slice(a, a + n) for a, n in zip(start, part.space.shape, strict=True))
    assert torch.equal(codes, whole.data[0, i, j, k].long())
    assert int((whole.data != 0).sum()) == int((codes != 0).sum())


def test_stripping_leaves_the_brain():
    part = subject()
    codes = torch.tensor(CODES)[part.indices.int()]
    inside = (codes > 0) & (codes < 500)
    assert part.brain[inside].all()
    assert float((part.brain * (codes == 510)).sum()) < 0.25 * float((codes == 510).sum())


def test_only_freesurfers_codes_from_500_on_lie_outside_the_brain():
    labels_ = labels()
    other = replace(labels_, data=labels_.data + 500 * (labels_.data > 0).to(torch.int16))
    for map_, outside in ((labels_, 510), (other, 0)):
        words = vocabulary_of({int(code) for code in map_.data.unique()})
        kept = dict(zip(words.codes, words.inside, strict=True))
        assert {code for code, inside in kept.items() if not inside} == {0, outside}
        assert bool(anatomy(map_, words).brain.any())
