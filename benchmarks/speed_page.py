"""The page of docs/performance.md, from the numbers of its benchmarks alone.

python -m benchmarks.speed_page --steering DEMO.json 60M.json 1B.json --gathering G1.json G2.json --memory M.json \
  --sweeping S.json --json docs/performance.json --markdown docs/performance.md
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks import gather, memory, sweep
from lens import write_atomically
from lens.terminal import run_function

HEAD = """# How fast it is

Written by `python -m benchmarks.speed_page` from the numbers of `python -m benchmarks.steering --sizes demo
--peers-python PEERS/bin/python`, the same for `60m` and `1b`, `benchmarks.gather`, `benchmarks.sweep` and
`benchmarks.memory`. All roads steer the same model by the same vectors, write as many tokens with as many threads, are
first shown to write the same words, and take turns in one run. Quote the ratios: absolute times are those of one
machine. Ratios are medians of those within a repeat, with their quartiles. Reading every weight once a token, and
nothing else, is what no loop can beat with one row: where that is less than an aim, the aim is out of reach."""
NOT_YET = """ Nothing was
timed on a GPU yet, where all steps but the first two are replays of one CUDA graph."""
CHECKED = """## Checked on a GPU

Written by `python -m benchmarks.on_gpu`: whether a GPU writes what a CPU writes, and replayed steps what plain ones do.
"""
ON_A_GPU = """## On a GPU

Written by `python -m benchmarks.steering --device cuda`. All steps of our loop but the first few are replays of one
CUDA graph; "no graphs" is the same loop with every kernel launched from Python.
"""
GATHERING = """## Gathering activations

The bare pass has its batches made beforehand. One text at a time is how the ITI code gathers: the whole model, every
hidden state, all positions.
"""
SWEEPING = """## A sweep

Model passes are reading prompts and every step of the decoding loop, logits included. Choosing tokens is noise, top-p
and the winner over the whole vocabulary. What is left over is words, scores and bookkeeping. A plan at a time is the
same prompts, seeds and scores, one plan after the other. Passes of a larger model are a larger part.
"""
MEMORY = """## Memory of an open checkpoint

The plain model, the decoding loop and the bridge share one copy of the weights; while it is made, pages of the mapped
file count too, which the system can drop. Models of up to 268 MB in float32 have their matrices twice on a CPU, once
more in the order in which oneDNN reads them fastest.
"""
NAMES = {
    "ours": "our loop, steered",
    "no graphs": "our loop, steered, no graphs",
    "plain": "our loop, plain",
    "generate": "`generate`, plain",
    "pre-hooks": "`generate`, pre-hooks on `o_proj`",
    "TransformerLens": "TransformerLens, `hook_z`",
    "nnsight": "nnsight",
    "pyvene": "pyvene, at `o_proj`'s input",
}
PEERS = ("pre-hooks", "TransformerLens", "nnsight", "pyvene")
OF_PLAIN, OF_GENERATE, TOGETHER, OF_SLOWEST_PEER = 0.95, {"demo": 1.5, "1b": 1.0}, 2.5, 3.0
ONCE = (
    " In bfloat16 on a CPU `generate` copies the whole unembedding once in each call, behind the prompt; roads through "
    "it pay this too, and the longer the text the less it shows."
)
PAGE_SECONDS, FIRST_TOKEN_SECONDS = 15, 0.5
"""What was promised."""


def page(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    head = HEAD if "gpu" in found["machine"] or found.get("on_gpu") else HEAD + NOT_YET
    lines = [f"{head}\n", about(found), "", *aims(found)]
    lines += [line for size in found["sizes"] for line in chapter(size)]
    if there := found.get("on_gpu"):
        lines += [ON_A_GPU, about(there), "", *aims(there)]
        lines += [f"#{line}" if line.startswith("##") else line for size in there["sizes"] for line in chapter(size)]
    if checked := found.get("checks"):
        lines += [CHECKED, *checks(checked)]
    if taken := found.get("gathering"):
        lines += [GATHERING, *(f"{gather.table(gather.Gathering.of(one))}\n" for one in taken)]
    if swept := found.get("sweeping"):
        lines += [SWEEPING, *(f"{sweep.table(one)}\n" for one in swept)]
    if grown := found.get("memory"):
        lines += [MEMORY, memory.table(grown, "bfloat16"), ""]
    return "\n".join(lines).rstrip() + "\n"


def about(found: dict[str, Any]) -> str:
    """On what it ran."""
    machine = found["machine"]
    versions = dict(machine["versions"])
    for size in found["sizes"]:
        versions |= size["versions"]
    words = ", ".join(f"{name} {number}" for name, number in versions.items())
    gpu = f"{machine['gpu']}, CUDA {machine['cuda']}; " if "gpu" in machine else ""
    return f"{gpu}{machine['cpu']}, {machine['n_cores']} cores, load {machine['load_at_start']} at the start; {words}."


def aims(found: dict[str, Any]) -> list[str]:
    """What was promised, for CPUs, and what came of it."""
    promised = (lambda aim: "") if "gpu" in found["machine"] else str
    lines = ["| aim | | |", "|---|---:|---|"]
    for size in found["sizes"]:
        greedy = {race["n_rows"]: race["roads"] for race in size["races"] if race["words"] == "greedy"}
        n_rows = min(greedy)
        one, name = greedy[n_rows], size["size"]
        least = min((race["roads"]["plain"]["ours_over_it"] for race in size["races"]), key=lambda it: it["median"])
        lines.append(f"| {name}: steered ÷ plain, the least of all batches | {promised(OF_PLAIN)} | {_ratio(least)} |")
        if name in OF_GENERATE:
            what = f"{name}: steered ÷ Hugging Face's `generate`, {_rows(n_rows)}"
            lines.append(f"| {what} | {promised(OF_GENERATE[name])} | {_ratio(one['generate']['ours_over_it'])} |")
        slowest = max((peer for peer in PEERS if peer in one), key=lambda peer: one[peer]["ours_over_it"]["median"])
        what = f"{name}: steered ÷ the slowest peer, {_rows(n_rows)}"
        lines.append(f"| {what} | {promised(OF_SLOWEST_PEER)} | {_ratio(one[slowest]['ours_over_it'])} ({slowest}) |")
        if n_rows == 1:
            most = 1 / size["reading_seconds"] / one[slowest]["tokens_per_second"]["median"]
            lines.append(f"| {name}: reading every weight once a token ÷ the same peer | | {most:.1f} |")
        if "no graphs" in one:
            what = f"{name}: steered ÷ the same without CUDA graphs, {_rows(n_rows)}"
            lines.append(f"| {what} | | {_ratio(one['no graphs']['ours_over_it'])} |")
        what = f"{name}: four strengths in one batch ÷ one after the other"
        lines.append(f"| {what} | {promised(TOGETHER)} | {_ratio(size['together'])} |")
    if seconds := found.get("seconds"):
        lines.append(f"| page served after the command (s) | {PAGE_SECONDS} | {seconds['page_served']:.1f} |")
        first = f"| {1000 * FIRST_TOKEN_SECONDS:.0f} | {1000 * seconds['first_token']:.0f} |"
        lines.append(f"| first token of four strengths, model open (ms) {first}")
        lines.append(f"| opening a checkpoint (ms) | | {1000 * seconds['opening']:.0f} |")
    return [*lines, ""]


def chapter(size: dict[str, Any]) -> list[str]:
    """One model: what was run, and a table of roads by batch size."""
    model, agreed = size["model"], size["agreement"]
    copied = (model["dtype"], model["device"]) == ("bfloat16", "cpu")
    batches = [race["n_rows"] for race in size["races"] if race["words"] == "greedy"]
    columns = " | ".join(f"{_rows(n)} (tokens/s) | steered ÷ it" for n in batches)
    return [
        f"## {size['size']}: {size['n_parameters'] / 1e6:,.0f} million parameters",
        "",
        f"{model['checkpoint']}, {model['dtype']} on {model['device']}, {_many(size['threads'], 'thread')}; "
        f"{size['n_heads']} heads in {size['n_layers']} layers steered, {size['n_tokens']} tokens, "
        f"{_many(size['repeats'], 'repeat')}. {_agreement(agreed)}{ONCE * copied}",
        "",
        f"| | {columns} |",
        "|---|" + "---:|" * 2 * len(batches),
        *(line for words in ("greedy", "drawn") for line in _table_rows(size, words)),
        "",
    ]


def _table_rows(size: dict[str, Any], words: str) -> list[str]:
    races = [race["roads"] for race in size["races"] if race["words"] == words]
    lines = []
    for road, name in NAMES.items():
        if road not in races[0]:
            continue
        cells = [f"{name}{', top-p 0.9' * (words == 'drawn')}"]
        for race in races:
            speed = race[road]["tokens_per_second"]["median"]
            cells.append(f"{speed:.0f}" if speed >= 20 else f"{speed:.1f}")
            cells.append("" if road == "ours" else _ratio(race[road]["ours_over_it"]))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _agreement(agreed: dict[str, Any]) -> str:
    steered = {name: miss for name, miss in agreed["shortfall"].items() if name not in ("plain", "generate")}
    if not agreed["allowed"]:
        return f"All steered roads write the same {agreed['n_tokens']} greedy tokens; the plain ones write others."
    return (
        f"Each greedy token of every steered road is within {max(steered.values()):.3f} standard deviations of the "
        f"logits of the best one (allowed {agreed['allowed']:g}); the plain roads miss it by "
        f"{agreed['shortfall']['plain']:.1f}."
    )


def _ratio(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} [{spread['low']:.2f}, {spread['high']:.2f}]"


def _rows(n: int) -> str:
    return _many(n, "row")


def checks(found: dict[str, Any]) -> list[str]:
    """A line for each check, with what it measured or how it ended."""
    machine, some = found["machine"], found["results"]
    where = f"{machine['gpu']}, CUDA {machine['cuda']}, torch {machine['versions']['torch']}"
    lines = [f"{sum(one['passed'] for one in some)} of {len(some)} held on {where}. {found.get('remark', '')}".rstrip()]
    lines += ["", "| model | check | measured | at most | |", "|---|---|---:|---:|---|"]
    for one in some:
        numbers = "| |" if one["error"] else f"{one['measured']:.2g} | {one['allowed']:g} |"
        lines.append(f"| {one['model']} | {one['check']} | {numbers} {'held' if one['passed'] else '**failed**'} |")
    return [*lines, ""]


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _joined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs on one machine as one."""
    return {**runs[0], "sizes": [size for run in runs for size in run["sizes"]]}


def main(
    steering: tuple[Path, ...],
    gathering: tuple[Path, ...] = (),
    memory: Path | None = None,
    sweeping: tuple[Path, ...] = (),
    checked: Path | None = None,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    markdown: Path | None = None,
) -> None:
    """Put the numbers of several runs on one page.

    Args:
        steering: Of `benchmarks.steering`, a file for each run, on whatever device.
        gathering: Of `benchmarks.gather`.
        memory: Of `benchmarks.memory`.
        sweeping: Of `benchmarks.sweep`, a file for each run.
        checked: Of `benchmarks.on_gpu`.
        as_json: File for all numbers.
        markdown: File for the page.
    """
    runs = [json.loads(path.read_text()) for path in steering]
    on_cpu, on_gpu = ([run for run in runs if ("gpu" in run["machine"]) == there] for there in (False, True))
    found = _joined(on_cpu or on_gpu)
    found |= {"on_gpu": _joined(on_gpu)} if on_cpu and on_gpu else {}
    found |= {"gathering": [json.loads(path.read_text()) for path in gathering]}
    found |= {"memory": json.loads(memory.read_text())} if memory else {}
    found |= {"sweeping": [json.loads(path.read_text()) for path in sweeping]}
    found |= {"checks": json.loads(checked.read_text())} if checked else {}
    print(page(found))
    if as_json:
        write_atomically(as_json, json.dumps(found, indent=1) + "\n")
    if markdown:
        write_atomically(markdown, page(found))


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
