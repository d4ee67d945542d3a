"""The commands that make a report's numbers again, put together from its rows; FILE stands for a path."""

from __future__ import annotations

from collections.abc import Iterable

from evaluation.cells import Found
from evaluation.extract import Extract
from evaluation.graphs import unique
from evaluation.report_transfer import STYLES
from evaluation.results import Row
from evaluation.toxicity import PRESETS


def rests_on(found: Found, extract: Extract) -> str:
    """All that a report is made from, in words."""
    parts = ["`python -m evaluation sweep`"]
    parts += [
        f"`{name}`" for name, kind in (("ability", "ability"), ("transfer", "detection")) if found.others.get(kind)
    ]
    parts += ["the checkpoints' stored probe sets"] if extract.probes else []
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def commands(found: Found, extract: Extract) -> list[str]:
    """As a chapter."""
    everyone = unique(source.checkpoint for grid in found.grids.values() for source in grid.sources)
    lines = [*sweeps(found, extract), *_ability(found.others.get("ability", [])), *_transfer(found.others)]
    probes = [f"--checkpoints {' '.join(everyone)}"] if extract.probes else []
    lines.append(
        _command("reproduce", "results/FOLDER ...", *probes, "--out PAGE.md", f"--extract-to {extract.name}.json")
    )
    return [
        "## The commands that make this page",
        "",
        "FILE stands for a path, FOLDER for any name; checkpoints lie in checkpoints/ or are given by folder. Prompts "
        "and texts are the same if their digests are those above. Options that are not shown have their defaults, but "
        "for how many texts of each set are transferred to, which the table of transfer shows.",
        "",
        "```",
        *lines,
        "```",
    ]


def sweeps(found: Found, extract: Extract) -> list[str]:
    """One command for all plans that the same checkpoints were tried with."""
    tried: dict[str, list[str]] = {}
    for grid in found.grids.values():
        for source in grid.sources:
            tried.setdefault(source.plan, []).append(source.checkpoint)
    groups: dict[tuple[str, ...], list[str]] = {}
    for plan, names in tried.items():
        groups.setdefault(tuple(unique(names)), []).append(plan)
    sets = " ".join(name if name == "builtin" else f"{name}=FILE:{of['n']}" for name, of in extract.prompt_sets.items())
    preset = next((name for name, one in PRESETS.items() if one.n_samples == extract.n_samples), "paper")
    text = extract.cost_text.get("name")
    return [
        _command(
            "sweep",
            f"--checkpoints {' '.join(names)}",
            f"--plans {' '.join(plans)}",
            f"--prompts {sets}",
            f"--seeds {' '.join(map(str, extract.seeds))}",
            f"--preset {preset}",
            f"--scorers {extract.scorer[0]}",
            *([f"--text {text}" if text == "plain" else f"--text FOLDER/{text}"] if text else []),
            "--out results/FOLDER",
        )
        for names, plans in groups.items()
    ]


def _ability(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    limit = max(len(row["correct"]) + row.get("n_left_out", 0) for row in rows)
    return [
        _command(
            "ability",
            _of(rows, "checkpoint"),
            f"--plans {_of(rows, 'plan')}",
            f"--tasks {_of(rows, 'task')}",
            f"--limit {limit}",
            "--out results/FOLDER",
        )
    ]


def _transfer(others: dict[str, list[Row]]) -> list[str]:
    commands = []
    rows = others.get("detection", [])
    for probes in unique(row["probes"] for row in rows):
        mine = [row for row in rows if row["probes"] == probes]
        sets = unique(row["test_set"] for row in mine)
        texts = ["builtin" if name == "builtin" else f"FILE-OF-{name.upper()}" for name in sets if name != STYLES]
        styles = ["--styles FILE#FIELD FILE#FIELD"] if STYLES in sets else []
        parts = _of(mine, "checkpoint"), f"--texts {' '.join(texts)}", *styles, f"--probes {probes}"
        commands.append(_command("transfer", *parts, "--out results/FOLDER"))
    return commands


def _of(rows: Iterable[Row], field: str) -> str:
    return " ".join(unique(row[field] for row in rows))


def _command(name: str, *options: str) -> str:
    return " \\\n    ".join([f"python -m evaluation {name}", *options])
