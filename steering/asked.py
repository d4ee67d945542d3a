"""What a visitor asked for, checked: names from the catalogue, numbers within bounds, and the same as a command."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, cast

from lens.bench import NOBODY, Bench, number, one_of, whole
from lens.checkpoint import Checkpoint
from probes.direction import Kind
from probes.views import set_name
from steering.plan import Plan
from steering.sampling import Sampling

MOST_SIGMAS = 16.0
MOST_TOKENS = 200
MOST_HEADS = 4096
MOST_SEED = 2**31 - 1
PROMPT_CHARACTERS = 4000
KINDS = {"mass-mean": "Mass mean", "probe-weight": "Probe weight", "random": "Random control"}


@dataclass(frozen=True)
class Asked:
    """One run as the visitor asked for it, checked."""

    checkpoints: tuple[Checkpoint, ...]
    prompt: str
    sigmas: float
    plan: Plan
    sampling: Sampling


def command(run: Asked, bench: Bench) -> str:
    """The same run at a terminal, a command per checkpoint."""
    given = {
        "--probes": run.plan.probes,
        "--kind": run.plan.kind,
        "--n-heads": run.plan.n_heads,
        "--temperature": f"{run.sampling.temperature:g}",
        "--top-p": f"{run.sampling.top_p:g}",
        "--max-tokens": run.sampling.max_tokens,
        "--seed": run.sampling.seed,
        "--device": None if bench.device == "auto" else bench.device,
        "--dtype": bench.dtype,
        "--threads": bench.threads,
    }
    options = [str(word) for option in given.items() if option[1] is not None for word in option]
    strengths = ["--sigmas", "0", f"{run.sigmas:g}"]
    lines = []
    for checkpoint in run.checkpoints:
        words = [str(checkpoint.folder), run.prompt]
        # behind "--", a prompt that begins with a dash is still a prompt
        rest = [*strengths, *options, "--", *words] if run.prompt.startswith("-") else [*words, *strengths, *options]
        lines.append(shlex.join(["python", "-m", "steering", "generate", *rest]))
    return "\n".join(lines)


def asked(bench: Bench, a: Any, b: Any, prompt: Any, sigmas: Any, kind: Any, probes: Any, n_heads: Any,
          temperature: Any, top_p: Any, length: Any, seed: Any) -> Asked:  # fmt: skip
    """Everything that came from the network, bounded and named; refuses the rest with a sentence."""
    names = [a] if b in (None, NOBODY, a) else [a, b]
    if not isinstance(prompt, str) or len(prompt) > PROMPT_CHARACTERS:
        raise ValueError(f"The prompt should be a text of at most {PROMPT_CHARACTERS:,} characters. Shorten it.")
    if not prompt.strip():
        raise ValueError("The prompt is empty. Write the beginning of a sentence, or choose an example.")
    seeded = whole(seed, "the seed", 0, MOST_SEED)  # of the words, and of random directions
    return Asked(
        checkpoints=tuple(bench.checkpoint(name) for name in names),
        prompt=prompt,
        sigmas=number(sigmas, "the strength", 0, MOST_SIGMAS),
        plan=Plan(
            probes=set_name(probes),
            kind=cast(Kind, one_of(kind, "the direction", list(KINDS))),
            n_heads=whole(n_heads or 0, "the number of heads", 0, MOST_HEADS) or None,
            seed=seeded,
        ),
        sampling=Sampling(
            temperature=number(temperature, "the temperature", 0, 2),
            top_p=number(top_p, "top-p", 0.05, 1),
            max_tokens=whole(length, "the length", 1, MOST_TOKENS),
            seed=seeded,
        ),
    )
