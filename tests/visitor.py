"""What a visitor does in a browser, for the tests that do the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Download, Page, expect, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true",  # there, tests that are skipped would test nothing for ever
    reason="no chromium here: apt-get install chromium, or set CHROMIUM",
)
QUIETLY = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]  # fmt: skip
PATIENCE = 60_000
"""Milliseconds; a shared machine may be busy."""

LEAST_CONTRAST = """
() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colour) => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((byte) => byte / 255)
      .map((share) => (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const button = document.querySelector(".headmap button");
  const was = [button.className, button.style.cssText];
  button.style.transition = "none";
  let least = 21;
  for (const kind of ["more", "less", "more muted", "less muted"]) {
    button.className = kind;
    for (let t = 0; t <= 1; t += 0.01) {
      button.style.setProperty("--t", t);
      const style = getComputedStyle(button);
      const [dark, light] = [luminance(style.color), luminance(style.backgroundColor)].sort((a, b) => a - b);
      least = Math.min(least, (light + 0.05) / (dark + 0.05));
    }
  }
  [button.className, button.style.cssText] = was;
  return least;
}
"""
"""Of the numbers on the map with their cells (WCAG 2.2, without the thin hatching), over every shade there is."""


@contextmanager
def visit(address: str, complaints: list[str], **options: Any) -> Iterator[Page]:
    """A wide page of its own; what its console should not have said goes to `complaints`."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIETLY)
        page = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True, **options)
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        yield page
        browser.close()


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def finished(page: Page) -> list[str]:
    """Plain and steered text, once both have stopped growing."""
    expect(page.locator(".run.steered[aria-busy=false]").first).to_be_visible()
    return [shown.inner_text() for shown in page.locator(".run p").all()]


def set_strength(page: Page, strength: float, shown: str) -> None:
    """Press a mark, and wait for the run that it starts."""
    page.locator(f'.marks button[data-strength="{strength:g}"]').click()
    expect(page.locator(".run.steered h3").first).to_contain_text(shown)


def choose(page: Page, label: str, option: str) -> None:
    """Of the tab that is open."""
    page.get_by_role("tabpanel").filter(visible=True).get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).filter(visible=True).click()
    expect(page.get_by_role("listbox").filter(visible=True)).to_have_count(0)


def download(page: Page, which: str, folder: Path) -> Path:
    button = page.locator(f"#save-{which}")
    expect(button).to_be_enabled()
    with page.expect_download() as started:
        button.click()
    file: Download = started.value
    assert file.suggested_filename.endswith(".png" if which == "histogram" else f".{which}")
    file.save_as(folder / file.suggested_filename)
    return folder / file.suggested_filename
