"""What a visitor asked for, checked: names from the catalogue, numbers within bounds, and the same as a command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from lens.bench import NOBODY, Bench
from lens.checkpoint import Checkpoint
from lens.validate import Refused, long_text, number, one_line, one_of, whole
from probes.direction import Kind
from probes.views import set_name
from steering.edit import Where
from steering.methods.table import METHODS
from steering.plan import BAND, Plan
from steering.sampling import Sampling

MOST_TOKENS = 200
MOST_HEADS = 4096
MOST_SEED = 2**31 - 1
PROMPT_CHARACTERS = 4000
LIST_CHARACTERS = 2000
KINDS = {"mass-mean": "Mass mean", "probe-weight": "Probe weight", "random": "Random control"}
PLACES = {"residual": "Residual stream", "heads": "Head outputs"}


@dataclass(frozen=True)
class Asked:
    """One run as the visitor asked for it, checked."""

    checkpoints: tuple[Checkpoint, ...]
    prompt: str
    strength: float
    plan: Plan
    sampling: Sampling


def command(run: Asked, bench: Bench) -> str:
    """The same run at a terminal, a command per checkpoint."""
    plan = run.plan
    given = {
        "--method": plan.method,
        "--probes": plan.probes if plan.site else None,
        "--kind": plan.kind if plan.rule.along else None,
        "--heads": plan.heads,
        "--where": plan.where,
        "--gate": None if plan.gate is None else f"{plan.gate:g}",
        "--temperature": f"{run.sampling.temperature:g}",
        "--top-p": f"{run.sampling.top_p:g}",
        "--max-tokens": run.sampling.max_tokens,
        "--seed": run.sampling.seed,
        "--device": None if bench.device == "auto" else bench.device,
        "--dtype": bench.dtype,
        "--threads": bench.threads,
    }
    options = [str(word) for option in given.items() if option[1] is not None for word in option]
    strengths = ["--strengths", "0", f"{run.strength:g}"]
    layers = ["--layers", *map(str, plan.layers)] if plan.layers else []
    lines = []
    for checkpoint in run.checkpoints:
        words = [str(bench.shown / checkpoint.folder.name), run.prompt]
        flags = [*strengths, *layers, *options]
        # behind "--", a prompt that begins with a dash is still a prompt
        rest = [*flags, "--", *words] if run.prompt.startswith("-") else [*words, *flags]
        lines.append(shlex.join(["python", "-m", "steering", "generate", *rest]))
    return "\n".join(lines)


def asked(bench: Bench, *, a: Any, b: Any, prompt: Any, method: Any, strength: Any, kind: Any, probes: Any,
          heads: Any, layers: Any, where: Any, gate: Any, temperature: Any, top_p: Any, length: Any,
          seed: Any) -> Asked:  # fmt: skip
    """Everything that came from the network, bounded and named; refuses the rest with a sentence."""
    names = [a] if b in (None, NOBODY, a) else [a, b]
    prompt = long_text(prompt, "the prompt", PROMPT_CHARACTERS)
    if not prompt.strip():
        raise Refused("The prompt is empty. Write the beginning of a sentence, or choose an example.")
    method = one_of(method, "the method", list(METHODS))
    seeded = whole(seed, "the seed", 0, MOST_SEED)  # of the words, and of random directions
    return Asked(
        checkpoints=tuple(bench.checkpoint(name) for name in names),
        prompt=prompt,
        strength=(number if METHODS[method].where else whole)(strength, "the strength", 0, int(METHODS[method].most)),
        plan=Plan(
            method=method,
            probes=set_name(probes),
            kind=cast(Kind, one_of(kind, "the direction", list(KINDS))),
            heads=heads_of(heads),
            layers=layers_of(layers),
            where=where_of(where, method),
            gate=number(gate, "the gate's threshold", 0, 1) or None,
            seed=seeded,
        ),
        sampling=Sampling(
            temperature=number(temperature, "the temperature", 0, 2),
            top_p=number(top_p, "top-p", 0.05, 1),
            max_tokens=whole(length, "the length", 1, MOST_TOKENS),
            seed=seeded,
        ),
    )


def digest(given: Mapping[str, Any]) -> str:
    """A short digest of what was asked, equal to the one that runs.js makes of the controls: FNV-1a over UTF-16."""
    values = [int(one) if isinstance(one, float) and one.is_integer() else one for one in given.values()]
    as_json = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    found = 2166136261
    for unit in memoryview(as_json.encode("utf-16-le", "surrogatepass")).cast("H"):
        found = ((found ^ unit) * 16777619) & 0xFFFFFFFF
    return str(found)


def heads_of(value: Any) -> int | str | None:
    """A number of the best heads, "band", or heads by name; nothing is the method's own number."""
    if value in (None, "", BAND):
        return value or None
    if isinstance(value, str):
        value = one_line(value, "the list of heads", LIST_CHARACTERS).replace(",", " ")
        if not value.strip().isdecimal():
            return value
    return whole(int(value) if isinstance(value, str) else value, "the number of heads", 1, MOST_HEADS)


def layers_of(value: Any) -> tuple[int, ...]:
    """Layers by number, spaces or commas between them; nothing is the method's own choice."""
    words = one_line(value or "", "the list of layers", LIST_CHARACTERS).replace(",", " ").split()
    if not all(word.isdecimal() and len(word) < 5 for word in words):
        raise Refused(f"Layers are numbers from 0, with spaces between them, such as 2 3; got {str(value)[:40]!r}.")
    return tuple(int(word) for word in words)


def where_of(value: Any, method: str) -> Where | None:
    """None for the method's own place, so that one plan has one spelling."""
    if value in (None, "", *METHODS[method].where[:1]):
        return None
    return cast(Where, one_of(value, "the place", list(PLACES)))
