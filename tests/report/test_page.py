import html.parser
import json
import re

import pytest
from conftest import SPACES
from reports import SHA, bump, record, subject

from regcli.image import Space
from regcli.report.page import render
from regcli.report.pictures import draw

HOSTILE = "/a/<script>window.hacked=1</script>\"'&.nii.gz"
SPACE = SPACES["anisotropic"]


class Reader(html.parser.HTMLParser):
    """Tags, their attributes, and the text outside of style and script."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def pictures():
    return draw(subject(SPACE, bump(SPACE)))


@pytest.fixture(scope="module")
def page(pictures):
    return Reader(render(record(SPACE), pictures))


def test_the_verdict_stands_with_its_reasons_in_words(page):
    assert "WARN" in page.text
    assert "0.50 % of the voxels are folded." in page.text


def test_what_ran_is_told(page):
    told = ("9.8.7", "dio-brain", SHA, "regcli register fixed.nii.gz moving.nii.gz", "diffeo")
    for text in (
        *told,
        "torch 2",
        "total 1.25",
        "lncc + mind:weight=0.3",
        "0.1 + volume",
        "512 MiB",
        "moments.",
    ):
        assert text in page.text


def test_labels_and_points_stand_before_linear_and_after(page):
    assert re.search(r"Dice, mean\s*0\.310\s*0\.420\s*0\.830", page.text)
    assert re.search(r"TRE, mean, mm\s*5\.50\s*3\.25\s*1\.12", page.text)
    assert re.search(r"17\s*-\s*-\s*-", page.text)


def test_measures_that_took_no_part_are_told(pictures, page):
    assert "from 0.333 nats after the linear stage to 0.555" in page.text
    assert "correlate locally by 0.72: one contrast" in page.text
    linear = Reader(render(record(SPACE, agreement=None), pictures))
    assert "MIND" not in linear.text.replace("mind:weight", "")


def test_numbers_of_the_deformation_are_told(page):
    for said in (
        "Determinant -0.2 to 3 in the foreground or mask; 0.5 % of the voxels folded",
        "0.25 % of the volume by the strict test, which finds folds at 12 voxels",
        "standard deviation of log J 0.400",
    ):
        assert said in page.text


def test_every_level_has_its_curve(page):
    charts = [a["aria-label"] for t, a in page.tags if t == "svg" and "aria-label" in a]
    assert sum("diffeo, level" in chart for chart in charts) == 2
    assert any("1 to 0.4" in chart for chart in charts)


def test_the_file_needs_no_other_and_is_light(page, pictures):
    addresses = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href", "action")]
    assert len(addresses) > 20
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "form"}
    assert len(render(record(SPACE), pictures)) < 1e6


def test_pictures_and_controls_say_what_they_are(page):
    for tag, given in page.tags:
        if tag == "img":
            assert len(given["alt"]) > 10
        if tag == "svg" and given["viewbox"] != "0 0 10 10":
            assert given["role"] == "img"
            assert len(given["aria-label"]) > 10


def test_text_of_users_is_text(pictures):
    report = record(SPACE, command=f"regcli register '{HOSTILE}'", warnings=[HOSTILE])
    report["fixed"]["path"] = report["moving"]["path"] = HOSTILE
    report["notes"] = [HOSTILE]
    report["verdict"] = {"status": "FAIL", "reasons": [HOSTILE]}
    report["recipe"] = {"transform": HOSTILE, "metric": [HOSTILE]}
    report["weights"]["name"] = HOSTILE
    report["solver"][0]["stage"] = HOSTILE
    page = Reader(render(report, pictures))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert page.text.count(HOSTILE) >= 8


def test_the_convention_is_stated(pictures, page):
    assert "the subject's left is on the left" in page.text
    assert "turned by" not in page.text
    turned = record(SPACES["oblique"])
    assert "turned by" in Reader(render(turned, pictures)).text


def test_a_linear_map_has_no_part_on_deformation():
    report = record(SPACE, jacobian=None, labels=None, points=None, weights=None, solver=[])
    page = Reader(render(report, draw(subject(SPACE))))
    assert "Deformation" not in page.text
    assert "Jacobian" not in page.text
    assert "Nothing was solved." in page.text


def test_a_2d_pair_has_one_plane():
    flat = Space((30, 28, 1), SPACE.affine)
    page = Reader(render(record(flat), draw(subject(flat, bump(flat)))))
    assert "planes of-1" in [a.get("class") for t, a in page.tags if t == "div"]
    assert "coronal" not in page.text


def test_residuals_that_are_no_numbers_are_left_out(pictures):
    report = record(SPACE)
    levels = [
        report["solver"][1] | {"residuals": r, "stopped": "diverged"}
        for r in ([], [1.0], [1.0, float("inf"), float("nan")], [1.0, 0.0], list(range(5000)))
    ]
    page = render(report | {"solver": levels}, pictures)
    Reader(page)
    points = re.findall(r'points="([^"]*)"', page)
    assert [len(p.split()) for p in points[:4]] == [0, 1, 1, 2]
    assert 250 < len(points[4].split()) < 500
    assert "nan" not in "".join(points)


def test_the_record_that_was_shown_is_left_as_it_was(pictures):
    report = record(SPACE)
    before = json.dumps(report)
    render(report, pictures)
    assert json.dumps(report) == before
