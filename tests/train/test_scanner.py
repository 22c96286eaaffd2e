from heads import CODES

from regcli.train.drawing import Drawing
from regcli.train.scanner import contrast
from regcli.train.synth import generator_of
from regcli.train.vocabulary import vocabulary

WORDS = vocabulary(CODES)


def test_both_sides_look_alike():
    for step in range(8):
        means = contrast(WORDS, Drawing(), generator_of(0, step))
        places = {code: n for n, code in enumerate(WORDS.codes)}
        for left, right in ((2, 41), (3, 42), (4, 43)):
            assert means[places[left]] == means[places[right]]
        assert means[0] == 0
