"""summary.html: the numbers of every row, links to what is there, and no text that acts."""

import html
import re

import pytest

from regcli.batch.page import page_text

HOSTILE = "<script>alert('x')</script>&\""
NUMBERS = ("similarity_before", "similarity_after", "dice_before", "dice_after", "hd95_mm_before")
NUMBERS += ("hd95_mm_after", "tre_mm_before", "tre_mm_after", "folds_percent", "sdlogj", "seconds")
ROW = {"row": 1, "out": "a", "status": "PASS", "fixed": "/x/f.nii", "moving": "/x/m.nii"}
ROW |= {"cause": "", "remedy": "", "reasons": ""} | dict.fromkeys(NUMBERS)


def page(folder, *rows, picture=""):
    counts = {name: sum(row["status"] == name for row in rows) for name in ("FAIL", "WARN", "PASS")}
    record = {"rows": rows, "counts": counts, "command": "regcli batch", "version": "9.8.7"}
    return page_text(record, {row["row"]: picture for row in rows}, folder)


def cells(text):
    """Texts of the cells of each row, the heads first."""
    lines = (re.findall(r"<t[hd].*?>(.*?)</t[hd]>", line) for line in text.split("<tr>")[1:])
    return [[html.unescape(re.sub("<.*?>", " ", cell)).strip() for cell in line] for line in lines]


def test_numbers_stand_in_their_columns_and_columns_without_any_are_left_out(tmp_path):
    one = ROW | {"dice_before": 0.25, "dice_after": 0.5, "folds_percent": 0.125, "seconds": 3.25}
    other = ROW | {"row": 2, "dice_after": 0.75, "status": "FAIL"}
    heads, first, second = cells(page(tmp_path, one, other))
    assert heads[4:] == ["Dice", "folds %", "s", ""]
    assert first[4:7] == ["0.250 \u2192 0.500", "0.125", "3.2"]
    assert second[4:7] == ["\u2192 0.750", "", ""]
    assert "2 rows, worst first" in page(tmp_path, one, other)
    assert '<span class="FAIL">1 FAIL</span>' in page(tmp_path, one, other)


def test_a_row_leads_to_its_report_or_its_folder_if_these_are_there(tmp_path):
    assert "<a " not in page(tmp_path, ROW)
    (tmp_path / "a").mkdir()
    assert '<a href="a">a</a>' in page(tmp_path, ROW)
    (tmp_path / "a" / "report.html").touch()
    assert '<a href="a/report.html">a</a>' in page(tmp_path, ROW)


@pytest.mark.parametrize("name", ["out", "status", "fixed", "moving", "cause", "remedy", "reasons"])
def test_texts_of_rows_are_texts(tmp_path, name):
    plain, made = page(tmp_path, ROW), page(tmp_path, ROW | {name: HOSTILE})
    assert "<script" not in made
    assert made != plain
    assert made.count("<") == plain.count("<")


def test_texts_of_the_batch_and_names_of_folders_are_texts(tmp_path):
    out = "a\" onclick='x'<b>&"
    (tmp_path / out).mkdir()
    record = {"rows": [ROW | {"out": out}], "counts": {"FAIL": 0, "WARN": 0, "PASS": 1}}
    record |= {"command": HOSTILE, "version": HOSTILE}
    made = page_text(record, {1: f"data:,{HOSTILE}"}, tmp_path)
    assert "<script" not in made and "<b>" not in made
    assert '<a href="a%22%20onclick%3D%27x%27%3Cb%3E%26">' in made
    assert html.unescape(made).count(HOSTILE) == 3
