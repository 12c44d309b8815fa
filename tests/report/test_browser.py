"""The page in a real browser, the system's Chromium: sort, filter, enlarge, values on curves, light and dark, 400 px, paper, and axe-core's rules."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

import sparring
from sparring.checks.controls import images, linear_net
from sparring.report.page import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'sparring[dev]'")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: apt-get install chromium"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    place, net, x = tmp_path_factory.mktemp("browser"), linear_net(scale=0.2), images(12)
    y = net(x).argmax(1).detach()
    attacks = ["pgd:eps=1/255,steps=2", "pgd:eps=8/255,steps=2"]
    sparring.evaluate(net, (x, y), ["cd:bits=3"], ["oblivious", "adaptive"], attacks, out=place / "run")
    shutil.copytree(place / "run", place / "again")
    return f"file://{write_report([place / 'run', place / 'again'], place / 'page.html')}"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address, request) -> Iterator:
    """The page as it opens, in a context of the asked settings; it must say nothing on the console."""
    said: list[str] = []
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **getattr(request, "param", {})})
    opened = context.new_page()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(address)
    yield opened
    context.close()
    assert not said


def column(page, title: str, name: str) -> list[str]:
    """What stands in a column of the first table with a caption, in the order in which it is seen."""
    table = page.locator("table", has=page.locator("caption", has_text=title)).first
    return table.locator(f"tbody tr:not([hidden]) [data-name='{name}'] > :first-child").all_inner_texts()


def test_a_column_sorts_by_its_numbers_up_down_and_back(page):
    before = column(page, "Worst case", "robust at most")
    assert len(set(before)) > 2, before
    heading = page.locator("thead button", has_text="robust at most").nth(1)
    heading.click()
    assert column(page, "Worst case", "robust at most") == sorted(before, key=float)
    assert page.locator("th[aria-sort=ascending]").count() == 1
    heading.press("Enter")
    assert column(page, "Worst case", "robust at most") == sorted(before, key=float, reverse=True)
    heading.click()
    assert column(page, "Worst case", "robust at most") == before


def test_balls_sort_by_their_radius_and_groups_say_their_name_again(page):
    page.locator("table", has=page.locator("caption", has_text="Worst case")).first.locator(
        "thead button", has_text="ball"
    ).click()
    balls = column(page, "Worst case", "ball")
    assert balls == sorted(balls, key=lambda text: float(text.split()[1].split("/")[0]))
    names = page.locator("table", has=page.locator("caption", has_text="Worst case")).first.locator("tbody .again span")
    assert all(box and box["width"] > 5 for box in (name.bounding_box() for name in names.all()))


def test_a_filter_hides_rows_says_how_many_and_paper_shows_all(page):
    box = page.get_by_label("rows with, in What became of each image").first
    lines = len(column(page, "What became of each image", "image"))
    box.fill("cd:bits=3 BROKEN")
    shown = column(page, "What became of each image", "defense")
    assert set(shown) == {"cd:bits=3"}
    assert 0 < len(shown) < lines
    assert page.get_by_text(f"{len(shown)} of {lines} rows shown").count() == 1
    page.emulate_media(media="print")
    assert page.locator("tr[hidden]").first.is_visible()


def test_a_picture_enlarges_by_keyboard_and_the_focus_returns(page):
    button = page.locator(".zoom").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.locator("img").count() == 4
    assert dialog.locator("img").first.bounding_box()["width"] > 2 * button.bounding_box()["width"]
    assert "attacked, stored as 8 bits" in dialog.inner_text()
    title = dialog.locator("h2").inner_text()
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h2").inner_text() != title
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert button.evaluate("button => button === document.activeElement")


def test_a_point_of_a_curve_says_its_value(page):
    point = page.locator(".point").nth(1)
    point.focus()
    words = page.locator(".readout").first.inner_text()
    assert words == point.get_attribute("aria-label")
    assert "% at eps" in words
    assert "n=12" in words


def test_the_next_command_is_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    line = page.locator(".next").first
    line.locator("button").click()
    playwright.expect(line.locator("button")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == line.locator("code").inner_text()


NARROW = {"viewport": {"width": 400, "height": 800}}


@pytest.mark.parametrize("page", [NARROW], indirect=True)
def test_at_400_px_every_number_is_within_the_window(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    cells = page.locator("main > .wide tbody td, main > .wide tbody th")
    edges = cells.evaluate_all(
        "cells => cells.map(cell => [cell.getBoundingClientRect().right, cell.scrollWidth - cell.clientWidth])"
    )
    assert edges
    assert all(right <= 400 and over <= 0 for right, over in edges)
    assert all(width > 5 for width in page.locator(".again span").evaluate_all("all => all.map(s => s.offsetWidth)"))
    label = page.locator("main > .wide td").first.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert label.startswith("attr(data-name)") or "threat" in label or "model" in label


@pytest.mark.parametrize("page", [NARROW], indirect=True)
def test_at_400_px_a_table_sorts(page):
    table = page.locator("table", has=page.locator("caption", has_text="Worst case")).first
    button = table.locator("thead button", has_text="robust at most")
    assert button.bounding_box()["x"] + button.bounding_box()["width"] <= 400
    before = column(page, "Worst case", "robust at most")
    button.click()
    assert column(page, "Worst case", "robust at most") == sorted(before, key=float) != before


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_all_is_there(page):
    assert page.locator(".card .number").first.is_visible()
    assert page.locator("button").count() == 0
    assert page.locator("main > .wide tbody tr").first.is_visible()


@pytest.mark.parametrize(
    "page",
    [{"color_scheme": scheme, **size} for scheme in ("light", "dark") for size in ({}, NARROW)],
    indirect=True,
    ids=lambda settings: "-".join(map(str, (settings["color_scheme"], *settings.get("viewport", {}).values()))),
)
def test_axe_finds_nothing_serious(page):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe-core: pip install 'sparring[dev]'"
    )
    page.locator("details").evaluate_all("all => all.forEach(one => (one.open = true))")
    violations = axe.Axe().run(page).response["violations"]
    assert not [(v["id"], v["nodes"][0]["html"]) for v in violations if v["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("page", [{"color_scheme": "dark"}], indirect=True)
def test_dark_is_dark(page):
    shades = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert max(shades) < 60
