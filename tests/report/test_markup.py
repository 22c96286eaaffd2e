from regcli.report.markup import element, joined, number, table

HOSTILE = "<script>alert('x')</script>&\""
HARMLESS = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;&quot;"


def test_text_and_attributes_are_escaped_and_markup_is_not():
    inside = element("b", {"title": HOSTILE}, HOSTILE)
    assert inside == f'<b title="{HARMLESS}">{HARMLESS}</b>'
    assert element("p", None, inside, HOSTILE) == f"<p>{inside}{HARMLESS}</p>"
    assert joined([HOSTILE, 3]) == f"{HARMLESS}3"


def test_attributes_that_are_off_are_left_out():
    assert element("input", {"checked": True, "a": False, "b": None, "c": 0}) == (
        '<input checked c="0"/>'
    )


def test_cells_of_tables_are_escaped():
    made = table(HOSTILE, (HOSTILE, "b"), [(HOSTILE, HOSTILE)])
    assert "<script>" not in made
    assert made.count(HARMLESS) == 5


def test_numbers_that_are_not_known_are_dashes():
    assert [number(x) for x in (None, float("nan"), 0.12345)] == ["-", "-", "0.123"]
