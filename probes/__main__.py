"""`python -m probes fit CHECKPOINT ...` and `python -m probes show CHECKPOINT ...`."""

import sys
import time
from typing import Annotated, Literal

import numpy as np
import tyro

from lens import find, open_lens
from probes.probe import ProbeSet, compare, probe_checkpoint
from probes.store import saved
from probes.texts import By, open_texts

Checkpoints = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT ...")]


def fit(
    checkpoints: Checkpoints,
    /,
    texts: str = "builtin",
    rule: Literal["human>=2.5", "human>=3", "sum>5.5"] = "human>=2.5",
    classes: tuple[str, str] | None = None,
    name: str | None = None,
    by: By = "text",
    held_out: float = 0.2,
    seed: int = 0,
    device: str = "auto",
    dtype: str | None = None,
    threads: int | None = None,
) -> None:
    """Fit a probe to every head and layer of each checkpoint, and save them beside it.

    Args:
        checkpoints: Names in checkpoints/, or folders.
        texts: "builtin", or a file: ToxiGen's, or .jsonl or .csv with text and label (and group, pair).
        rule: What makes a ToxiGen text toxic.
        classes: The labels of a file of your own, positive class first.
        name: Of the probe set; "toxigen" for ToxiGen's file, else the file's name.
        by: Hold out texts at random, or whole groups; the latter's set is named with "-by-group" behind it.
        held_out: Share of the texts to hold out.
        seed: Of the split and of the shuffled labels.
        device: auto, cpu, cuda or mps.
        dtype: float32 or bfloat16; float32 for small models unless told.
        threads: CPU threads.
    """
    some(checkpoints)
    text_set = open_texts(texts, rule, name, classes)
    print(f"{text_set.name}: {len(text_set):,} texts, larger class {text_set.majority:.3f} ({text_set.rule})")
    done = []
    for checkpoint in checkpoints:
        lens, started = open_lens(checkpoint, device=device, dtype=dtype, threads=threads), time.monotonic()
        done.append(probe_checkpoint(lens, text_set, held_out, seed, by, on_progress=progress))
        print(f"\r{summary(done[-1])}\n  {time.monotonic() - started:.0f} s on {lens.device}")
    if len(done) > 1:
        print(compared(done))


def show(checkpoints: Checkpoints, /, probes: str | None = None, heads: int = 5) -> None:
    """Print what is saved beside each checkpoint.

    Args:
        checkpoints: Names in checkpoints/, or folders.
        probes: One probe set; all of them unless told.
        heads: How many of the best heads to list.
    """
    for checkpoint in map(find, some(checkpoints)):
        names = [probes] if probes else saved(checkpoint) or ["builtin"]
        for name in names:
            found = ProbeSet.load(checkpoint, name)
            print(summary(found))
            for head in found.ranked()[:heads]:
                print(f"    {head!s:8} {found.accuracy(head)}")


def some(checkpoints: tuple[str, ...]) -> tuple[str, ...]:
    """The checkpoints, if there are any."""
    if not checkpoints:
        raise ValueError("Name at least one checkpoint, such as demo-10 or a folder.")
    return checkpoints


def progress(stage: str, done: int, total: int) -> None:
    """One line that fills up, where someone is watching."""
    if sys.stderr.isatty():
        print(f"\r  {stage} {done:,} of {total:,}  ", end="\r", file=sys.stderr, flush=True)


def summary(probes: ProbeSet) -> str:
    """What a probe set found, in a few lines; no accuracy without the majority rate and the null band."""
    best, layer, (low, high) = probes.ranked()[0], probes.best_layer, probes.null_band
    above = sum(probes.accuracy(head).value > high for head in probes.grid)
    return "\n".join(
        [
            f"{probes.checkpoint} on {probes.name}: {' / '.join(probes.classes)} ({probes.rule}), "
            f"{probes.n_train:,} texts to train on, {probes.n_test:,} held out by {probes.split}, seed {probes.seed}",
            f"  larger class  {probes.majority:.3f}",
            f"  null band     {low:.3f} to {high:.3f}: the best of {len(probes.grid)} heads on shuffled labels",
            f"  all heads     {probes.mean_accuracy(np.random.default_rng(0))} (mean); {above} above the null band",
            f"  best head     {probes.accuracy(best)} ({best})",
            f"  best layer    {probes.layer_accuracy(layer)} (layer {layer}, residual stream)",
        ]
    )


def compared(sets: list[ProbeSet]) -> str:
    """Each against the first, on the same held-out texts."""
    lines = ["Mean over heads, bootstrap over held-out texts; 'by head', the paper's test, takes heads as independent:"]
    for other in sets[1:]:
        found = compare(other, sets[0], np.random.default_rng(0))
        lines.append(f"  {other.checkpoint} minus {sets[0].checkpoint}: {found.over_texts}; by head {found.by_head}")
    return "\n".join(lines)


def main() -> None:
    """Parse, call, and say in one sentence what went wrong."""
    try:
        tyro.extras.subcommand_cli_from_dict({"fit": fit, "show": show}, prog="python -m probes")
    except (ValueError, LookupError, OSError) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
