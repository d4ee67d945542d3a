"""An extract as tables: CSV with every number, Markdown with those that answer the questions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from evaluation.extract import Cell, Compared, Extract
from evaluation.graphs import on, tops, unique
from probes.estimate import Estimate
from steering.cost import EVERY_POSITION

QUESTIONS = {
    "plan": "What each plan does",
    "share": "What the toxic share changes",
    "gain": "What each plan does beyond what it does to the least toxic checkpoint",
}
SIDES = {"plan": "minus none", "share": "minus the least toxic", "gain": "minus what it does to the least toxic"}


def csv_files(extract: Extract) -> dict[str, str]:
    """Every number by the name of its file; an estimate fills four columns."""
    tables = {
        "cells.csv": [_flat(cell) for cell in extract.cells],
        "comparisons.csv": [_flat(one) for one in extract.comparisons],
        "probes.csv": [_flat(one) for one in extract.probes],
        "abilities.csv": [_flat(one) | {"at_chance": one.at_chance} for one in extract.abilities],
    }
    return {name: _csv(rows) for name, rows in tables.items() if rows}


def page(extract: Extract) -> str:
    """Toxicity of every cell and the answers, one chapter per prompt set."""
    lines = [f"# {extract.name}", "", about(extract), ""]
    for prompts in extract.prompt_sets:
        lines += [f"## {prompts}", "", *toxicity_table(tops(on(extract, prompts))), ""]
        for question, title in QUESTIONS.items():
            if found := compared(extract, prompts, question):
                lines += [f"### {title}", "", *comparison_table(extract, found), ""]
    return "\n".join(lines).rstrip() + "\n"


def about(extract: Extract) -> str:
    """What all tables have in common."""
    sets = "; ".join(f"{name}: {of['n']:,} ({of['digest'][:12]})" for name, of in extract.prompt_sets.items())
    sampling, text, seeds = extract.sampling, extract.cost_text, ", ".join(map(str, extract.seeds))
    cost = f" Cost is on {text['name']}, {text['n_tokens']:,} tokens, {EVERY_POSITION}." if text else ""
    averaged = (
        " Training seeds are averaged and shown side by side, not resampled, so how far other seeds would lie apart is "
        "in no interval."
    )
    return (
        f"Prompts: {sets}. Texts to each: {extract.n_samples} with each of the sampling seeds {seeds}; "
        f"temperature {sampling['temperature']:g}, top-p {sampling['top_p']:g}, {sampling['max_tokens']} tokens. "
        f"Scorer: {' '.join(extract.scorer)}.{cost} Intervals are 95 %: of toxicity over prompts, each drawn with all "
        f"its texts; of cost over windows of text; of probes over held-out texts.{averaged * extract.averages_seeds} "
        "Beside each p stands the one adjusted for all comparisons of the same question on the same prompt set (Holm "
        "1979)."
    )


def toxicity_table(cells: Sequence[Cell]) -> list[str]:
    """Mean toxicity × 100 on one prompt set: checkpoints down, plans across."""
    plans = unique(cell.plan for cell in cells)
    at = {(cell.checkpoint, cell.plan): cell for cell in cells}
    rows = [
        [name, *(_short(at.get((name, plan))) for plan in plans)] for name in unique(cell.checkpoint for cell in cells)
    ]
    return table(["mean toxicity × 100", *plans], rows)


def comparison_table(extract: Extract, found: Sequence[Compared], digits: int = 2) -> list[str]:
    rows = []
    for one in found:
        cell = extract.point(one.a)
        assert isinstance(cell, Cell)
        rows.append([
            cell.checkpoint, cell.plan, f"{one.difference:+.{digits}f}", p_value(one.p), p_value(one.holm),
            ", ".join(f"{seed:+.{digits}f}" for seed in one.each), f"{one.n_missing:,}",
        ])  # fmt: skip
    side = SIDES[found[0].question]
    return table(["checkpoint", "plan", side, "p", f"p of {found[0].of}", "each seed", "pairs left out"], rows)


def compared(extract: Extract, prompts: str, question: str, measure: str = "toxicity") -> list[Compared]:
    """The answers to one question on one prompt set."""
    keys = {cell.key for cell in on(extract, prompts)}
    return [one for one in extract.comparisons if one.question == question and one.measure == measure and one.a in keys]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, its first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def p_value(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _short(cell: Cell | None) -> str:
    return f"{cell.value:.1f}" if cell else ""


def _flat(row: Any) -> dict[str, Any]:
    """Fields as columns: an estimate's four numbers, a mapping's members, a tuple's with spaces between."""
    found: dict[str, Any] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        named = value if isinstance(value, Mapping) else {field.name: value}
        for name, one in named.items():
            if isinstance(one, Estimate):
                found |= dict(zip((name, f"{name}_low", f"{name}_high", f"{name}_n"), one.row, strict=True))
            else:
                found[name] = " ".join(map(str, one)) if isinstance(one, tuple) else one
    return found


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns in order of first appearance; numbers to six digits."""
    columns = unique(name for row in rows for name in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({n: f"{v:.6g}" if isinstance(v, float) else v for n, v in row.items()} for row in rows)
    return file.getvalue()
