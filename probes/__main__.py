"""python -m probes fit|show|map|tokens|move CHECKPOINT ...: the probes and tokens tabs at a terminal."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from lens import Head, find, open_lens, write_atomically
from lens.files import check_file, check_folder
from lens.opening import check_machine, locate
from lens.own_output import check_own
from lens.terminal import Command, run_command
from probes.figure import is_figure
from probes.heatmap import HeadHistogram, Heatmap
from probes.lexicon import Lexicon, mask
from probes.move import move_fingerprints
from probes.probe import N_SHUFFLES, ProbeSet, compare, probe_checkpoint, probes_name
from probes.store import check_same_texts, saved
from probes.text_files import open_texts
from probes.texts import By, split
from probes.tokens import ToxicEnd, head_tokens, layer_tokens

Checkpoints = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT ...")]


def fit(
    checkpoints: Checkpoints,
    /,
    texts: str = "builtin",
    rule: Literal["human>=2.5", "human>=3", "sum>5.5"] | None = None,
    classes: tuple[str, str] | None = None,
    name: str | None = None,
    by: By = "text",
    held_out: float = 0.2,
    seed: int = 0,
    shuffles: int = N_SHUFFLES,
    device: str = "auto",
    dtype: str | None = None,
    threads: int | None = None,
    overwrite: bool = False,
) -> None:
    """Fit a probe to every head and layer of each checkpoint, and save them beside it.

    Args:
        checkpoints: Names in checkpoints/, or folders.
        texts: "builtin", or a file: ToxiGen's, or .jsonl or .csv with text and label (and group, pair).
        rule: What makes a ToxiGen text toxic. Default: human>=2.5.
        classes: The labels of a file of your own, positive class first.
        name: Of the probe set; "builtin", "toxigen" for ToxiGen's file, or the file's name unless told.
        by: Hold out texts at random, or whole groups; the latter's set is named with "-by-group" behind it.
        held_out: Share of the texts to hold out.
        seed: Of the split and of the shuffled labels.
        shuffles: Times that the labels are shuffled for the null band.
        device: auto, cpu, cuda or mps.
        dtype: float32 or bfloat16; float32 for small models unless told.
        threads: CPU threads.
        overwrite: Replace probes of that name that were fitted to other texts.
    """
    check_machine(device, dtype, threads)
    opened = [locate(name) for name in some(checkpoints)]
    for checkpoint in opened:
        check_folder(checkpoint.folder / "probes")
    text_set = open_texts(texts, rule, name, classes)
    split(text_set, held_out, seed, by)  # what cannot be split is refused before anything is read
    for checkpoint in opened:
        check_same_texts(checkpoint.folder, probes_name(text_set, by), text_set.digest, overwrite)
    print(f"{text_set.name}: {len(text_set):,} texts, larger class {text_set.majority:.3f} ({text_set.rule})")
    if text_set.remark:
        print(text_set.remark)
    done = []
    for checkpoint in opened:
        lens, started = open_lens(checkpoint, device=device, dtype=dtype, threads=threads), time.monotonic()
        done.append(probe_checkpoint(lens, text_set, held_out, seed, by, shuffles, progress, overwrite))
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
    for checkpoint in [find(name) for name in some(checkpoints)]:
        names = [probes] if probes else saved(checkpoint) or ["builtin"]
        for name in names:
            found = ProbeSet.load(checkpoint, name)
            print(summary(found))
            for head in found.ranked()[:heads]:
                print(f"    {head!s:8} {found.accuracy(head)}")


def tokens(
    checkpoints: Checkpoints,
    /,
    probes: str = "toxigen",
    head: str | None = None,
    lexicon: Path | None = None,
    unmasked: bool = False,
    device: str = "auto",
) -> None:
    """List the 50 tokens nearest to the toxic end of the best layer's probe, or of one head's direction.

    Args:
        checkpoints: Names in checkpoints/, or folders.
        probes: The probe set that gives the direction.
        head: A head such as L3H7 instead of the best layer.
        lexicon: A list of toxic words to count instead of the built-in one, a word a line.
        unmasked: Show words of the lexicon in full.
        device: auto, cpu, cuda or mps.
    """
    check_machine(device, None, None)
    listed = Lexicon.read(lexicon) if lexicon else Lexicon.builtin()
    for name in some(checkpoints):
        lens = open_lens(name, device=device)
        found = ProbeSet.load(lens.checkpoint, probes)
        end = head_tokens(lens, found, listed, Head.parse(head)) if head else layer_tokens(lens, found, listed)
        print(spelled(lens.checkpoint.name, end, str if unmasked else partial(mask_by_both, own=listed)))


def draw(
    checkpoints: Checkpoints, /, out: Path, probes: str = "toxigen", histogram: bool = False, overwrite: bool = False
) -> None:
    """Draw the accuracy of every head of one checkpoint, or what a second one has more.

    Args:
        checkpoints: One, or two to be compared: names in checkpoints/, or folders.
        out: File to write: .png, .svg, .csv or .json.
        probes: The probe set to show.
        histogram: All heads against chance instead of the map (.png or .svg).
        overwrite: Replace a file that is no map of ours.
    """
    if len(some(checkpoints)) > 2:
        raise ValueError(f"A map shows one checkpoint, or the difference of two; got {len(checkpoints)}.")
    kinds = (".png", ".svg") if histogram else (".png", ".svg", ".csv", ".json")
    if out.suffix not in kinds:
        raise ValueError(f"{out} should end in {', '.join(kinds[:-1])} or {kinds[-1]}.")
    check_file(out)
    check_own(out, is_figure, overwrite)
    sets = [ProbeSet.load(find(name), probes) for name in checkpoints]
    picture: HeadHistogram | Heatmap
    if histogram:
        picture = HeadHistogram.of(*sets)
    else:
        picture = Heatmap.of(sets[0]) if len(sets) == 1 else Heatmap.difference(sets[0], sets[1])
    write_atomically(out, getattr(picture, f"to_{out.suffix.removeprefix('.')}")())
    print(f"{picture.title}: {out}")


def move(checkpoints: Checkpoints, /) -> None:
    """Give probes and fits of before the fingerprint that also covers config and tokenizer, if the weights are theirs.

    Args:
        checkpoints: Names in checkpoints/, or folders, whose config and tokenizer are still those of the fit.
    """
    for checkpoint in [find(name) for name in some(checkpoints)]:
        files = move_fingerprints(checkpoint)
        print(f"{checkpoint.name}: {len(files.moved)} moved, {len(files.current)} had the new fingerprint already")
        for path in files.foreign:
            print(f"  {path} was fitted to other weights and is left as it is. Fit it again, or remove it.")


def mask_by_both(text: str, own: Lexicon) -> str:
    """A list of one's own is masked, and the built-in one all the same."""
    return mask(mask(text, own), Lexicon.builtin())


def spelled(name: str, end: ToxicEnd, hide: Callable[[str], str]) -> str:
    """The tokens and how many of them the lexicon knows, with random directions beside the count."""
    auc = f"; rank AUC {end.rank_auc}, chance {end.random_auc}" if end.rank_auc else ""
    return "\n".join(
        [
            f"{name}, {end.place}, {end.kind}: {end.n_listed} of {len(end.nearest)} in the lexicon "
            f"({end.random_listed}){auc}",
            f"  {end.single_tokens:,} of the lexicon's {end.lexicon_words:,} words are one token here",
            "  " + " ".join(repr(hide(token.text))[1:-1].strip() or "␣" for token in end.nearest),
        ]
    )


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
    cut = [f"  cut           {probes.n_cut:,} texts are longer than the model's context: only their ends were read"]
    return "\n".join(
        [
            f"{probes.checkpoint} on {probes.name}: {' / '.join(probes.classes)} ({probes.rule}), "
            f"{probes.n_train:,} texts to train on, {probes.n_test:,} held out by {probes.split}, seed {probes.seed}",
            f"  fitted        {probes.in_words}",
            *cut[: probes.n_cut],
            f"  larger class  {probes.majority:.3f}",
            f"  null band     {low:.3f} to {high:.3f}: the best of {len(probes.grid)} heads on labels shuffled "
            f"{probes.n_shuffles:,} times",
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


COMMANDS = {
    "fit": Command(
        fit,
        "The probe sets above are saved beside their checkpoints; give the same command with the other checkpoints.",
    ),
    "show": Command(show, "Nothing was changed."),
    "map": Command(draw, "No file was written."),
    "tokens": Command(tokens, "Nothing was changed; give the same command with the checkpoints that are missing."),
    "move": Command(move, "What was moved stays so; give the same command again."),
}


def main() -> None:
    """What `python -m probes` runs."""
    run_command(COMMANDS, "python -m probes")


if __name__ == "__main__":
    main()
