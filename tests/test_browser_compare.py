"""The Compare tab in a browser: points pressed, walked and touched, light and dark, wide and narrow."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import uvicorn
from playwright.sync_api import Locator, Page, expect

import app
from evaluation.shelf import Shelf
from lens.bench import Bench
from tests.extracts import EVIL, extract
from tests.visitor import NEEDS_CHROMIUM, choose, open_tab, visit

pytestmark = NEEDS_CHROMIUM

CONTRAST = """
(colours) => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const [a, b] = colours.map((colour) => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...pen.getImageData(0, 0, 1, 1).data].map((byte) => byte / 255)
      .map((share) => (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }).sort((a, b) => a - b);
  return (b + 0.05) / (a + 0.05);
}
"""
"""Of two colours (WCAG 2.2)."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page without checkpoints, on results of our own making."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("first", "second"):
        (folder / "results" / name).mkdir(parents=True)
        extract(name).write(folder / "results" / name / "extract.json")
    mine = app.listen("127.0.0.1", 0)
    page = app.build(Bench(folder), shelf=Shelf(folder / "results", folder))
    server = uvicorn.Server(uvicorn.Config(app.web(page), log_level="critical", timeout_graceful_shutdown=1))
    thread = Thread(target=server.run, kwargs={"sockets": [mine]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{mine.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=30)
    mine.close()


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    """What the console said that it should not have."""
    return []


@pytest.fixture(scope="module")
def page(address: str, complaints: list[str]) -> Iterator[Page]:
    with visit(address, complaints, has_touch=True) as page:
        open_tab(page, "Compare")
        yield page


def marks(page: Page) -> Locator:
    return page.locator("svg [data-point]")


def drawn(page: Page, title: str) -> None:
    """Wait until the picture is there, and for its files, which come last."""
    expect(page.locator(f'svg[aria-label^="{title}"]')).to_be_visible()
    expect(page.locator("#compared-csv")).to_be_enabled()


def pressed(page: Page) -> list[str | None]:
    return [point.get_attribute("data-point") for point in page.locator('[data-point][aria-pressed="true"]').all()]


def test_the_picture_is_walked_with_the_keyboard_and_enter_opens_a_point(page: Page) -> None:
    drawn(page, "Toxicity against toxic share at equal strength, rtp")
    expect(page.locator("#point")).to_contain_text("Press a point")
    marks(page).first.focus()
    walked = []
    for key in ("Home", "ArrowRight", "ArrowLeft", "End"):
        page.keyboard.press(key)
        walked.append(page.evaluate("document.activeElement.dataset.point"))
    assert walked[0] == walked[2] != walked[1]
    assert page.locator('svg [data-point][tabindex="0"]').count() == 1
    title = walked[3].replace("/", ", ")
    expect(page.locator(".readout")).to_contain_text(f"{title}: mean toxicity")
    page.keyboard.press("Enter")
    expect(page.locator("#point [aria-live=polite] h2")).to_have_text(title)
    assert pressed(page) == [walked[3]] * 2  # in the picture and in the table
    expect(page.locator("[data-point]:not([aria-pressed])")).to_have_count(0)


@pytest.mark.parametrize("finger", [False, True])
def test_a_press_beside_a_point_opens_it(page: Page, finger: bool) -> None:
    key = f"tiny-{'00' if finger else '25'}/iti@4/rtp"
    box = page.locator(f'svg [data-point="{key}"]').bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2 + 8, box["y"] + box["height"] / 2 - 8
    (page.touchscreen.tap if finger else page.mouse.click)(x, y)
    expect(page.locator(".point-card h2")).to_have_text(key.replace("/", ", "))
    expect(page.locator(".point-card")).to_contain_text("over 40 prompts")
    assert pressed(page) == [key] * 2
    expect(page.locator("[data-point]:not([aria-pressed])")).to_have_count(0)


def test_the_table_opens_points_too(page: Page) -> None:
    cell = page.locator('.numbers [data-point="tiny-25/iti@8/rtp"]')
    expect(cell).to_have_accessible_name(re.compile(r"^tiny-25, iti@8, rtp: mean toxicity 28\.0 \[27\.0, 29\.0\]"))
    cell.press("Space")
    expect(page.locator(".point-card h2")).to_have_text("tiny-25, iti@8, rtp")
    expect(page.locator(".point-card")).to_contain_text("after Holm 0.0016")
    assert cell.evaluate("cell => cell === document.activeElement")


def test_what_a_model_wrote_stands_there_as_text(page: Page, complaints: list[str]) -> None:
    texts = page.locator(".point-card blockquote")
    expect(texts).to_have_count(6)
    expect(texts.nth(1)).to_contain_text(f"{EVIL} iti@8 0")
    assert page.locator(".point-card img").count() == 0
    assert complaints == []  # whatever ran would have found no `ran`


def test_menus_offer_what_goes_together(page: Page) -> None:
    choose(page, "Plans at", "equal cost, in nats per token")
    drawn(page, "Toxicity against toxic share at equal cost, rtp")
    assert marks(page).count() == 2 * 3
    expect(page.locator("#point")).to_contain_text("Press a point")
    choose(page, "Picture", "Multiple choice against toxic share")
    drawn(page, "Multiple choice against toxic share")
    expect(page.get_by_label("Prompts", exact=True)).to_be_hidden()
    choose(page, "Results", "results/second")
    drawn(page, "Multiple choice against toxic share")
    marks(page).first.press("Enter")
    expect(page.locator(".point-card")).to_contain_text("cannot be told from guessing")


@pytest.mark.parametrize("kind", ["png", "svg", "csv"])
def test_the_picture_and_its_numbers_are_downloaded(page: Page, kind: str, tmp_path: Path) -> None:
    drawn(page, "Multiple choice against toxic share")
    with page.expect_download() as started:
        page.locator(f"#compared-{kind}").click()
    assert started.value.suggested_filename == f"second, Multiple choice against toxic share.{kind}"
    started.value.save_as(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    if kind == "csv":
        rows = list(csv.DictReader(content.decode().splitlines()))
        assert {row["key"] for row in rows} == {mark.get_attribute("data-point") for mark in marks(page).all()}
    else:
        assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[kind])


def test_words_and_lines_can_be_told_from_the_page_in_light_and_dark(page: Page) -> None:
    seen = []
    for _ in ("light", "dark"):
        paper = page.evaluate("getComputedStyle(document.querySelector('gradio-app')).backgroundColor")
        words = page.locator("svg text").first.evaluate("text => getComputedStyle(text).fill")
        line = marks(page).first.locator("use").first.evaluate("use => getComputedStyle(use).fill")
        assert page.evaluate(CONTRAST, [words, paper]) >= 4.5
        assert page.evaluate(CONTRAST, [line, paper]) >= 3
        seen.append((words, line))
        page.get_by_role("button", name="Light or dark").click()
    assert seen[0] != seen[1]


def test_a_narrow_screen_scrolls_the_picture_and_not_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    last = page.locator(".numbers [data-point]").last
    last.press("Enter")
    expect(page.locator(".point-card")).to_be_in_viewport()
    page.set_viewport_size({"width": 1440, "height": 900})


def test_the_console_stayed_silent(complaints: list[str]) -> None:
    assert complaints == []
