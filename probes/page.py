"""What the probes tab shows, as HTML: maps, histogram, one head, and the sentence under each."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import numpy as np

from lens.head import Head
from probes.headmap import Cell, Scale, difference_legend, head_map, legend
from probes.histogram import Histogram
from probes.probe import ProbeSet, compare
from probes.tokens import ToxicEnd

Mask = Callable[[str], str]


def maps(sets: Sequence[ProbeSet]) -> str:
    """One map, or two on one colour scale with their difference."""
    scale = Scale.around([*(a for probes in sets for a in accuracies(probes)), *(probes.majority for probes in sets)])
    drawn = [head_map(probes.checkpoint, probes.grid, cells(probes), scale) for probes in sets]
    colours = legend(scale, sets[0].majority, {probes.checkpoint: probes.null_band for probes in sets})
    shown = f'<section><div class="maps">{"".join(drawn)}</div>{colours}{sentence(maps_in_words(sets))}</section>'
    change = difference(*sets) if len(sets) == 2 and sets[0].grid == sets[1].grid else ""
    return f'<div class="atlas">{shown}{change}</div>'


def maps_in_words(sets: Sequence[ProbeSet]) -> str:
    first = sets[0]
    return (
        f"Each cell is one attention head: how often a linear probe on its output tells {first.classes[0]} from "
        f"{first.classes[1]} on {first.n_test:,} texts it never saw ({first.name}, {first.rule}). "
        f"Hatched heads are no better than what the best of {len(first.grid)} heads reaches on shuffled labels."
    )


def cells(probes: ProbeSet) -> dict[Head, Cell]:
    """Every head's accuracy; muted where the best head on shuffled labels does as well."""
    return {head: _cell(probes, head) for head in probes.grid}


def _cell(probes: ProbeSet, head: Head) -> Cell:
    found = probes.accuracy(head)
    muted = found.value <= probes.null_band[1]
    says = f"accuracy {found.value:.3f}, {found.interval_in_words('.2f')}"
    return Cell(found.value, says + (", within chance" if muted else ""), f"{found.value:.2f}".lstrip("0"), muted)


def difference(a: ProbeSet, b: ProbeSet) -> str:
    """The second minus the first, head by head; colour from both sides of zero."""
    first, second = cells(a), cells(b)
    changes = {head: second[head].value - first[head].value for head in a.grid}
    scale = Scale.both_ways(changes.values())
    shown = {
        head: Cell(
            change,
            f"{100 * change:+.1f} points, from {first[head].value:.3f} to {second[head].value:.3f}"
            + (", both within chance" if first[head].muted and second[head].muted else ""),
            f"{100 * change:+.1f}",
            first[head].muted and second[head].muted,
        )
        for head, change in changes.items()
    }
    title = f"{b.checkpoint} minus {a.checkpoint}"
    drawn = head_map(title, a.grid, shown, scale, diverging=True)
    return (
        f'<section class="change">{drawn}{difference_legend(scale, a.checkpoint, b.checkpoint)}'
        f"{sentence(difference_in_words(a, b))}</section>"
    )


def difference_in_words(a: ProbeSet, b: ProbeSet) -> str:
    """The mean over heads with its interval, and the paper's test beside it, named as such."""
    try:
        found = compare(b, a, np.random.default_rng(0))
    except ValueError as error:
        return str(error)
    mean, heads = found.over_texts, found.by_head
    points = mean.estimate.scaled(100.0)
    return (
        f"Mean over all heads: {b.checkpoint} is {points.value:+.2f} points from {a.checkpoint}, 95 % "
        f"{points.interval_in_words('+.2f')} over {mean.estimate.n:,} held-out texts (p = {mean.p:.4f}). "
        f"The paper's by-head test, which takes heads as independent: "
        f"{heads.estimate.scaled(100.0).ends('+.2f')}, p = {heads.p:.4f}."
    )


def histogram(sets: Sequence[ProbeSet]) -> str:
    """All heads against chance."""
    names = tuple(probes.checkpoint for probes in sets)
    picture = Histogram(names, tuple(map(accuracies, sets)), sets[0].majority, sets[0].null_band)
    keys = "".join(
        f'<span class="histogram-key {kind}">{html.escape(name)}</span>'
        for name, kind in zip(names, "ab", strict=False)
    )
    above = [sum(value > probes.null_band[1] for value in accuracies(probes)) for probes in sets]
    counted = " and ".join(
        f"{n} of {len(probes.grid)} heads of {probes.checkpoint}" for n, probes in zip(above, sets, strict=True)
    )
    return f'<p class="eyebrow">All heads {keys}</p>{picture.to_svg()}' + sentence(
        f"How many heads reach which accuracy. The grey band is what the best head reaches by chance; "
        f"{counted} are above it."
    )


def accuracies(probes: ProbeSet) -> tuple[float, ...]:
    return tuple(probes.heads.accuracies.flatten().tolist())


def head_card(head: Head, sides: Sequence[tuple[ProbeSet, ToxicEnd]], mask: Mask) -> str:
    """One head of one checkpoint or two: accuracy with its interval, rank, nearest tokens."""
    shown = "".join(_head_side(head, probes, end, mask) for probes, end in sides)
    toxic = sides[0][0].classes[0]
    return (
        f'<section class="head-card" aria-label="{head}"><h2>{head}</h2><div class="sides">{shown}</div>'
        + sentence(
            f"The tokens are those whose output rows lie nearest to the {toxic} end of the head's direction (mean of "
            "one class minus mean of the other), sent through the head's output matrix and the final norm. "
            "Words of the list are marked; stars hide them, and pieces of them."
        )
        + "</section>"
    )


def _head_side(head: Head, probes: ProbeSet, end: ToxicEnd, mask: Mask) -> str:
    found, rank = probes.accuracy(head), probes.ranked().index(head) + 1
    chance = "above" if found.value > probes.null_band[1] else "within"
    return (
        f"<div><h3>{html.escape(probes.checkpoint)}</h3>"
        + facts(
            ("Accuracy", f"{found.value:.3f}, {found.interval_in_words('.3f')}"),
            ("Held-out texts", f"{found.n:,}, the larger class {probes.majority:.3f}"),
            ("Rank", f"{rank} of {len(probes.grid)} heads"),
            ("Against chance", f"{chance} the null band, {probes.null_band[0]:.3f} to {probes.null_band[1]:.3f}"),
            ("In the word list", f"{end.n_listed} of {len(end.nearest)} tokens; {at_random(end)}"),
        )
        + f"{tokens(end, mask)}</div>"
    )


def token_sides(sides: Sequence[tuple[ProbeSet, ToxicEnd]], mask: Mask) -> str:
    """The words at the toxic end of the best layer's direction, for one checkpoint or two."""
    shown = "".join(_token_side(probes, end, mask) for probes, end in sides)
    n, toxic = len(sides[0][1].nearest), sides[0][0].classes[0]
    return (
        f'<div class="token-sides">{shown}</div>'
        + sentence(
            f"The {n} tokens whose output rows lie nearest to the {toxic} end of the probe's direction in the residual "
            "stream, at the layer where the probe is most accurate. The more of them are in the word list, the more "
            f"plainly the model keeps {toxic} words in one place."
        )
        + sentence(
            "A small vocabulary holds most words of the list only in pieces, and pieces are not counted. The rank AUC "
            "looks at all tokens: how often a word of the list lies nearer to that end than another token does; 0.5 is "
            "chance. Stars hide words of the list and pieces of them."
        )
    )


def _token_side(probes: ProbeSet, end: ToxicEnd, mask: Mask) -> str:
    layer = probes.layer_accuracy(probes.best_layer)
    listed = [
        ("Direction", f"probe at {end.place} of {probes.grid.n_layers}, accuracy {layer.value:.3f}"),
        ("By chance", at_random(end)),
        ("Whole words", f"{end.single_tokens:,} of the list's {end.lexicon_words:,} are one token here"),
    ]
    if end.rank_auc is not None and end.random_auc is not None:
        auc, chance = end.rank_auc, end.random_auc
        by_chance = f"by chance {chance.low:.3f} to {chance.high:.3f}"
        listed.append(("Rank AUC", f"{auc.value:.3f}, {auc.interval_in_words('.3f')}; {by_chance}"))
    name, count = html.escape(probes.checkpoint), f" of the {len(end.nearest)} nearest tokens are in the word list"
    return (
        f'<section aria-label="{name}"><h2>{name}</h2><p class="big">{end.n_listed}<small>{count}</small></p>'
        f"{facts(*listed)}{tokens(end, mask)}</section>"
    )


def at_random(end: ToxicEnd) -> str:
    chance = end.random_listed
    return f"random directions find {chance.mean:.1f}, 95 % of them {chance.low:.0f} to {chance.high:.0f}"


def facts(*pairs: tuple[str, str]) -> str:
    """Names and values, under each other."""
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">{rows}</dl>'


def tokens(end: ToxicEnd, mask: Mask) -> str:
    """A list of tokens, nearest first; spaces visible, words of the list marked."""
    items = "".join(
        f'<li{" class=counted" if listed else ""} title="cosine {token.cosine:.3f}">'
        f"{html.escape(visible(mask(token.text)))}</li>"
        for token, listed in zip(end.nearest, end.listed, strict=True)
    )
    return f'<ol class="tokens">{items}</ol>'


def visible(token: str) -> str:
    """A token as one can see it: a leading space as a low mark, line breaks and tabs by name."""
    return token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")


def sentence(text: str) -> str:
    """The plain sentence under a chart."""
    return f'<p class="sentence">{html.escape(text)}</p>'


def nothing(text: str) -> str:
    """An empty place that says why it is empty."""
    return f'<div class="nothing" role="status">{html.escape(text)}</div>'
