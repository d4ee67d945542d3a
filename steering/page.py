"""What the steering tab shows, as HTML: plain and steered text side by side, and the receipt in plain words."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from steering.plan import Plan
from steering.receipt import Receipt

Mask = Callable[[str], str]
"""Hides words and keeps the length of the text."""


@dataclass(frozen=True)
class Written:
    """One text as far as it has grown."""

    text: str
    """Without the prompt."""
    n_tokens: int
    done: bool


@dataclass(frozen=True)
class Pair:
    """Plain and steered text of one checkpoint."""

    name: str
    about: str
    """What is known of its training, in a few words."""
    plain: Written
    steered: Written


@dataclass(frozen=True)
class Picture:
    """Everything on the right-hand side at one moment."""

    prompt: str
    pairs: tuple[Pair, ...]
    strength: str
    """In words, as it stands over the steered text."""
    receipt: str = ""
    """As HTML; comes with the first token."""

    def to_html(self, mask: Mask) -> str:
        """All pairs; the beginning that plain and steered text share is pale."""
        shown = "".join(_pair(self.prompt, pair, self.strength, mask) for pair in self.pairs)
        return f'<div class="runs">{shown}</div>'


def _pair(prompt: str, pair: Pair, strength: str, mask: Mask) -> str:
    plain, steered = mask(prompt + pair.plain.text), mask(prompt + pair.steered.text)
    cut, parted = len(prompt), _shared(plain, steered)
    about = f" <small>{html.escape(pair.about)}</small>" if pair.about else ""
    return (
        f'<section aria-label="{html.escape(pair.name)}"><h2>{html.escape(pair.name)}{about}</h2><div class="pair">'
        f"{_run('plain', 'Plain', plain, cut, parted, pair.plain)}"
        f"{_run('steered', f'Steered, {strength}', steered, cut, parted, pair.steered)}</div></section>"
    )


def _run(kind: str, title: str, text: str, cut: int, parted: int, written: Written) -> str:
    parted = max(cut, parted)
    words = "token" if written.n_tokens == 1 else "tokens"
    return (
        f'<article class="run {kind}" aria-live="polite" aria-busy="{"false" if written.done else "true"}">'
        f"<h3>{html.escape(title)}<span>{written.n_tokens} {words}</span></h3>"
        f'<p dir="auto"><span class="prompt">{html.escape(text[:cut])}</span>'
        f'<span class="same">{html.escape(text[cut:parted])}</span>'
        f'<span class="own">{html.escape(text[parted:])}</span></p></article>'
    )


def _shared(first: str, second: str) -> int:
    """Length of the beginning that two texts have in common, cut back to a whole word where they part inside one."""
    length = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(first, second, strict=False)))
    if length in (len(first), len(second)):
        return length
    return max(first.rfind(" ", 0, length + 1), 0)


def receipts(steered: Sequence[Receipt], plan: Plan) -> str:
    """What was really done, a sentence or two for each checkpoint."""
    items = "".join(f"<li>{_receipt(receipt, plan)}</li>" for receipt in steered)
    return f'<section class="receipt"><h2>What was really done</h2><ul>{items}</ul></section>'


def _receipt(receipt: Receipt, plan: Plan) -> str:
    model = receipt.model
    name = f"<b>{html.escape(str(model['checkpoint']))}</b>"
    repeat = (
        f"Seed {receipt.seed}, {model['dtype']} on {model['device']}, {model['threads']} "
        f"thread{'' if model['threads'] == 1 else 's'}, weights {str(model['fingerprint'])[:8]}, "
        f"probes {html.escape(plan.probes)}."
    )
    if receipt.sigmas == 0:
        return f"{name}: strength 0 pushes nothing, so both texts are the plain model's. {repeat}"
    n, n_layers = len(receipt.shifts), len({shift.head.layer for shift in receipt.shifts})
    requested = sum(abs(shift.requested) for shift in receipt.shifts) / n
    measured = sum(abs(shift.measured) for shift in receipt.shifts) / n
    return (
        f"{name}: the {n} best head{'' if n == 1 else 's'}, in {n_layers} layer{'' if n_layers == 1 else 's'}, "
        f"pushed by {receipt.sigmas:g} standard deviations at the last word of the prompt and at every new one. "
        f"That asks for a mean shift of {requested:.4g} in the residual stream; measured {measured:.4g}. {repeat}"
    )


def marks(strengths: Sequence[tuple[float, str]], most: float) -> str:
    """The marks under the strength slider, as buttons at their places."""
    return (
        '<div class="marks">'
        + "".join(
            f'<button type="button" data-sigmas="{value:g}" style="left:{value / most:.2%}" '
            f'aria-label="Set strength to {value:g} sigmas: {word}"><b>{value:g}</b>{word}</button>'
            for value, word in strengths
        )
        + "</div>"
    )
