"""Steering at a terminal.

python -m steering generate checkpoints/demo-10 "The people next door are" --sigmas 0 4 8 12
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Literal

import tyro

from lens import open_lens
from probes.direction import Kind
from probes.lexicon import Lexicon, mask
from probes.probe import ProbeSet
from steering.generate import DETOX_PROMPT, Row, Step, prompted, stream
from steering.plan import Plan
from steering.receipt import ShiftMissed
from steering.sampling import Sampling


def generate(
    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")],
    prompt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROMPT")],
    sigmas: tuple[float, ...] = (0.0, 4.0, 8.0, 12.0),
    probes: str = "toxigen",
    kind: Kind = "mass-mean",
    n_heads: Annotated[int | None, tyro.conf.arg(aliases=["--heads"])] = None,
    temperature: float = 1.0,
    top_p: float = 0.9,
    max_tokens: int = 40,
    seed: int = 0,
    positions: Literal["last", "all"] = "last",
    prompting: bool = False,
    unmasked: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    device: str = "auto",
    dtype: str | None = None,
    threads: int | None = None,
) -> None:
    """Continue a prompt at several strengths, with the same chance in each.

    Args:
        checkpoint: A folder, a name in checkpoints/, or "org/name" on the Hugging Face hub.
        prompt: The beginning of the text.
        sigmas: Strengths in standard deviations along each direction; positive detoxifies, 0 is the plain model.
        probes: The probe set that gives the heads and directions.
        kind: mass-mean and probe-weight steer; random is a control.
        n_heads: How many of the best heads. Default: 30 from 256 heads up, else 12 % of them.
        temperature: 0 takes the most probable token.
        top_p: Sample among the most probable tokens that hold this share together.
        max_tokens: Tokens to write at most.
        seed: Of the sampling, and of the random directions.
        positions: last: from the last prompt token on. all: the whole prompt too.
        prompting: Add the prompting baseline: the plain model, asked in words.
        unmasked: Show slurs and insults in full; JSON always does.
        as_json: One JSON line per text, with its whole receipt.
        device: auto, cpu, cuda or mps.
        dtype: float32, bfloat16 or float16. Default: float32 below 500 million parameters.
        threads: CPU threads.
    """
    plan = Plan(probes=probes, kind=kind, n_heads=n_heads, positions=positions, seed=seed)
    sampling = Sampling(temperature, top_p, max_tokens, seed)
    rows = [Row(prompt, strength) for strength in sigmas] + [prompted(Row(prompt, 0))] * prompting
    if not rows:
        raise ValueError("There is nothing to write. Give at least one strength, such as --sigmas 0 8.")
    lens = open_lens(checkpoint, device, dtype, threads)
    directions = plan.directions(ProbeSet.load(lens.checkpoint, probes)) if any(sigmas) else []
    steps = stream(lens, rows, directions, sampling, positions, plan=plan)
    hide = str if unmasked else partial(mask, lexicon=Lexicon.builtin())
    last = _until_interrupted(steps) if as_json or not sys.stdout.isatty() else _live(steps, rows, hide)
    if last is None:
        return
    if as_json:
        _print_json(rows, last)
    else:
        if not sys.stdout.isatty():
            print(_page(rows, last, hide))
        print(max(last.receipts, key=lambda receipt: abs(receipt.sigmas)))


def _until_interrupted(steps: Iterator[Step]) -> Step | None:
    """The last step; Ctrl-C ends it early and keeps what was written."""
    last = None
    try:
        for last in steps:  # noqa: B007
            pass
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    return last


def _live(steps: Iterator[Step], rows: Sequence[Row], hide: Callable[[str], str]) -> Step | None:
    """Show the texts growing in a terminal; the last picture stays."""
    from rich.live import Live
    from rich.text import Text

    with Live(refresh_per_second=16, vertical_overflow="visible") as screen:

        def shown() -> Iterator[Step]:
            for step in steps:
                screen.update(Text(_page(rows, step, hide)))
                yield step

        return _until_interrupted(shown())


def _page(rows: Sequence[Row], step: Step, hide: Callable[[str], str]) -> str:
    """Every row's text behind its prompt, under its strength."""
    return "\n".join(
        f"{_title(row)}\n{hide(_harmless(row.prompt.removeprefix(DETOX_PROMPT) + text))}\n"
        for row, text in zip(rows, step.texts, strict=True)
    )


def _title(row: Row) -> str:
    if row.prompt.startswith(DETOX_PROMPT):
        return "— asked in words —"
    return f"— {row.sigmas:g} sigmas —" if row.sigmas else "— plain —"


def _harmless(text: str) -> str:
    """What a model writes may hold control characters; a terminal would obey them."""
    return "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" else "\ufffd" for c in text)


def _print_json(rows: Sequence[Row], step: Step) -> None:
    for row, text, n_tokens, done, receipt in zip(
        rows, step.texts, step.n_tokens, step.done, step.receipts, strict=True
    ):
        line = {"prompt": row.prompt, "sigmas": row.sigmas, "text": text, "n_tokens": n_tokens, "done": done}
        print(json.dumps({**line, "receipt": receipt.to_dict()}, ensure_ascii=True))


def main() -> None:
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"generate": generate}, prog="python -m steering", config=(tyro.conf.FlagCreatePairsOff,)
        )
    except (ValueError, LookupError, OSError, ShiftMissed) as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit("Stopped.")


if __name__ == "__main__":
    main()
