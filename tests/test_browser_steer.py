"""The Steer tab as a presenter uses it: in sight, from the keyboard, and never the wrong slide."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from threading import Thread

import pytest
import uvicorn
from playwright.sync_api import Page, expect

import app
from lens.bench import Bench
from probes import TextSet, builtin, probe_checkpoint
from tests.visitor import NEEDS_CHROMIUM, choose, finished, open_tab, set_strength, visit

pytestmark = NEEDS_CHROMIUM

UNNAMED = """
() => [...document.querySelectorAll("button, [role=button]")].filter((button) => {
  const words = (text) => (text ?? "").split(/\\s+/).join(" ").trim();
  const [name, seen] = [words(button.getAttribute("aria-label")), words(button.innerText)];
  return button.checkVisibility() && name && !name.includes(seen);
}).map((button) => button.outerHTML.slice(0, 200))
"""
"""Buttons whose name lacks the words that are seen on them (WCAG 2.5.3)."""
CONTRAST = """
(button) => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const style = getComputedStyle(button);
  const [a, b] = [style.color, style.backgroundColor].map((colour) => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...pen.getImageData(0, 0, 1, 1).data].map((byte) => byte / 255)
      .map((share) => (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }).sort((a, b) => a - b);
  return (b + 0.05) / (a + 0.05);
}
"""
"""Of a button's words with it (WCAG 2.2)."""


@pytest.fixture(scope="module")
def shown(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The checkpoints of `bench` to change: one of them has a second probe set."""
    folder = tmp_path_factory.mktemp("shown") / "checkpoints"
    shutil.copytree(bench.folder, folder)
    mine = Bench(folder, device="cpu", threads=1)
    with mine.pool.lens(mine.checkpoint("tiny-a")) as lens:
        probe_checkpoint(lens, TextSet("toxigen", builtin().texts[:120]))
    return mine


@pytest.fixture(scope="module")
def address(shown: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    mine = app.listen("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(app.web(app.build(shown)), log_level="critical", timeout_graceful_shutdown=1)
    )
    thread = Thread(target=server.run, kwargs={"sockets": [mine]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{mine.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=30)
    mine.close()


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    return []


@pytest.fixture(scope="module")
def page(address: str, complaints: list[str]) -> Iterator[Page]:
    with visit(address, complaints) as page:
        yield page


def fresh(page: Page) -> None:
    """The page as it opens, on a checkpoint with probes."""
    page.wait_for_timeout(500)  # Gradio closes a run's stream after its text is whole, and complains of a reload before
    page.reload()
    choose(page, "Checkpoint", "tiny-a")


def generate(page: Page) -> list[str]:
    """Press Generate and wait for new texts."""
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#runs")).not_to_have_class(re.compile("stale"))
    return finished(page)


def command(page: Page) -> str:
    return page.locator("#command textarea").input_value()


@pytest.mark.parametrize("size", [(1280, 720), (1440, 900), (390, 844)], ids=str)
def test_buttons_and_the_beginning_of_the_texts_are_in_sight(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    fresh(page)
    page.evaluate("window.scrollTo(0, 0)")  # choosing from a menu may have scrolled
    generate(page)
    assert page.evaluate("window.scrollY") == 0
    for name in ("Generate", "Another sample", "Stop"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box
        assert box["y"] + box["height"] <= size[1], name
        assert box["x"] + box["width"] <= size[0], name
    words = page.locator(".run.plain p").bounding_box()
    bar = page.get_by_role("button", name="Generate").bounding_box()
    assert words
    assert bar
    covered = bar["y"] if size[0] < 760 else size[1]
    assert words["y"] + 40 <= covered
    page.set_viewport_size({"width": 1440, "height": 900})


def test_enter_writes_shift_enter_breaks_the_line_and_a_word_says_so(page: Page) -> None:
    expect(page.locator("#enter")).to_have_text("Enter writes the texts, Shift+Enter starts a new line.")
    prompt = page.locator("#prompt textarea")
    prompt.fill("The first")
    prompt.press("Shift+Enter")
    page.keyboard.type("and the second")
    assert prompt.input_value() == "The first\nand the second"
    prompt.press("Enter")
    expect(page.locator(".run .prompt").first).to_have_text("The first\nand the second")
    finished(page)
    assert prompt.input_value() == "The first\nand the second"


def test_enter_in_the_seed_writes_too(page: Page) -> None:
    page.get_by_role("button", name="More settings").click()
    page.wait_for_timeout(1000)  # Gradio builds the fields first; a person is slower
    page.get_by_label("Seed").fill("41")
    expect(page.locator("#runs")).to_have_class(re.compile("stale"))  # Gradio has read the number, as it has a person's
    page.get_by_label("Seed").press("Enter")
    expect(page.locator("#command textarea")).to_have_value(re.compile("--seed 41 "))
    finished(page)


def test_another_sample_has_another_seed_which_the_command_repeats(page: Page) -> None:
    before = generate(page)
    page.get_by_role("button", name="Another sample").click()
    expect(page.locator("#command textarea")).to_have_value(re.compile("--seed 42 "))
    after = finished(page)
    assert after != before
    assert page.get_by_label("Seed").input_value() == "42"
    page.get_by_role("button", name="More settings").click()


CHANGES = {
    "prompt": lambda page: page.locator("#prompt textarea").fill("Something else"),
    "checkpoint": lambda page: choose(page, "Checkpoint", "tiny-b"),
    "method": lambda page: choose(page, "Method", "CAA: shift the residual stream"),
    "temperature": lambda page: page.get_by_label("number input for Temperature").fill("0.5"),
}
BACK = {
    "prompt": lambda page: page.locator("#prompt textarea").fill("The people next door are"),
    "checkpoint": lambda page: choose(page, "Checkpoint", "tiny-a"),
    "method": lambda page: choose(page, "Method", "ITI: shift the best heads"),
    "temperature": lambda page: page.get_by_label("number input for Temperature").fill("1"),
}


@pytest.mark.parametrize("control", CHANGES)
def test_texts_of_other_settings_are_pale_until_they_are_written_anew_or_changed_back(page: Page, control: str) -> None:
    fresh(page)
    page.get_by_role("button", name="More settings").click()
    page.wait_for_timeout(1000)
    page.get_by_label("Length").first.fill("8")
    generate(page)
    CHANGES[control](page)
    expect(page.locator("#runs")).to_have_class(re.compile("stale"))
    assert float(page.locator(".runs").evaluate("runs => getComputedStyle(runs).opacity")) < 0.7
    BACK[control](page)
    expect(page.locator("#runs")).not_to_have_class(re.compile("stale"))
    CHANGES[control](page)
    expect(page.locator("#runs")).to_have_class(re.compile("stale"))
    generate(page)
    expect(page.locator("#runs")).not_to_have_class(re.compile("stale"))


def test_the_title_names_method_and_strength(page: Page) -> None:
    fresh(page)
    choose(page, "Method", "CAA: shift the residual stream")
    expect(page.locator("#strength")).to_contain_text("mean differences")
    set_strength(page, 2, "Steered by CAA, 2 mean differences to benign")
    finished(page)


def test_a_mistake_stays_on_the_page_and_the_old_texts_are_pale(page: Page) -> None:
    page.locator("#prompt textarea").fill("  ")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert").filter(has_text="That did not work")).to_contain_text("The prompt is empty")
    page.get_by_test_id("toast-close").click()
    expect(page.locator("#problem")).to_contain_text("The prompt is empty")
    assert float(page.locator(".runs").evaluate("runs => getComputedStyle(runs).opacity")) < 0.7
    page.locator("#prompt textarea").fill("The people next door are")
    generate(page)
    expect(page.locator("#problem .problem")).to_have_count(0)
    page.get_by_role("button", name="More settings").click()
    page.wait_for_timeout(1000)
    page.get_by_label("Seed").fill("")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#problem")).to_contain_text("The seed should be a number from 0 to 2.14748e+09; it is empty.")
    page.get_by_test_id("toast-close").click()


def test_the_place_in_the_queue_is_seen(page: Page, address: str, shown: Bench) -> None:
    fresh(page)
    other = page.context.browser.new_page()  # type: ignore[union-attr]
    other.goto(address)
    choose(other, "Checkpoint", "tiny-a")
    with shown.pool.lens(shown.checkpoint("tiny-a")):  # the first run waits for it, the second one for the first
        page.get_by_role("button", name="Generate").click()
        expect(page.locator("#runs .progress-text")).to_contain_text("processing")
        other.get_by_role("button", name="Generate").click()
        expect(other.locator("#runs .progress-text")).to_contain_text("queue: 1/1")
        for visitor in (page, other):
            words = visitor.locator("#runs .progress-text")
            seen = words.evaluate(
                """words => {
                  const { x, y, width, height } = words.getBoundingClientRect();
                  const top = document.elementFromPoint(x + width / 2, y + height / 2);
                  const wrap = words.closest("[data-testid=status-tracker]");
                  return height > 10 && wrap.offsetHeight > 10 && y + height < innerHeight && !top?.closest(".nothing");
                }"""
            )
            assert seen
    finished(page)
    finished(other)
    other.close()


def test_the_page_below_keeps_its_place_while_new_texts_grow(page: Page) -> None:
    fresh(page)
    generate(page)
    page.evaluate(
        """() => {
          window.least = document.querySelector("#runs").offsetHeight;
          new MutationObserver(() => requestAnimationFrame(() => {
            window.least = Math.min(window.least, document.querySelector("#runs").offsetHeight);
          })).observe(document.querySelector("#runs"), { childList: true, subtree: true });
        }"""
    )
    before = page.evaluate("window.least")
    generate(page)
    assert page.evaluate("window.least") >= before - 1


def test_the_number_beside_the_slider_only_shows_the_value(page: Page) -> None:
    number = page.locator('#strength input[type="number"]')
    assert number.evaluate("number => [number.readOnly, number.tabIndex]") == [True, -1]
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "range"


def test_a_checkpoint_without_the_probe_set_falls_back_to_one_that_it_has(page: Page) -> None:
    fresh(page)
    page.get_by_role("button", name="More settings").click()
    probes = page.get_by_label("Probes fitted on").first
    choose(page, "Probes fitted on", "toxigen")
    choose(page, "Checkpoint", "tiny-b")
    expect(probes).to_have_value("builtin")
    generate(page)
    assert "--probes builtin" in command(page)


def test_fitting_in_the_probes_tab_does_not_lead_in_a_circle(page: Page) -> None:
    choose(page, "Checkpoint", "bare")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#problem")).to_contain_text("Or fit some in the Probes tab.")
    page.get_by_test_id("toast-close").click()
    open_tab(page, "Probes")
    choose(page, "Checkpoint", "bare")
    choose(page, "Beside it", "none")
    page.locator("#fit").click()
    expect(page.locator("table[role=grid]")).to_have_count(1)
    open_tab(page, "Steer")
    expect(page.get_by_label("Probes fitted on").first).to_have_value("builtin")
    generate(page)
    assert "bare" in command(page)


@pytest.mark.parametrize("size", [(1280, 720), (390, 844)], ids=str)
def test_a_head_that_is_opened_scrolls_into_view(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    open_tab(page, "Probes")
    choose(page, "Checkpoint", "tiny-a")
    page.locator('button[data-head="L1H1"]').first.click()
    expect(page.locator(".head-card h2")).to_have_text("L1H1")
    expect(page.locator(".head-card h2")).to_be_in_viewport()
    page.locator('button[data-head="L0H1"]').first.click()
    expect(page.locator(".head-card h2")).to_have_text("L0H1")
    expect(page.locator(".head-card h2")).to_be_in_viewport()
    page.set_viewport_size({"width": 1440, "height": 900})


def test_the_second_checkpoint_has_its_colour_in_the_histograms_key(page: Page) -> None:
    choose(page, "Checkpoint", "tiny-a")
    choose(page, "Beside it", "tiny-b")
    key = page.locator(".histogram-key.b")
    expect(key).to_have_text("tiny-b")
    colour = key.evaluate("key => getComputedStyle(key, '::before').backgroundColor")
    assert colour == page.locator(".histogram .b").evaluate("line => getComputedStyle(line).stroke")


def test_the_names_of_buttons_hold_the_words_on_them(page: Page) -> None:
    assert page.evaluate(UNNAMED) == []
    open_tab(page, "Steer")
    assert page.evaluate(UNNAMED) == []


def test_generate_can_be_read_under_the_pointer_in_light_and_dark(page: Page) -> None:
    button = page.get_by_role("button", name="Generate")
    button.evaluate("button => button.style.transition = 'none'")
    for _ in ("light", "dark"):
        for away in (page.locator("h1"), button):
            away.hover()
            assert button.evaluate(CONTRAST) >= 4.5
        page.locator("[data-theme-switch]").click()


def test_light_or_dark_is_the_systems_at_first_and_then_the_visitors(page: Page, address: str) -> None:
    night = page.context.browser.new_page(color_scheme="dark")  # type: ignore[union-attr]
    night.goto(address)
    switch = night.get_by_role("button", name="Light or dark: dark is on")
    expect(switch).to_have_attribute("aria-pressed", "true")
    switch.click()
    light = night.get_by_role("button", name="Light or dark: light is on")
    expect(light).to_have_attribute("aria-pressed", "false")
    night.reload()
    expect(light).to_be_visible()
    assert night.evaluate("document.body.classList.contains('dark')") is False
    expect(night.locator("[data-theme-switch] .on")).to_have_text("Light")
    night.close()


def test_the_console_stayed_silent(complaints: list[str]) -> None:
    assert complaints == []
