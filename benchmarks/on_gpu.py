"""Whether a GPU writes what a CPU writes, and replayed steps what plain ones do: a line for each check.

python -m benchmarks.on_gpu --json on_gpu.json

CI has no GPU, so this is run by hand. With `--device cpu` it is rehearsed where there is none: nothing is recorded
then, but steps are repeated in the same still form.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from benchmarks.random_models import random_iti, random_model
from benchmarks.roads import plainly
from benchmarks.steering import MODELS, ROOT, Device, machine
from lens import Lens, gather, open_lens, write_atomically
from lens.blocks import StillCache
from lens.terminal import run_function
from probes import builtin
from probes.fits import batched_road, null_accuracies, sklearn_road
from steering import Doses, Plan, Row, Sampling, Shifts, fit, generate, graph, hooked, steered
from steering.batch import Batch, NotNumbers
from steering.cost import cost, plain_text
from steering.decode import Decoder

PROMPTS = ("The", "The people next door are kind, and they", "I think that all of them are", "My brother said")
GREEDY, DRAWN = Sampling(0, max_tokens=40), Sampling(1.0, top_p=0.9, max_tokens=40, seed=3)
FLIPPED = 0.1
"""Share of texts that may part: where two tokens are all but equally probable, rounding decides."""
LOGITS = 2e-3
"""How far two float32 logits may be apart; those of different kernels are apart by 1e-5 to 1e-4."""


@dataclass(frozen=True)
class Result:
    """What a check measured."""

    model: str
    check: str
    measured: float
    allowed: float
    seconds: float
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and self.measured <= self.allowed

    def __str__(self) -> str:
        word = "ok  " if self.passed else "FAIL"
        return (
            f"{word} {self.model}: {self.check}: {self.measured:.3g} (at most {self.allowed:g}), {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Pair:
    """One checkpoint on the CPU and on the device under test, both in float32."""

    here: Lens
    there: Lens

    @property
    def doses(self) -> list[Doses]:
        return doses_of(self.here)


Check = Callable[[Pair], tuple[float, float]]
"""Difference found, and the largest that is allowed."""


@cache
def doses_of(lens: Lens) -> list[Doses]:
    """Plain, and every kind of method at several strengths: what is fitted beside the checkpoint, else random ITI."""
    if not (lens.checkpoint.folder / "probes").exists():
        iti = random_iti(lens)
        return [(), iti.at(4), iti.at(-8), iti.at(12)]
    plans = [
        (Plan(), (8, -8)),
        (Plan(gate=0.4), (8,)),
        (Plan("caa"), (1,)),
        (Plan("caa", gate=0.5, positions="all"), (1,)),
        (Plan("act", probes="toxigen"), (1, 0.5)),
        (Plan("mean-act", probes="toxigen"), (1,)),
        (Plan("leace", probes="toxigen"), (1,)),
        (Plan("ablate", positions="all"), (0.7,)),
    ]
    return [(), *(fit(plan, lens).at(strength) for plan, strengths in plans for strength in strengths)]


def rows_of(pair: Pair) -> list[Row]:
    """Every dose with two prompts of different length."""
    return [Row(PROMPTS[(i + k) % len(PROMPTS)], one) for i, one in enumerate(pair.doses) for k in range(2)]


def texts(lens: Lens, rows: Sequence[Row], sampling: Sampling) -> list[tuple[int, ...]]:
    return [text.tokens for text in generate(lens, rows, sampling)]


def parted(some: Sequence[tuple[int, ...]], others: Sequence[tuple[int, ...]]) -> tuple[float, float]:
    """Share of texts that are not the same."""
    return sum(a != b for a, b in zip(some, others, strict=True)) / len(some), FLIPPED


def logits_along(
    lens: Lens, rows: Sequence[Row], written: Sequence[tuple[int, ...]], n: int = 24
) -> Float[Tensor, " n"]:
    """Of the loop's first steps behind each prompt, whatever it would have chosen."""
    prompts = [lens.encode(row.read) for row in rows]
    shifts = Shifts(lens, [row.doses for row in rows])
    decoder = Decoder(lens, [prompt[:-1] for prompt in prompts], range(len(rows)), n, shifts)
    given = [[prompt[-1], *text, *[5] * n] for prompt, text in zip(prompts, written, strict=True)]
    steps = torch.tensor(given, device=lens.device).T[:n]
    return torch.stack([decoder.step(tokens, shifts)[:, lens.real_tokens].float().cpu() for tokens in steps])


def apart(some: Tensor, others: Tensor) -> float:
    return (some - others).abs().max().item()


def last_only(pair: Pair) -> list[Row]:
    """Rows of doses that leave prompts as they are, for the loop without a batch around it."""
    return [row for row in rows_of(pair) if not any(dose.everywhere for dose in row.doses)]


def logits_as_on_the_cpu(pair: Pair) -> tuple[float, float]:
    rows = last_only(pair)
    written = texts(pair.here, rows, GREEDY)
    return apart(logits_along(pair.here, rows, written), logits_along(pair.there, rows, written)), LOGITS


def replayed_logits_as_plain_ones(pair: Pair) -> tuple[float, float]:
    rows = last_only(pair)
    written = texts(pair.there, rows, GREEDY)
    replayed = logits_along(pair.there, rows, written)
    with plainly():
        return apart(replayed, logits_along(pair.there, rows, written)), LOGITS


def greedy_texts_as_on_the_cpu(pair: Pair) -> tuple[float, float]:
    return parted(*(texts(lens, rows_of(pair), GREEDY) for lens in both(pair)))


def drawn_texts_as_on_the_cpu(pair: Pair) -> tuple[float, float]:
    return parted(*(texts(lens, rows_of(pair), DRAWN) for lens in both(pair)))


def replayed_texts_as_plain_ones(pair: Pair) -> tuple[float, float]:
    rows = rows_of(pair)
    found = [text for sampling in (GREEDY, DRAWN) for text in texts(pair.there, rows, sampling)]
    with plainly():
        return parted(found, [text for sampling in (GREEDY, DRAWN) for text in texts(pair.there, rows, sampling)])


def steps_are_replayed(pair: Pair) -> tuple[float, float]:
    """Behind the measured step Python runs two, one to warm up and the recorded one; without a GPU all."""
    with patch.object(StillCache, "mask", autospec=True, side_effect=StillCache.mask) as mask:
        texts(pair.there, [Row(PROMPTS[1])], GREEDY)
    return (abs(mask.call_count - 2) if pair.there.device.type == "cuda" else float(mask.call_count <= 2)), 0


def gates_as_on_the_cpu(pair: Pair) -> tuple[float, float]:
    """Shares that gates let through; texts that part look elsewhere from there on."""
    gated = [[text.receipt.gated or 0.0 for text in generate(lens, rows_of(pair), GREEDY)] for lens in both(pair)]
    return float(np.median(np.abs(np.diff(gated, axis=0)))), 0.0


def receipts_as_on_the_cpu(pair: Pair) -> tuple[float, float]:
    """Requested and measured lengths, relative to the largest."""
    shifts = [
        [
            (shift.requested, shift.measured)
            for text in generate(lens, rows_of(pair), GREEDY)
            for shift in text.receipt.shifts
        ]
        for lens in both(pair)
    ]
    return float(np.abs(np.diff(shifts, axis=0)).max() / np.abs(shifts).max()), 1e-3


def a_row_alone_as_in_a_batch(pair: Pair) -> tuple[float, float]:
    rows = rows_of(pair)
    return parted(texts(pair.there, rows, DRAWN), [texts(pair.there, [row], DRAWN)[0] for row in rows])


def rows_are_dropped(pair: Pair) -> tuple[float, float]:
    """Nine rows fill the context soon, one goes on: the others are dropped, and another graph is recorded."""
    long = " water" * ((pair.there.n_context - 12) // len(pair.there.encode(" water")))
    dose = pair.doses[1]
    rows = [*(Row(long, dose, sample) for sample in range(9)), Row(PROMPTS[0], dose)]
    sampling = Sampling(1.0, max_tokens=60)
    return parted(texts(pair.there, rows, sampling), [texts(pair.there, [row], sampling)[0] for row in rows])


def many_rows(pair: Pair) -> tuple[float, float]:
    """So many that a CPU shares their beginnings."""
    rows = [Row(prompt, one, k) for prompt in PROMPTS for one in pair.doses[:3] for k in range(6)]
    return parted(*(texts(lens, rows, DRAWN) for lens in both(pair)))


def the_reference_road(pair: Pair) -> tuple[float, float]:
    """Logits through TransformerLens, every edit a matrix, beside hooks on the plain model."""
    lens, found = pair.there, 0.0
    tokens = lens.encode(PROMPTS[1])
    batch = lens.pad([tokens, tokens[:3]])
    for positions in ("last", "all"):
        for dose in pair.doses:
            with steered(lens, [dose, ()], positions):
                reference = lens.logits(*batch)
            with hooked(lens, Shifts(lens, [dose, ()]), positions):
                found = max(found, apart(lens.plain_logits(*batch)[:, -1], reference[:, -1]))
    return found, LOGITS


def gathered_as_on_the_cpu(pair: Pair) -> tuple[float, float]:
    words = [text.text for text in builtin().texts[:300]]
    found = [gather(lens, words, [True] * len(words), words) for lens in both(pair)]
    return max(apart(found[0].heads, found[1].heads), apart(found[0].residual, found[1].residual)), LOGITS


def probes_as_those_of_scikit_learn(pair: Pair) -> tuple[float, float]:
    """Weights of some heads at the optimum, relative to the largest; and the null band's accuracies."""
    some = builtin().texts[:400]
    labels = [text.label for text in some]
    words = [text.text for text in some]
    found = gather(pair.here, words, labels, words)
    states, order = found.heads.flatten(1, 2)[:, :8], np.random.default_rng(0).permutation(len(some))
    asked = states, found.labels, order[80:], order[:80]
    ours = torch.cat([weight for weight, *_ in batched_road(*asked, pair.there.device, None)])
    theirs = torch.cat([weight for weight, *_ in sklearn_road(*asked, torch.device("cpu"), 2)])
    null = [null_accuracies(*asked, 50, np.random.default_rng(1), lens.device) for lens in both(pair)]
    return max(apart(ours, theirs) / theirs.abs().max().item(), apart(*null) / 10), 1e-3


def cost_as_on_the_cpu(pair: Pair) -> tuple[float, float]:
    text = plain_text()[:1500]
    kl = [[one.kl.value for one in cost(lens, pair.doses[1:4], text, window=32)] for lens in both(pair)]
    return float(np.abs(np.diff(kl, axis=0)).max()), 1e-4


def numbers_that_are_none_are_refused(pair: Pair) -> tuple[float, float]:
    """Also in the middle of a text, where steps are replayed: they read the weights as they are."""
    batch, weight = Batch(pair.there, [Row(PROMPTS[1], pair.doses[1])], Sampling(0, max_tokens=30)), pair.there.W_U
    for _ in range(6):
        batch.advance()
    with torch.no_grad():
        before = weight.clone()
        weight.fill_(float("nan"))  # every token's embedding
        try:
            batch.advance()
        except NotNumbers:
            return 0, 0
        finally:
            weight.copy_(before)
    return 1, 0


def half_precision(pair: Pair) -> tuple[float, float]:
    """In bfloat16 receipts hold, and replayed logits err as plain ones do: the ratio of distances to float32."""
    lens, rows = open_lens(pair.there.checkpoint, pair.there.device.type, "bfloat16"), last_only(pair)
    generate(lens, rows_of(pair), DRAWN)
    written = texts(pair.there, rows, GREEDY)
    replayed, exact = logits_along(lens, rows, written), logits_along(pair.there, rows, written)
    with plainly():
        plain = logits_along(lens, rows, written)
    return ((replayed - exact).norm() / (plain - exact).norm()).item(), 1.2


def both(pair: Pair) -> tuple[Lens, Lens]:
    return pair.here, pair.there


CHECKS: tuple[Check, ...] = (
    logits_as_on_the_cpu,
    replayed_logits_as_plain_ones,
    steps_are_replayed,
    greedy_texts_as_on_the_cpu,
    drawn_texts_as_on_the_cpu,
    replayed_texts_as_plain_ones,
    gates_as_on_the_cpu,
    receipts_as_on_the_cpu,
    a_row_alone_as_in_a_batch,
    rows_are_dropped,
    many_rows,
    the_reference_road,
    gathered_as_on_the_cpu,
    probes_as_those_of_scikit_learn,
    cost_as_on_the_cpu,
    numbers_that_are_none_are_refused,
    half_precision,
)


def results(pair: Pair, checks: Sequence[Check] = CHECKS) -> Iterator[Result]:
    """One after the other; a check that breaks does not stop the others."""
    for check in checks:
        start, measured, allowed, error = time.perf_counter(), float("nan"), 0.0, ""
        try:
            measured, allowed = check(pair)
        except Exception:
            error = "".join(islice(reversed(traceback.format_exc().splitlines(keepends=True)), 8))
        name = check.__name__.replace("_", " ")
        yield Result(pair.here.checkpoint.name, name, measured, allowed, time.perf_counter() - start, error)


def main(
    checkpoint: Path = ROOT / "checkpoints" / "demo-10",
    device: Device = "cuda",
    random: bool = True,
    models: Path = MODELS,
    threads: int = 4,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Run all checks, print a line for each, and end with status 1 if one failed.

    Args:
        checkpoint: A folder, best one with probes and fits.
        device: cuda, or cpu to rehearse.
        random: Also on a model of 60 million random weights.
        models: Folder for that model.
        threads: CPU threads.
        as_json: File for the results.
    """
    if device == "cpu":
        graph.REPLAYING.add("cpu")
    found: list[Result] = []
    for folder in (checkpoint, *([random_model("60m", models, "float32")] if random else [])):
        pair = Pair(*(open_lens(str(folder), where, "float32", threads) for where in ("cpu", device)))
        for result in results(pair):
            print(result, result.error, sep="\n" if result.error else "", flush=True)
            found.append(result)
    if as_json:
        results_of = [
            {**asdict(one), "measured": None if one.error else one.measured, "passed": one.passed} for one in found
        ]
        write_atomically(as_json, json.dumps({"machine": machine(device), "results": results_of}, indent=1) + "\n")
    failed = [one.check for one in found if not one.passed]
    print(f"{len(found) - len(failed)} of {len(found)} checks passed.")
    sys.exit(bool(failed))


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
