"""The page: `python app.py` serves the checkpoints of a folder to a browser, on this machine alone unless told."""

from __future__ import annotations

import html
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
import tyro

import probes.panel
import probes.tokens_panel
import steering.panel
from lens.bench import Bench

STYLES = [Path(__file__).parent / package / "panel.css" for package in ("lens", "probes", "steering")]
TAGLINE = "See where a language model keeps its toxicity, and turn it up or down."
WAITING = 32
"""Visitors in the queue at most; the next one is told that it is full."""


@dataclass(frozen=True)
class Settings:
    """Serve the Hormesis page."""

    checkpoints: Path = Path("checkpoints")
    """Folder with the checkpoints to show."""
    host: str = "127.0.0.1"
    """Address to listen on. The default is this machine alone; 0.0.0.0 lets the whole network in."""
    port: int = 7860
    auth: str | None = None
    """Ask visitors for this name and password, written user:password."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: str | None = None
    """float32, bfloat16 or float16; by default float32 for small models, else bfloat16."""
    threads: int | None = None
    """CPU threads for torch."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"A port is a number from 1 to 65535; got {self.port}.")
        if self.auth is not None and not all(self.auth.partition(":")):
            raise ValueError("--auth is a name and a password with a colon between them, like --auth anna:secret.")

    @property
    def login(self) -> tuple[str, str] | None:
        if self.auth is None:
            return None
        name, _, password = self.auth.partition(":")
        return name, password


class PortTaken(OSError):
    """Somebody else listens there."""


def build(bench: Bench) -> gr.Blocks:
    """The three tabs, on whatever the folder of checkpoints holds."""
    with gr.Blocks(title="Hormesis", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(_masthead(), js_on_load=THEME_SWITCH, apply_default_css=False)
        with gr.Tabs():
            with gr.Tab("Steer", id="steer"):
                steer = steering.panel.build(bench, page)
            with gr.Tab("Probes", id="probes") as tab:
                probe = probes.panel.build(bench, tab)
            with gr.Tab("Tokens", id="tokens") as tab:
                token = probes.tokens_panel.build(bench, tab)
        status = gr.HTML(_status(bench), apply_default_css=False)
        menus = (steer, probe, token)

        def refresh() -> list[Any]:
            names = bench.catalogue.names
            return [*(update for menu in menus for update in menu.update(names)), _status(bench)]

        outputs = [*(menu for pair in menus for menu in (pair.a, pair.b)), status]
        page.load(refresh, None, outputs, show_progress="hidden", queue=False, api_visibility="private")
    return page


def _masthead() -> str:
    return (
        f'<header class="masthead"><h1>Hormesis</h1><p>{html.escape(TAGLINE)}</p>'
        '<button type="button" data-theme-switch>Light or dark</button></header>'
    )


THEME_SWITCH = """
element.addEventListener("click", (event) => {
  if (event.target.closest("[data-theme-switch]")) document.body.classList.toggle("dark");
});
"""


def _status(bench: Bench) -> str:
    """How many checkpoints there are; those that cannot be opened, each with its reason."""
    catalogue = bench.catalogue
    whole, broken = len(catalogue), catalogue.broken
    here = f"{whole} checkpoint{'' if whole == 1 else 's'} in {html.escape(str(bench.folder))}/"
    if not broken:
        return f'<div class="status" role="status">{here}.</div>'
    reasons = "".join(f"<li><b>{html.escape(name)}</b>: {html.escape(why)}</li>" for name, why in broken.items())
    return (
        f'<div class="status" role="status"><details open><summary>{here}; {len(broken)} unavailable</summary>'
        f"<ul>{reasons}</ul></details></div>"
    )


def theme() -> gr.themes.Base:
    """Paper and ink with one accent, in the fonts that come with gradio: nothing is fetched from elsewhere."""
    sans, mono = (
        gr.themes.utils.fonts.LocalFont(name, weights=(400, 700)) for name in ("IBM Plex Sans", "IBM Plex Mono")
    )
    return gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="zinc",
        radius_size="md",
        spacing_size="md",
        font=[sans, "system-ui", "sans-serif"],
        font_mono=[mono, "ui-monospace", "monospace"],
    ).set(
        body_background_fill="#fbfaf8",
        body_background_fill_dark="#121517",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1a1e21",
        background_fill_secondary="#f4f2ee",
        background_fill_secondary_dark="#20262a",
        body_text_color="#1c2226",
        body_text_color_dark="#e8eaeb",
        body_text_color_subdued="#5a646b",
        body_text_color_subdued_dark="#9aa4ab",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_padding="0px",
        block_shadow="none",
        block_title_text_color="*body_text_color_subdued",
        block_title_text_size="13px",
        block_title_text_weight="400",
        border_color_primary="#e2ded7",
        border_color_primary_dark="#2f373c",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1a1e21",
        input_border_width="1px",
        input_border_color="*border_color_primary",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="*background_fill_primary",
        button_secondary_background_fill_dark="*background_fill_primary",
        button_secondary_background_fill_hover="*background_fill_secondary",
        button_secondary_background_fill_hover_dark="*background_fill_secondary",
        button_secondary_border_color="*border_color_primary",
        button_border_width="1px",
        button_large_text_weight="600",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_label_background_fill="*background_fill_primary",
        checkbox_label_background_fill_dark="*background_fill_primary",
    )


def check_port(host: str, port: int) -> None:
    """Say that a port is taken before anything else starts, and name one that is free."""
    if _is_free(host, port):
        return
    other = next((p for p in range(port + 1, min(port + 200, 65536)) if _is_free(host, p)), None)
    offer = f" Port {other} is free: python app.py --port {other}" if other else " Choose another with --port."
    raise PortTaken(f"Port {port} on {host} is taken by another program.{offer}")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def serve(settings: Settings) -> None:
    """Check what can be checked, then serve until stopped."""
    check_port(settings.host, settings.port)
    bench = Bench(settings.checkpoints, settings.device, settings.dtype, settings.threads)
    page = build(bench)
    page.queue(max_size=WAITING).launch(
        server_name=settings.host,
        server_port=settings.port,
        auth=settings.login,
        theme=theme(),
        css_paths=STYLES,
        share=False,
        run_history=False,
        allowed_paths=[],
        max_file_size="1mb",
        footer_links=["api"],
        enable_monitoring=False,
        ssr_mode=False,
    )


if __name__ == "__main__":
    try:
        serve(tyro.cli(Settings))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
