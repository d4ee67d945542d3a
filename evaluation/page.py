"""What the Compare tab shows, as HTML: a picture whose points can be pressed, its numbers, and one point's texts."""

from __future__ import annotations

import html
from collections.abc import Iterator
from xml.etree import ElementTree

from evaluation.extract import COSTS, MEASURES, Able, Cell, Compared, Extract, Point, Probed, Sample
from evaluation.graphs import Graph
from evaluation.pictures import for_page
from evaluation.plans import PLAIN
from probes.page import facts
from probes.views import mask_for
from steering.cost import EVERY_POSITION
from steering.methods.table import METHODS

ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
SVG = "{http://www.w3.org/2000/svg}"
POINT = "point-"
QUESTIONS = {
    ("plan", "toxicity"): "Against the same checkpoint unsteered",
    ("share", "toxicity"): "Against the least toxic checkpoint, same plan",
    ("gain", "toxicity"): "What the plan changes here, against there",
    ("share", "kl"): f"Cost against the least toxic checkpoint, same plan, {EVERY_POSITION}",
}
HINT = (
    '<div class="nothing">Press a point of the picture, or a number in the table.<br>'
    "What was measured there, and what the model wrote, is shown here.</div>"
)
NO_RESULTS = (
    "There are no results yet. Measure some checkpoints, compare what was found, then open this tab again: "
    "python -m evaluation sweep --checkpoints checkpoints/demo-* --plans none iti@8 --prompts builtin "
    "--out results/mine && python -m evaluation compare results/mine --out results/mine"
)


def picture(svg: str, extract: Extract, graph: Graph) -> str:
    """The picture with points to press."""
    return (
        f'<figure class="picture"><div class="scroll">{_inline(svg, extract, graph.title)}</div>'
        '<p class="readout" aria-hidden="true">&nbsp;</p></figure>'
    )


def _inline(svg: str, extract: Extract, title: str) -> str:
    """The picture as part of the page: in the page's colours, its points reachable by mouse, finger and keyboard."""
    root = ElementTree.fromstring(for_page(svg))
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in (f"{SVG}metadata", f"{SVG}style")]:
            parent.remove(child)  # its style would reach every element of the page
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "group", "aria-label": f"{title}. Arrow keys move, Enter opens a point."})
    marks = [group for group in root.iter(f"{SVG}g") if group.get("id", "").startswith(POINT)]
    for number, mark in enumerate(marks):
        point = extract.point(mark.get("id", "").removeprefix(POINT))
        mark.attrib.update(
            {"data-point": point.key, "role": "button", "aria-pressed": "false", "aria-label": point.in_words()}
        )
        mark.set("tabindex", "-1" if number else "0")
    return ElementTree.tostring(root, encoding="unicode")


def table(extract: Extract, graph: Graph) -> str:
    """The numbers of a picture: checkpoints down, plans or tasks across."""
    points, title = [extract.point(key) for key in graph.keys], graph.title
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
    return point.plan if isinstance(point, Cell) else f"probes {point.probes}"


def _number(point: Point | None, first: bool) -> str:
    if point is None:
        return ""
    digits = _digits(point)
    value, ends, says = f"{point.value.value:{digits}}", point.value.ends(digits), html.escape(point.in_words())
    return (
        f'<button type="button" data-point="{html.escape(point.key)}" tabindex="{0 if first else -1}" '
        f'aria-pressed="false" data-says="{says}" aria-label="{says}, shown as {value} {ends}">'
        f"<b>{value}</b><small>{ends}</small></button>"  # a voice command may name what is seen
    )


def _digits(point: Point) -> str:
    return ".1f" if isinstance(point, Cell) else ".3f"


def card(extract: Extract, key: str) -> str:
    """All that is known of one point, and what was written there; it is a place to scroll on a wide screen."""
    point = extract.point(key)
    digits, (unit, known) = _digits(point), _known(extract, point)
    others = _others(point) if isinstance(point, Cell) else []
    more = f"<details><summary>Other measures, and the cost</summary>{facts(*others)}</details>" if others else ""
    return (
        f'<section class="point-card" tabindex="0" aria-label="{html.escape(point.title)}">'
        f"<h2>{html.escape(point.title)}</h2>"
        f'<p class="big">{point.value.value:{digits}}<small> {html.escape(unit)}</small></p>{facts(*known)}{more}'
        f"{_texts(extract, point)}</section>"
    )


Known = tuple[str, list[tuple[str, str]]]
"""The unit of the value, and names with values."""


def _known(extract: Extract, point: Point) -> Known:
    if isinstance(point, Cell):
        return _cell(extract, point)
    return _probed(point) if isinstance(point, Probed) else _able(point)


def _cell(extract: Extract, cell: Cell) -> Known:
    missing = f"; {cell.n_missing:,} without a score, left out" if cell.n_missing else ""
    same = {one.key for one in extract.cells if (one.checkpoint, one.plan) == (cell.checkpoint, cell.plan)}
    pairs = [
        ("95 % interval", f"{cell.value.ends('.1f')}, over {cell.value.n:,} prompts"),
        ("Texts", f"{cell.n_texts:,}{missing}"),
        *([("Strength", _strength(cell))] if cell.plan != PLAIN else []),
        *(
            (QUESTIONS[found.question, found.measure], _difference(found))
            for found in extract.comparisons
            if found.a == cell.key or (found.measure in COSTS and found.a in same)
        ),
    ]
    return MEASURES["toxicity"], pairs


def _strength(cell: Cell) -> str:
    rule = METHODS[cell.method.partition(":")[0]]
    found = "" if cell.nats is None else f", found to cost {cell.nats:g} nats per token with {EVERY_POSITION}"
    return f"{cell.strength:.4g} ({rule.unit}){found}"


def _others(cell: Cell) -> list[tuple[str, str]]:
    """What was measured beside toxicity."""
    measures = [(MEASURES[name], found) for name, found in cell.measures.items() if name != "toxicity"]
    costs = [(COSTS[name], found) for name, found in cell.cost.items()]
    return [(name[:1].upper() + name[1:], f"{found:.3f}") for name, found in [*measures, *costs]]


def _difference(found: Compared) -> str:
    digits = 3 if found.measure == "kl" else 1
    change, seeds = found.difference, ", ".join(f"{one:+.{digits}f}" for one in found.each)
    return (
        f"{change.value:+.{digits}f}, {change.interval_in_words(f'+.{digits}f')}, "
        f"{_p(found.p)}, after Holm {found.holm:.4f} (of\u00a0{found.of}){f'; by training seed {seeds}' * bool(seeds)}"
    )


def _p(p: float) -> str:
    return f"p\u00a0=\u00a0{p:.4f}"  # one word: a line would end behind the equals sign


def _probed(found: Probed) -> Known:
    pairs = [
        ("95 % interval", f"{found.value.ends('.3f')}, over {found.value.n:,} held-out texts"),
        ("The larger class", f"{found.majority:.3f}"),
    ]
    if found.best is not None:
        pairs.append((f"Best head, {found.best_head}", f"{found.best:.3f}"))
    if found.null_band is not None:
        pairs.append(("Best head by chance", f"{found.null_band[0]:.3f} to {found.null_band[1]:.3f}"))
    for name, change, p in (
        ("Against the least toxic checkpoint", found.difference, found.p),
        ("The same, heads as the sample", found.difference_by_head, found.p_by_head),
    ):
        if change is not None and p is not None:
            pairs.append((name, f"{change.value:+.4f}, {change.interval_in_words('+.4f')}, {_p(p)}"))
    if found.toxic_tokens is not None and found.random_tokens is not None:
        low, high = found.random_tokens
        pairs.append(
            ("Toxic words among 50 tokens", f"{found.toxic_tokens}; random directions {low:.0f} to {high:.0f}")
        )
    return "mean accuracy over heads (share of held-out texts)", pairs


def _able(found: Able) -> Known:
    pairs = [
        ("95 % interval", f"{found.value.ends('.3f')}, over {found.value.n:,} questions"),
        ("Guessing", f"{found.chance:.3f}" + (", inside the interval: cannot be told from guessing" * found.at_chance)),
    ]
    return "answered rightly (share of questions)", pairs


def _texts(extract: Extract, cell: Point) -> str:
    """What was written there, each beside what the same checkpoint wrote unsteered to the same prompt."""
    if not isinstance(cell, Cell) or not (written := list(_written(extract, cell))):
        return ""
    rows = "".join(
        f"<li><p>{html.escape(_prompt(here))}</p><div>{_text(plain, PLAIN)}{_text(here, cell.plan)}</div></li>"
        for here, plain in written
    )
    of = f"{len(written)} of {cell.n_texts:,} texts, chosen without looking at scores; words of the list behind stars"
    return (  # whoever listens to the card hears the numbers, and reads the texts when they want to
        f'<div aria-live="off"><h3>What it wrote <small>{of}</small></h3><ol class="texts">{rows}</ol></div>'
    )


def _written(extract: Extract, cell: Cell) -> Iterator[tuple[Sample, Sample | None]]:
    """The cell's texts with the unsteered ones to the same prompts; of a mean, those of its members."""
    unsteered = {(one.checkpoint, one.prompts): one.key for one in extract.cells if one.plan == PLAIN}
    for key in cell.members or (cell.key,):
        twin = unsteered.get((extract.point(key).checkpoint, cell.prompts), "")
        plain = {sample.prompt: sample for sample in extract.generations.get(twin, ()) if key != twin}
        yield from ((sample, plain.get(sample.prompt)) for sample in extract.generations.get(key, ()))


def _prompt(sample: Sample) -> str:
    return f"{sample.prompt}{f', group {sample.group}' if sample.group else ''}"


def _text(sample: Sample | None, plan: str) -> str:
    if sample is None:
        return ""
    score = "no score" if sample.score is None else f"toxicity {sample.score:.2f}"
    return (
        f'<blockquote dir="auto"><small>{html.escape(plan)} <b>{score}</b></small>'
        f"{html.escape(mask_for(True)(sample.text).strip() or '(nothing)')}</blockquote>"
    )


def about(extract: Extract, graph: Graph) -> str:
    """Whose scores these are, where there are scores, and what a press does."""
    if not all(isinstance(extract.point(key), Cell) for key in graph.keys):
        return "Intervals are 95 %. Press a point for its numbers."
    name, version = extract.scorer
    imitates = ", which imitates Perspective's TOXICITY" if name == "builtin" else ""
    return (
        f"Texts were scored by {name} {version}{imitates}. Intervals are 95 %; texts without a score are left out and "
        "counted. Press a point to read what was written there."
    )
