"""report.html in a real browser: Chromium without a window, driven by playwright.

Skipped where there is no Chromium; `.ci/run` installs it and names it by REGCLI_CHROMIUM, and then
nothing is skipped. Screenshots go to REGCLI_SCREENSHOTS, if that names a folder.
"""

import os
import shutil
from pathlib import Path

import pytest
from conftest import SPACES
from reports import bump, record, subject

from regcli.report.page import render
from regcli.report.pictures import draw

NAMED = os.environ.get("REGCLI_CHROMIUM")
SPACE = SPACES["anisotropic"]
HOSTILE = "/a/<script>document.title='hacked'</script><img src=x onerror=alert(1)>.nii.gz"


@pytest.fixture(scope="module")
def browser():
    if NAMED is None:
        pytest.importorskip("playwright", reason="playwright is not installed (pip: '.[dev]')")
    path = NAMED or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium; install it, or name it by REGCLI_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    report = record(SPACE, command=f"regcli register {HOSTILE}")
    report["fixed"]["path"] = HOSTILE
    path = tmp_path_factory.mktemp("page") / "report.html"
    page = render(report, draw(subject(SPACE, bump(SPACE))))
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """opened(width=400) is the page; whatever it complains of or asks for is an error."""
    contexts, said, asked = [], [], []

    def visit(width=1280, scheme="light"):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {address}


@pytest.fixture
def pictures(tmp_path):
    folder = Path(os.environ.get("REGCLI_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def showing(page):
    return page.evaluate("document.getElementById('compare').dataset.top")


def visible(page, layer):
    return page.locator(f".layer.{layer}").first.is_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_fits_its_window_and_is_drawn(opened, pictures, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate("[...document.images].map((i) => [i.naturalWidth, i.complete])")
    assert len(sizes) > 15
    assert all(pixels > 0 and done for pixels, done in sizes)
    shot = pictures / f"report-{width}-{scheme}.png"
    page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 30_000


def test_planes_have_one_scale_beside_each_other_and_stand_below_on_a_phone(opened):
    page = opened()
    boxes = [one.bounding_box() for one in page.locator("#compare .stack").all()]
    page.set_viewport_size({"width": 400, "height": 900})
    below = [one.bounding_box()["y"] for one in page.locator("#compare .stack").all()]
    assert len(set(below)) == 3
    x, y, z = (n * h for n, h in zip(SPACE.shape, SPACE.spacing, strict=True))
    scales = [box["width"] / side for box, side in zip(boxes, (x, x, y), strict=True)]
    scales += [box["height"] / side for box, side in zip(boxes, (y, z, z), strict=True)]
    assert max(scales) == pytest.approx(min(scales), rel=0.02)
    assert len({box["y"] for box in boxes}) == 1


def test_the_slider_wipes_by_keyboard_and_by_mouse(opened):
    page = opened()
    slider = page.get_by_role("slider", name="Wipe")
    top = page.locator(".layer.after").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "51"
    assert "51%" in top.evaluate("(layer) => getComputedStyle(layer).clipPath")
    page.keyboard.press("Home")
    assert slider.input_value() == "0"
    box = page.locator("#compare .stack").nth(1).bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.2 * box["width"], middle)
    page.mouse.down()
    assert float(slider.input_value()) == pytest.approx(20, abs=1)
    page.mouse.move(box["x"] + 0.7 * box["width"], middle)
    page.mouse.up()
    assert float(slider.input_value()) == pytest.approx(70, abs=1)


def test_flicker_alternates_by_key_and_by_button_and_stops(opened):
    page = opened()
    page.clock.install()
    button = page.get_by_role("button", name="Flicker before / after")
    assert button.get_attribute("aria-pressed") == "false"
    for start in (lambda: page.keyboard.press("f"), button.click):
        start()
        assert button.get_attribute("aria-pressed") == "true"
        seen = [showing(page)]
        for _ in range(3):
            page.clock.run_for(700)
            seen.append(showing(page))
        assert seen == ["before", "after", "before", "after"]
        page.keyboard.press("f")
        assert button.get_attribute("aria-pressed") == "false"
        page.clock.run_for(3000)
        assert showing(page) == "after"
    page.keyboard.press("x")
    assert showing(page) == "fixed"
    assert not visible(page, "after")
    page.clock.run_for(700)
    assert visible(page, "after")


def test_layers_are_chosen_by_number_and_by_radio_button(opened):
    page = opened()
    for key, layer in enumerate(("fixed", "before", "linear", "after"), start=1):
        page.keyboard.press(str(key))
        assert showing(page) == layer
        assert page.get_by_role("radio", name=layer).is_checked()
        assert visible(page, layer)
    page.get_by_role("radio", name="before").check()
    assert visible(page, "before")
    assert not visible(page, "after")


def test_everything_can_be_reached_by_keyboard_and_shows_it(opened):
    page = opened()
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        style = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate("document.activeElement === document.body") or (
            page.evaluate(style) == "solid"
        )
    assert {"wipe", "flicker", "flicker-fixed", "SUMMARY"} <= set(seen)


def test_nothing_of_a_users_path_is_run(opened):
    page = opened()
    assert page.title().endswith(Path(HOSTILE).name)
    assert page.locator("script").count() == 1
    assert page.locator("img[src=x]").count() == 0


def test_text_stands_out_from_the_paper(opened):
    page = opened()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours = page.evaluate(
            """["body", "body", ".note", ".badge"].map((name, n) => getComputedStyle(
                document.querySelector(name))[n ? "color" : "backgroundColor"])"""
        )
        paper, *inks = (_luminance(colour) for colour in colours)
        assert (paper > 0.5) == (scheme == "light")
        for ink in inks:
            assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) > 4.5  # WCAG 2.2, AA


def test_paper_has_every_layer_and_no_controls(opened):
    page = opened()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    for layer in ("fixed", "before", "linear", "after"):
        assert page.locator(f".layer.{layer}").count() == 3
        assert all(one.is_visible() for one in page.locator(f".layer.{layer}").all())
    assert not page.locator("#wipe").is_visible()
    assert all(page.locator("details").evaluate_all("(all) => all.map((one) => one.open)"))
    assert page.pdf().startswith(b"%PDF")


def _luminance(colour):
    """Relative luminance of "rgb(r, g, b)", WCAG 2.2."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
