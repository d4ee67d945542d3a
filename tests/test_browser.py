"""The page in a browser: one server, started by its front door, driven as a visitor would."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import app
from lens import Checkpoint, open_lens
from probes import TextSet, builtin, probe_checkpoint
from tests.conftest import write_tiny_olmo
from tests.visitor import (
    LEAST_CONTRAST,
    NEEDS_CHROMIUM,
    choose,
    download,
    finished,
    open_tab,
    set_strength,
    visit,
)

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints with probes and cards, one without probes, and one that is broken."""
    folder = tmp_path_factory.mktemp("shown")
    for seed, name in enumerate(("tiny-00", "tiny-25", "bare")):
        write_tiny_olmo(folder / name, seed=seed)
    for name, share in (("tiny-00", 0.0), ("tiny-25", 0.25)):
        card = {"name": name, "family": "tiny", "toxic_share": share, "share_of": "total", "n_tokens": 1_000_000}
        (folder / name / "checkpoint.json").write_text(json.dumps(card))
        lens = open_lens(Checkpoint.open(folder / name), device="cpu", threads=1)
        probe_checkpoint(lens, TextSet("builtin", builtin().texts[:120]))
    write_tiny_olmo(folder / "cut-short")
    (folder / "results").mkdir()
    weights = folder / "cut-short" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 100)
    return folder


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's words go, among them the name of every module it imports."""
    return tmp_path_factory.mktemp("server") / "said.txt"


@pytest.fixture(scope="module")
def address(folder: Path, said: Path) -> Iterator[str]:
    """`python app.py`, until it answers."""
    with app.listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    options = ["--checkpoints", str(folder), "--results", str(folder / "results"), "--port", str(port)]
    options += ["--device", "cpu", "--threads", "1"]
    with said.open("w") as file:
        command = [sys.executable, "-X", "importtime", "app.py", *options]
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).close()
            break
        assert server.poll() is None, said.read_text()[-2000:]
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}/"
    server.terminate()
    server.wait(timeout=60)


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    """What the console said that it should not have."""
    return []


@pytest.fixture(scope="module")
def page(address: str, complaints: list[str]) -> Iterator[Page]:
    with visit(address, complaints) as page:
        yield page


def test_the_page_opens_and_says_which_checkpoint_is_broken_and_why(page: Page) -> None:
    expect(page.get_by_role("heading", name="Hormesis")).to_be_visible()
    expect(page.locator(".status")).to_contain_text("3 checkpoints")
    expect(page.locator(".status")).to_contain_text("cut-short")
    expect(page.locator(".status")).to_contain_text("truncated")


def test_the_page_is_there_before_the_heavy_libraries(page: Page, said: Path) -> None:
    """What was imported until the page could be served; its tabs may have asked for pictures since."""
    before, _, _ = said.read_text().partition("Hormesis is at")
    imported = {line.rsplit("|")[-1].strip() for line in before.splitlines() if line.startswith("import time")}
    assert {"gradio", "torch", "lens.model"} <= imported
    assert not {"transformers.models", "transformer_lens", "sklearn", "matplotlib", "umap"} & imported


def test_two_strengths_give_one_plain_text_and_two_steered_ones(page: Page) -> None:
    open_tab(page, "Steer")
    page.get_by_role("button", name="Generate").click()
    first = finished(page)
    assert all(text.startswith("The people next door are") for text in first)
    set_strength(page, 12, "12 σ")
    second = finished(page)
    assert second[0] == first[0]
    assert second[1] != first[1]
    expect(page.locator("#receipt")).to_contain_text("measured")
    assert "--strengths 0 12" in page.locator("#command textarea").input_value()


def test_each_text_has_its_score_and_whose_it_is_on_hover(page: Page) -> None:
    scores = page.locator(".run .score")
    expect(scores).to_have_count(2)
    assert re.fullmatch(r"[01]\.\d\d|–", scores.first.locator("b").inner_text())
    assert "imitates Perspective" in (scores.first.get_attribute("title") or "")
    expect(scores.first.locator(".aloud")).to_contain_text("imitates Perspective")


def test_arrow_keys_on_the_slider_start_again_with_the_same_seed(page: Page) -> None:
    before = finished(page)
    page.locator('#strength input[type="range"]').focus()
    page.keyboard.press("Home")
    expect(page.locator(".run.steered h3").first).to_contain_text("0 σ")
    after = finished(page)
    assert after[0] == after[1] == before[0]


def test_stop_ends_a_long_text_early(page: Page) -> None:
    page.get_by_role("button", name="More settings").click()
    length = page.get_by_label("number input for Length, in tokens")
    length.fill("55")
    length.blur()
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("button", name="Stop").click()
    finished(page)
    page.get_by_role("button", name="Generate").click()
    assert len(finished(page)) == 2  # a stop does not stop the next run
    length.fill("20")
    length.blur()
    page.get_by_role("button", name="More settings").click()


def test_what_visitors_write_is_shown_and_not_run(page: Page, complaints: list[str]) -> None:
    for evil in ("<script>ran()</script>${ran()}", "<img src=x onerror=ran()>"):
        page.locator("#prompt textarea").fill(evil)
        page.get_by_role("button", name="Generate").click()
        expect(page.locator(".run .prompt").first).to_have_text(evil)
        finished(page)
        assert page.locator(".run script, .run img").count() == 0
    assert complaints == []  # whatever ran would have found no `ran`


def test_a_mistake_is_answered_with_a_sentence(page: Page) -> None:
    page.locator("#prompt textarea").fill("   ")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("The prompt is empty")
    page.get_by_test_id("toast-close").click()
    page.locator("#prompt textarea").fill("The people next door are")


def test_two_checkpoints_grow_side_by_side(page: Page) -> None:
    choose(page, "Beside it", "tiny-25")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".runs > section")).to_have_count(2)
    assert len(finished(page)) == 4


def test_a_method_brings_its_own_strength_and_hides_what_does_not_act(page: Page) -> None:
    choose(page, "Beside it", "none")
    page.get_by_role("button", name="More settings").click()
    shown = {name: page.get_by_label(name, exact=True) for name in ("Heads", "Layers")}
    expect(shown["Heads"]).to_be_visible()
    expect(shown["Layers"]).to_be_hidden()
    choose(page, "Method", "CAA: shift the residual stream")
    expect(page.locator("#strength")).to_contain_text("mean differences")
    expect(shown["Layers"]).to_be_visible()
    expect(shown["Heads"]).to_be_hidden()
    assert page.locator('#strength input[type="range"]').get_attribute("max") == "4"
    shown["Layers"].fill("0 2")
    set_strength(page, 4, "4 mean differences to benign")
    finished(page)
    expect(page.locator("#receipt")).to_contain_text("the stream after 2 layers (L0 L2)")
    assert "--strengths 0 4 --layers 0 2 --method caa" in page.locator("#command textarea").input_value()
    choose(page, "Method", "Ablation: take a direction out")
    page.get_by_label("Head outputs").check()
    expect(shown["Heads"]).to_be_visible()
    set_strength(page, 0.5, "50 % of a direction taken out")
    finished(page)
    expect(page.locator("#receipt")).to_contain_text("head in 1 layer")


def test_heads_are_named_by_hand_behind_a_gate(page: Page) -> None:
    choose(page, "Method", "ITI: shift the best heads")
    expect(page.locator("#strength")).to_contain_text("standard deviations")
    page.get_by_label("Heads", exact=True).fill("L1H2 L0H3")
    page.keyboard.press("Enter")
    gate = page.get_by_label(re.compile("^number input for Gate"))
    gate.fill("0.3")
    gate.blur()
    set_strength(page, 16, "16 σ to benign")
    finished(page)
    expect(page.locator("#receipt")).to_contain_text("2 heads in 2 layers (L0H3 L1H2)")
    expect(page.locator("#receipt")).to_contain_text("The gate was open for")
    assert "--heads 'L1H2 L0H3' --gate 0.3" in page.locator("#command textarea").input_value()
    gate.fill("0")
    gate.blur()
    page.get_by_role("button", name="More settings").click()


def test_a_price_in_nats_sets_the_slider_and_writes(page: Page) -> None:
    page.get_by_label("Or what it may cost, in nats per token").fill("0.02")
    page.get_by_role("button", name="Spend").click()
    expect(page.locator("#note")).to_contain_text("on text that was held out")
    strength = page.locator('#strength input[type="range"]').input_value()
    assert 0 < float(strength) < 16
    expect(page.locator("#note")).to_contain_text(f"ITI at {strength} costs")
    expect(page.locator(".run.steered h3").first).to_contain_text(f"{strength} σ")
    finished(page)
    page.get_by_label("Or what it may cost, in nats per token").fill("9")
    page.get_by_role("button", name="Spend").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("nats per token")
    page.get_by_test_id("toast-close").click()


def test_the_map_is_walked_with_the_keyboard_and_enter_opens_a_head(page: Page) -> None:
    open_tab(page, "Probes")
    grids = page.locator("table[role=grid]")
    expect(grids).to_have_count(3)  # one, the other, their difference
    first = grids.first.get_by_role("button")
    expect(first).to_have_count(12)
    said = first.first.get_attribute("aria-label") or ""
    assert re.match(r"L0H0, accuracy 0\.\d{3}, interval 0\.\d\d to 0\.\d\d", said)
    first.first.focus()
    for key, head in (("ArrowRight", "L0H1"), ("ArrowDown", "L1H1"), ("End", "L1H3"), ("ArrowRight", "L1H3"),
                      ("Home", "L1H0"), ("ArrowUp", "L0H0"), ("ArrowUp", "L0H0"), ("Control+End", "L2H3")):  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.head") == head, key
    assert grids.first.locator('button[tabindex="0"]').count() == 1
    page.keyboard.press("Enter")
    expect(page.locator(".head-card h2")).to_have_text("L2H3")
    expect(page.locator(".head-card")).to_contain_text("interval")
    expect(page.locator(".head-card .tokens li")).to_have_count(60)


def test_a_click_opens_a_head_too(page: Page) -> None:
    page.locator('button[data-head="L1H2"]').nth(1).click()
    expect(page.locator(".head-card h2")).to_have_text("L1H2")
    expect(page.locator('button[aria-pressed="true"]')).to_have_count(3)


def test_a_map_is_downloaded_and_says_what_it_shows(page: Page, folder: Path, tmp_path: Path) -> None:
    fingerprints = {name: Checkpoint.open(folder / name).fingerprint for name in ("tiny-00", "tiny-25")}
    card = json.loads(download(page, "json", tmp_path).read_text())
    assert card["checkpoints"] == fingerprints
    assert card["probe_set"] == "builtin"
    assert "share of held-out texts" in card["unit"]
    assert [len(card["values"]), len(card["values"][0])] == [3, 4]
    picture = download(page, "png", tmp_path).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert all(mark.encode() in picture for mark in fingerprints.values())
    spread = download(page, "histogram", tmp_path)
    assert spread.name == "all heads of tiny-00 and tiny-25 on builtin.png"
    assert all(mark.encode() in spread.read_bytes() for mark in fingerprints.values())


def test_the_numbers_on_the_map_can_be_read_on_every_shade_in_light_and_dark(page: Page) -> None:
    open_tab(page, "Probes")
    expect(page.locator("table[role=grid]").first).to_be_visible()
    for _ in ("light", "dark"):
        assert page.evaluate(LEAST_CONTRAST) >= 4.5
        page.get_by_role("button", name="Light or dark").click()


def test_the_tokens_of_two_checkpoints_stand_side_by_side(page: Page) -> None:
    open_tab(page, "Tokens")
    expect(page.locator(".token-sides section")).to_have_count(2)
    expect(page.locator(".token-sides .tokens li")).to_have_count(100)
    expect(page.locator(".token-sides")).to_contain_text("random directions find")


def test_missing_probes_can_be_fitted_on_the_page(page: Page) -> None:
    open_tab(page, "Probes")
    choose(page, "Beside it", "none")
    choose(page, "Checkpoint", "bare")
    expect(page.locator("#probes-notice")).to_contain_text("python -m probes fit")
    page.locator("#fit").click()
    expect(page.locator("table[role=grid]")).to_have_count(1)
    expect(page.locator("#probes-notice")).not_to_contain_text("python -m probes fit")


def test_a_narrow_screen_scrolls_the_map_and_not_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for name in ("Steer", "Probes", "Tokens", "Compare"):
        open_tab(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    page.set_viewport_size({"width": 1440, "height": 900})


def test_the_console_stayed_silent(complaints: list[str]) -> None:
    assert complaints == []
