"""What the Compare tab shows, as HTML: a picture whose points can be pressed, its numbers, and one point's texts."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from evaluation.extract import COSTS, MEASURES, Able, Cell, Compared, Extract, Point, Probed, Sample, interval
from probes.estimate import Estimate
from probes.page import facts

KEYS = Path(__file__).with_name("panel.js")
"""Arrow keys, the line that reads out a point, and the event `open_point`."""
ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
SVG = "{http://www.w3.org/2000/svg}"
POINT = "point-"
UNSTEERED = "none"
QUESTIONS = {
    "plan": "Against the same checkpoint unsteered",
    "share": "Against the least toxic checkpoint, same plan",
    "gain": "What the plan changes here, against there",
}
HINT = (
    '<div class="nothing">Press a point of the picture, or a number in the table.<br>'
    "What was measured there, and what the model wrote, is shown here.</div>"
)
NOTHING = (
    '<div class="nothing">There are no results yet. Measure some checkpoints, then reload the page:<br><code>'
    "python -m evaluation sweep --checkpoints checkpoints/demo-* --plans none iti@8 --prompts builtin "
    "--out results/mine"
    "</code></div>"
)


def drawn_points(svg: bytes) -> list[str]:
    """Keys of the points in a picture, in the order of their drawing."""
    ids = (group.get("id", "") for group in ElementTree.fromstring(svg).iter(f"{SVG}g"))
    return [name.removeprefix(POINT) for name in ids if name.startswith(POINT)]


def picture(svg: bytes, extract: Extract, title: str) -> str:
    """The picture with points to press, and its numbers as a table."""
    return (
        f'<figure class="picture"><div class="scroll">{_inline(svg, extract, title)}</div>'
        f'<p class="readout" aria-hidden="true">&nbsp;</p></figure>{table(extract, drawn_points(svg), title)}'
    )


def _inline(svg: bytes, extract: Extract, title: str) -> str:
    """The picture as part of the page: in the page's colours, its points reachable by mouse, finger and keyboard."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag in (f"{SVG}metadata", f"{SVG}style")]:
            parent.remove(child)  # its style would reach every element of the page
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "group", "aria-label": f"{title}. Arrow keys move, Enter opens a point."})
    first = "0"
    for group in root.iter(f"{SVG}g"):
        key = group.get("id", "")
        if key.startswith(POINT):
            point = extract.point(key.removeprefix(POINT))
            group.attrib.update({"data-point": point.key, "role": "button", "aria-label": point.in_words()})
            group.set("tabindex", first)
            first = "-1"
    drawn = ElementTree.tostring(root, encoding="unicode")
    # each colour becomes a variable with that colour as its default, so that the dark page can choose its own
    return re.sub(r"#([0-9a-f]{6})\b(?=[^<>]*>)", r"var(--drawn-\1, #\1)", drawn)


def table(extract: Extract, keys: Sequence[str], title: str) -> str:
    """The numbers of a picture: checkpoints down, plans or tasks across."""
    points = [extract.point(key) for key in keys]
    at = {(point.checkpoint, _column(point)): point for point in points}
    rows, columns = (list(dict.fromkeys(axis)) for axis in zip(*at, strict=True)) if at else ([], [])
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row)}</th>'
        + "".join(f"<td>{_number(at.get((row, column)), (row, column) == next(iter(at)))}</td>" for column in columns)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="numbers-scroll"><table class="numbers" aria-label="{html.escape(title)}, in numbers"><thead><tr>'
        f"<td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _column(point: Point) -> str:
    if isinstance(point, Able):
        return f"{point.task}, {point.plan}"
    return point.plan if isinstance(point, Cell) else "mean accuracy"


def _number(point: Point | None, first: bool) -> str:
    if point is None:
        return ""
    value, low, high = (_shown(point, number) for number in (point.value.value, point.value.low, point.value.high))
    return (
        f'<button type="button" data-point="{html.escape(point.key)}" tabindex="{0 if first else -1}" '
        f'aria-label="{html.escape(point.in_words())}"><b>{value}</b><small>{low} to {high}</small></button>'
    )


def _shown(point: Point, number: float) -> str:
    return f"{number:.1f}" if isinstance(point, Cell) else f"{number:.3f}"


def card(extract: Extract, key: str) -> str:
    """All that is known of one point, and what was written there."""
    point = extract.point(key)
    value, unit, pairs = _known(extract, point)
    return (
        f'<section class="point-card" aria-label="{html.escape(point.title)}"><h2>{html.escape(point.title)}</h2>'
        f'<p class="big">{value}<small> {html.escape(unit)}</small></p>{facts(*pairs)}{_texts(extract, key)}</section>'
    )


Known = tuple[str, str, list[tuple[str, str]]]
"""The value, its unit, and names with values."""


def _known(extract: Extract, point: Point) -> Known:
    if isinstance(point, Cell):
        return _cell(extract, point)
    return _probed(point) if isinstance(point, Probed) else _able(point)


def _cell(extract: Extract, cell: Cell) -> Known:
    missing = f"; {cell.n_missing:,} without a score, left out" if cell.n_missing else ""
    others = [(MEASURES[name], cell.measures[name]) for name in cell.measures if name != "toxicity"]
    costs = [(COSTS[name], cell.cost[name]) for name in COSTS if name in cell.cost]
    pairs = [
        ("95 % interval", f"{_ends(cell.value, 1)}, over {cell.value.n:,} prompts"),
        ("Texts", f"{cell.n_texts:,}{missing}"),
        *([("Strength", f"{cell.strength:g}")] if cell.strength is not None else []),
        *((name[:1].upper() + name[1:], interval(found, 3)) for name, found in [*others, *costs]),
        *((QUESTIONS[found.question], _difference(found)) for found in extract.comparisons if found.a == cell.key),
    ]
    return _shown(cell, cell.value.value), MEASURES["toxicity"], pairs


def _difference(found: Compared) -> str:
    each = f"; by training seed {', '.join(f'{one:+.1f}' for one in found.each)}" if found.each else ""
    return (
        f"{found.difference.value:+.1f}, interval {found.difference.low:+.1f} to {found.difference.high:+.1f}, "
        f"p = {found.p:.4f}, after Holm {found.holm:.4f} (of {found.of}){each}"
    )


def _probed(found: Probed) -> Known:
    pairs = [
        ("95 % interval", f"{_ends(found.value, 3)}, over {found.value.n:,} held-out texts"),
        ("The larger class", f"{found.majority:.3f}"),
    ]
    if found.best is not None:
        pairs.append((f"Best head, {found.best_head}", interval(found.best, 3)))
    if found.null_band is not None:
        pairs.append(("Best head by chance", f"{found.null_band[0]:.3f} to {found.null_band[1]:.3f}"))
    for name, change, p in (
        ("Against the least toxic checkpoint", found.difference, found.p),
        ("The same, heads as the sample", found.difference_by_head, found.p_by_head),
    ):
        if change is not None and p is not None:
            ends = f"interval {change.low:+.4f} to {change.high:+.4f}"
            pairs.append((name, f"{change.value:+.4f}, {ends}, p = {p:.4f}"))
    if found.toxic_tokens is not None and found.random_tokens is not None:
        low, high = found.random_tokens
        pairs.append(
            ("Toxic words among 50 tokens", f"{found.toxic_tokens}; random directions {low:.0f} to {high:.0f}")
        )
    return _shown(found, found.value.value), "mean accuracy over heads (share of held-out texts)", pairs


def _able(found: Able) -> Known:
    pairs = [
        ("95 % interval", f"{_ends(found.value, 3)}, over {found.value.n:,} questions"),
        ("Guessing", f"{found.chance:.3f}" + (", inside the interval: no better than chance" * found.at_chance)),
    ]
    return _shown(found, found.value.value), "answered rightly (share of questions)", pairs


def _ends(estimate: Estimate, digits: int) -> str:
    return f"{estimate.low:.{digits}f} to {estimate.high:.{digits}f}"


def _texts(extract: Extract, key: str) -> str:
    """What was written there, each beside what the same checkpoint wrote unsteered to the same prompt."""
    cell = extract.point(key)
    if not isinstance(cell, Cell) or not (written := list(_written(extract, cell))):
        return ""
    rows = "".join(
        f"<li><p>{html.escape(_prompt(here))}</p><div>{_text(plain, UNSTEERED)}{_text(here, cell.plan)}</div></li>"
        for here, plain in written
    )
    of = f"{len(written)} of {cell.n_texts:,} texts, chosen without looking at scores; words of the list behind stars"
    return f'<h3>What it wrote <small>{of}</small></h3><ol class="texts">{rows}</ol>'


def _written(extract: Extract, cell: Cell) -> Iterator[tuple[Sample, Sample | None]]:
    """The cell's texts with the unsteered ones to the same prompts; of a mean, those of its members."""
    unsteered = {(one.checkpoint, one.prompts): one.key for one in extract.cells if one.plan == UNSTEERED}
    for key in cell.members or (cell.key,):
        twin = unsteered.get((extract.point(key).checkpoint, cell.prompts), "")
        plain = {sample.prompt: sample for sample in extract.generations.get(twin, ()) if key != twin}
        yield from ((sample, plain.get(sample.prompt)) for sample in extract.generations.get(key, ()))


def _prompt(sample: Sample) -> str:
    return f"{sample.prompt}{f', group {sample.group}' if sample.group else ''}"


def _text(sample: Sample | None, plan: str) -> str:
    if sample is None:
        return ""
    score = "–" if sample.score is None else f"{sample.score:.2f}"
    aloud = "no score" if sample.score is None else f"toxicity {score}"
    return (
        f'<blockquote dir="auto"><small>{html.escape(plan)} <b title="{aloud}">{score}</b></small>'
        f"{html.escape(sample.text.strip() or '(nothing)')}</blockquote>"
    )


def about(extract: Extract, prompts: str) -> str:
    """What all numbers of a prompt set rest on, in a sentence or three."""
    name, version = extract.scorer
    known, sampling = extract.prompt_sets[prompts], extract.sampling
    seeds, samples = len(extract.seeds), extract.n_samples
    imitates = ", which imitates Perspective's TOXICITY" if name == "builtin" else ""
    return (
        f"Texts were scored by {name} {version}{imitates}. {known['n']:,} prompts of {prompts}, "
        f"{seeds} sampling seed{'s' * (seeds != 1)}, {samples} text{'s' * (samples != 1)} per prompt and seed, "
        f"temperature {sampling['temperature']:g}, top-p {sampling['top_p']:g}, "
        f"at most {sampling['max_tokens']} tokens. "
        "Intervals are 95 %, from drawing prompts anew; training seeds are not drawn anew."
    )
