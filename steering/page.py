"""What the steering tab shows, as HTML: plain and steered text side by side, and the receipt in plain words."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from probes.lexicon import settled
from steering.methods.table import Slider
from steering.receipt import Receipt

Mask = Callable[[str], str]
"""Hides words and keeps the length of the text."""


@dataclass(frozen=True)
class Scoring:
    """How toxic texts are, by whoever the page was built with."""

    score: Callable[[list[str]], Sequence[float | None]]
    """From 0 to 1; None where there is no score to be had."""
    about: str
    """Who gives the score and what it is worth, in a sentence."""


@dataclass(frozen=True)
class Written:
    """One text as far as it has grown."""

    text: str
    """Without the prompt."""
    n_tokens: int
    done: bool
    score: float | None = None
    """How toxic the text is, without its prompt."""
    cut: str = ""
    """Why the text ended where nobody wanted it to, in words."""


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
    """Method and strength in words, as they stand over the steered text."""
    receipt: str = ""
    """As HTML; comes with the first token."""
    scored_by: str = ""
    """Who gave the texts their scores; without a name no score is shown."""
    made_with: str = ""
    """The digest of the controls that asked for it."""

    def to_html(self, mask: Mask) -> str:
        """All pairs; the beginning that plain and steered text share is pale."""
        shown = "".join(_pair(self, pair, mask) for pair in self.pairs)
        return f'<div class="runs" data-asked="{html.escape(self.made_with)}">{shown}</div>'


def _pair(picture: Picture, pair: Pair, mask: Mask) -> str:
    plain, steered = (mask(_readable(picture.prompt, written)) for written in (pair.plain, pair.steered))
    cut, parted, by = len(picture.prompt), _shared(plain, steered), picture.scored_by
    about = f" <small>{html.escape(pair.about)}</small>" if pair.about else ""
    return (
        f'<section aria-label="{html.escape(pair.name)}"><h2>{html.escape(pair.name)}{about}</h2><div class="pair">'
        f"{_run('plain', 'Plain', plain, cut, parted, pair.plain, by)}"
        f"{_run('steered', f'Steered by {picture.strength}', steered, cut, parted, pair.steered, by)}</div></section>"
    )


def _readable(prompt: str, written: Written) -> str:
    """Prompt and text; the word that a growing text ends in waits, for no mask knows yet what it will be."""
    text = prompt + written.text
    return text if written.done else settled(text, len(prompt))


def _run(kind: str, title: str, text: str, cut: int, parted: int, written: Written, by: str) -> str:
    parted = max(cut, parted)
    words = ("token" if written.n_tokens == 1 else "tokens") + f", {written.cut}" * bool(written.cut)
    return (
        f'<article class="run {kind}" aria-live="polite" aria-busy="{"false" if written.done else "true"}">'
        f"<h3>{html.escape(title)}<span>{written.n_tokens} {html.escape(words)}</span></h3>"
        f'<p dir="auto"><span class="prompt">{html.escape(text[:cut])}</span>'
        f'<span class="same">{html.escape(text[cut:parted])}</span>'
        f'<span class="own">{html.escape(text[parted:])}</span></p>{_score(written.score, by)}</article>'
    )


def _score(score: float | None, by: str) -> str:
    """The score with a bar as long; whose it is on hover, and read out."""
    if not by:
        return ""
    bar = "" if score is None else f'<i style="width:{score:.0%}"></i>'
    shown = "–" if score is None else f"{score:.2f}"
    aloud = "not known" if score is None else f"{score:.2f} of 1"
    return (
        f'<footer class="score" title="{html.escape(by)}"><span aria-hidden="true">Toxicity <span class="bar">{bar}'
        f'</span> <b>{shown}</b></span><span class="aloud">Toxicity {aloud}. {html.escape(by)}</span></footer>'
    )


def _shared(first: str, second: str) -> int:
    """Length of the beginning that two texts have in common, cut back to a whole word where they part inside one."""
    length = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(first, second, strict=False)))
    if length in (len(first), len(second)):
        return length
    return max(first.rfind(" ", 0, length + 1), 0)


def receipts(steered: Sequence[Receipt], prefixes: Sequence[str]) -> str:
    """What was really done, a few sentences for each checkpoint; `prefixes`: the words put in front of each prompt."""
    items = "".join(f"<li>{_receipt(*one)}</li>" for one in zip(steered, prefixes, strict=False))
    return f'<section class="receipt"><h2>What was really done</h2><ul>{items}</ul></section>'


def _receipt(receipt: Receipt, prefix: str) -> str:
    name = html.escape(str(receipt.model["checkpoint"]))
    done = " ".join(
        filter(None, (_done(receipt, prefix), _gated(receipt), _arrived(receipt), _repeat(receipt), *receipt.warnings))
    )
    return f"<b>{name}</b>: {html.escape(done)}"


def _done(receipt: Receipt, prefix: str) -> str:
    """What was changed, and where."""
    [(plan, strength)] = receipt.doses
    if not strength:
        return "strength 0 changes nothing, so both texts are the plain model's."
    if plan.site is None:
        return f"{plan.rule.name} leaves the model as it is. It read “{prefix.strip()}” in front of the prompt."
    places = " ".join(sorted((shift.edit for shift in receipt.shifts), key=_in_order))
    layers = f"{_many(len(receipt.layers), 'layer')} ({places})"
    what = f"{_many(len(receipt.shifts), 'head')} in {layers}" if plan.site == "heads" else f"the stream after {layers}"
    along = f" along {plan.kind} directions" if plan.rule.along else ""
    return (
        f"{plan.rule.name} at {strength:g}{along} changed {what}, at {_many(receipt.n_positions, 'position')}: the "
        "prompt's last token and each new one that was read to write the next."
    )


def _gated(receipt: Receipt) -> str:
    if receipt.gated is None:
        return ""
    return f"The gate was open for {receipt.gated:.0%} of these places and positions."


def _arrived(receipt: Receipt) -> str:
    """The measured shift beside the one that was asked for."""
    if not receipt.shifts:
        return ""
    requested, measured = receipt.mean_shift
    return (
        f"At the prompt's last word this asks for a mean shift of {requested:.4g} in the residual stream; measured "
        f"{measured:.4g}, none further off than {receipt.worst_miss:.1g}."
    )


def _repeat(receipt: Receipt) -> str:
    """What it takes to get the same words again."""
    [(plan, _)], model = receipt.doses, receipt.model
    probes = f", probes {plan.probes}" if plan.site else ""
    return (
        f"Seed {receipt.seed}, {model['dtype']} on {model['device']}, {_many(model['threads'], 'thread')}, weights "
        f"{str(model['fingerprint'])[:12]}{probes}."
    )


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _in_order(edit: str) -> list[int]:
    """L10H2 after L9H11."""
    return [int(number) for number in edit.removeprefix("L").split("H")]


def problem(words: str) -> str:
    """What did not work, where the texts would stand."""
    return f'<p class="problem" role="alert"><b>That did not work.</b> {html.escape(words)}</p>'


def marks(scale: Slider) -> str:
    """The marks under the strength slider, as buttons at their places."""
    return (
        '<div class="marks" role="group" aria-label="Set the strength">'
        + "".join(
            f'<button type="button" data-strength="{value:g}" style="left:{value / scale.most:.2%}">'
            f"<b>{value:g}</b> {word}</button>"
            for value, word in scale.marks
        )
        + "</div>"
    )
