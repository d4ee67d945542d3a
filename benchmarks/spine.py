"""How fast steered text comes, against plain text and against Hugging Face's own `generate`.

python benchmarks/spine.py --json spine.json --markdown spine.md

All roads write the same number of tokens with the same model and threads. They take turns inside each repeat, so that
whatever else the machine does hits all of them; a ratio is taken within a repeat and reported as the median.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from lens import Head, Lens, open_lens
from probes import Direction
from steering import Row, Sampling, generate, stream
from steering.plan import default_n_heads

PROMPT = "The people next door are kind, and they"
SIGMAS = (0.0, 4.0, 8.0, 12.0)
FIRST_TOKEN_SECONDS, OF_PLAIN, OF_HUGGING_FACE = 0.5, 0.95, 0.9
"""What was promised."""


@dataclass(frozen=True)
class Speed:
    """Decoding one batch on three roads; medians over the repeats."""

    sampling: str
    n_rows: int
    plain: float
    """Tokens per second and row, our loop, nothing steered."""
    steered: float
    """The same with every row steered."""
    hugging_face: float
    """`model.generate` with the same sampling."""
    steered_of_plain: float
    """Median of the ratios within each repeat."""
    steered_of_hugging_face: float


def speed(lens: Lens, directions: list[Direction], n_rows: int, temperature: float, n_tokens: int, n: int) -> Speed:
    """One line of the table."""
    sampling = Sampling(temperature, top_p=0.9, max_tokens=n_tokens)
    plain = [Row(PROMPT, 0.0, sample) for sample in range(n_rows)]
    steered = [Row(PROMPT, SIGMAS[-1 - sample % len(SIGMAS)], sample) for sample in range(n_rows)]
    roads: list[Callable[[], Any]] = [
        lambda: generate(lens, plain, [], sampling),
        lambda: generate(lens, steered, directions, sampling),
        lambda: hugging_face(lens, n_rows, sampling),
    ]
    rates = [[n_tokens / seconds for seconds in turn] for turn in interleaved(roads, n)]
    ours, pushed, theirs = (statistics.median(road) for road in zip(*rates, strict=True))
    of_plain = statistics.median(turn[1] / turn[0] for turn in rates)
    of_theirs = statistics.median(turn[1] / turn[2] for turn in rates)
    return Speed("greedy" if temperature == 0 else "top-p 0.9", n_rows, ours, pushed, theirs, of_plain, of_theirs)


def interleaved(roads: list[Callable[[], Any]], n: int) -> Iterator[list[float]]:
    """Seconds of each road in each of n repeats; every other repeat goes backwards, the first is not counted."""
    for repeat in range(n + 1):
        seconds = [0.0] * len(roads)
        order = list(range(len(roads)))
        for i in order if repeat % 2 else reversed(order):
            seconds[i] = clocked(roads[i])
        if repeat:
            yield seconds


def clocked(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def hugging_face(lens: Lens, n_rows: int, sampling: Sampling) -> None:
    """The named baseline: transformers' `generate` with its cache, told that no text ends."""
    from transformers import GenerationConfig

    prompt = torch.tensor([lens.encode(PROMPT)] * n_rows, device=lens.device)
    chance = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    config = GenerationConfig(
        max_new_tokens=sampling.max_tokens, pad_token_id=0, **(chance if sampling.temperature else {"do_sample": False})
    )
    ids = lens.model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    assert ids.shape[1] == prompt.shape[1] + sampling.max_tokens


def first_token_seconds(lens: Lens, directions: list[Direction], n: int) -> float:
    """From asking to the first step of four strengths, model open; median."""
    rows = [Row(PROMPT, sigmas) for sigmas in SIGMAS]
    times = [clocked(lambda: next(stream(lens, rows, directions, Sampling()))) for _ in range(n + 1)]
    return statistics.median(times[1:])


def opening_seconds(folder: Path, n: int) -> float:
    """From a folder on disk to an open model; median."""
    return statistics.median(clocked(lambda: open_lens(str(folder), device="cpu")) for _ in range(n))


def page_served_seconds() -> float | None:
    """From the command to the first answer of the page; None until the app is measured here."""
    return None


def some_directions(lens: Lens) -> list[Direction]:
    """As many directions as a default plan has, in heads spread over all layers; which ones does not matter to time."""
    heads = list(lens.grid)
    n = default_n_heads(len(heads))
    unit = torch.ones(lens.grid.d_head) / lens.grid.d_head**0.5
    return [Direction(Head(head.layer, head.index), unit, 0.01) for head in heads[:: max(1, len(heads) // n)][:n]]


def random_nano(folder: Path) -> Path:
    """A nano model (6 layers, 8 heads, 128 wide, 4,096 tokens) with random weights: speed does not depend on them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(a, b) for a in letters for b in letters][: 4096 - len(letters) - 1]
    vocabulary = {token: i for i, token in enumerate(["<|endoftext|>", *letters, *(a + b for a, b in pairs)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = OlmoConfig(
            vocab_size=4096,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=8,
            max_position_embeddings=256,
            eos_token_id=0,
            pad_token_id=0,
            tie_word_embeddings=True,
        )
        OlmoForCausalLM(config).save_pretrained(folder)
    return folder


def measure(folder: Path, threads: int, n_tokens: int, repeats: int) -> dict[str, Any]:
    """Everything this script knows about one checkpoint, as plain values."""
    lens = open_lens(str(folder), threads=threads)
    lens.eos = -1  # no text ends, so that every road writes as many tokens
    directions = some_directions(lens)
    speeds = [
        speed(lens, directions, n_rows, temperature, n_tokens, repeats)
        for temperature in (0.0, 1.0)
        for n_rows in (1, 4, 16)
    ]
    return {
        "model": lens.description,
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "n_heads": len(directions),
        "n_tokens": n_tokens,
        "repeats": repeats,
        "page_served_seconds": page_served_seconds(),
        "opening_seconds": opening_seconds(folder, 3),
        "first_token_seconds": first_token_seconds(lens, directions, repeats),
        "speeds": [asdict(line) for line in speeds],
    }


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    model = found["model"]
    page = found["page_served_seconds"]
    lines = [
        f"{model['checkpoint']} ({model['fingerprint'][:8]}), {model['dtype']} on {model['device']}, "
        f"{model['threads']} thread(s); {found['machine']}; {found['n_heads']} heads steered, "
        f"{found['n_tokens']} tokens, medians of {found['repeats']} interleaved repeats.",
        "",
        f"First token of four strengths: {1000 * found['first_token_seconds']:.0f} ms with the model open (aim "
        f"{1000 * FIRST_TOKEN_SECONDS:.0f}); opening it: {1000 * found['opening_seconds']:.0f} ms."
        + ("" if page is None else f" Page served {page:.1f} s after the command."),
        "",
        "| words | rows | plain (tokens/s) | steered | Hugging Face `generate` | steered ÷ plain | "
        "steered ÷ Hugging Face |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for line in found["speeds"]:
        rates = " | ".join(f"{line[road] * line['n_rows']:.0f}" for road in ("plain", "steered", "hugging_face"))
        ratios = f"{line['steered_of_plain']:.2f} | {line['steered_of_hugging_face']:.2f}"
        lines.append(f"| {line['sampling']} | {line['n_rows']} | {rates} | {ratios} |")
    return "\n".join([*lines, "", f"Aims: {OF_PLAIN} of plain, {OF_HUGGING_FACE} of Hugging Face."])


def main(
    checkpoint: Path | None = None,
    threads: int = 1,
    n_tokens: int = 64,
    repeats: int = 7,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    markdown: Path | None = None,
) -> None:
    """Measure, print the table, and write it and its numbers where asked.

    Args:
        checkpoint: A folder; without one a nano model with random weights is made on the spot.
        threads: CPU threads of every road.
        n_tokens: Tokens each row writes.
        repeats: Turns of all roads, after one that is not counted.
        as_json: File for the numbers.
        markdown: File for the table.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(checkpoint or random_nano(Path(scratch) / "nano"), threads, n_tokens, repeats)
    print(table(found))
    if as_json:
        as_json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if markdown:
        markdown.write_text(table(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
