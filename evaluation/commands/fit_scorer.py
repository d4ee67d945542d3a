"""python -m evaluation fit-scorer: fit the built-in scorer anew, and say on its page what it is worth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open

from evaluation.builtin_scorer import BuiltinScorer, is_scorer
from evaluation.fit_scorer import Settings, baseline, fit
from evaluation.scored_texts import comments, judged, prompts_and_continuations, split
from evaluation.scorer_page import HeldOut, Judged, page
from lens import write_atomically
from lens.files import check_file
from lens.own_output import check_own, is_page_of


def fit_scorer(
    rtp: tuple[Path, ...],
    scored_comments: tuple[Path, ...],
    out: Path,
    labelled: tuple[Path, ...] = (),
    markdown: Path | None = None,
    speed: Path | None = None,
    seed: int = 0,
    measure_only: bool = False,
    overwrite: bool = False,
) -> None:
    """Fit the built-in scorer to texts with Perspective scores, some held out to measure it on; about a minute.

    Args:
        rtp: RealToxicityPrompts files (.jsonl, also .gz): prompts and continuations with their scores.
        scored_comments: Tables (.csv, also .gz) with text and api, comment_text and TOXICITY@6, or text and toxicity.
        out: Where the scorer goes; the one that ships is evaluation/builtin/scorer.safetensors.
        labelled: Texts that people labelled, which are never fitted to: text and label, ToxiGen, HateCheck, ParaDetox,
            or text and is_toxic.
        markdown: Where its page goes; docs/scorer.md is one.
        speed: What python -m benchmarks.scorer --json wrote, for the page.
        seed: Of the split, the first weights and the order of the texts.
        measure_only: Leave the scorer in --out as it is and write its page: other machines fit other weights.
        overwrite: Replace files that this command did not write.
    """
    for path in (out, *([markdown] if markdown else [])):
        check_file(path)
    check_own(out, is_scorer, overwrite or measure_only)
    check_own(
        [markdown] if markdown else [],
        lambda path: is_page_of(path, "evaluation fit-scorer"),
        overwrite,
        "Give another --markdown, or --overwrite to replace it.",
    )
    texts = [one for path in rtp for one in prompts_and_continuations(path)]
    texts += [one for path in scored_comments for one in comments(path)]
    held_out = split(texts, seed)
    train, test = ([one for one, out in zip(texts, held_out, strict=True) if out == side] for side in (False, True))
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (*rtp, *scored_comments)}
    fitted_to = {"seed": str(seed), "n_texts": f"{len(train)}", "data": json.dumps(digests, sort_keys=True)}
    if measure_only:
        scorer = as_fitted(out, fitted_to)
    else:
        scorer = fit(train, Settings(seed=seed), print)
        scorer.save(out, **fitted_to)
    print(f"{out}: {scorer.version}, from {len(train):,} texts")
    if markdown is not None:
        found = HeldOut.of(test, scorer, baseline(train, test))
        sets = [Judged.of(judged(path), scorer, train) for path in labelled]
        measured = json.loads(speed.read_text()) if speed else None
        made = command(rtp, scored_comments, labelled, speed) + " --measure-only" * measure_only
        write_atomically(markdown, page(scorer, found, train, sets, made, measured))
        print(markdown)


def as_fitted(path: Path, fitted_to: Mapping[str, str]) -> BuiltinScorer:
    """A scorer that was fitted to these very texts, so that what is held out here was held out then."""
    scorer = BuiltinScorer.open(path)
    with safe_open(path, framework="np") as file:
        if fitted_to.items() <= file.metadata().items():
            return scorer
    raise ValueError(
        f"{path} was fitted to other files or with another --seed: what is held out now may have been fitted to. Give "
        "the files and the seed that it names, or fit anew without --measure-only."
    )


def command(
    rtp: tuple[Path, ...], scored_comments: tuple[Path, ...], labelled: tuple[Path, ...], speed: Path | None
) -> str:
    """What made the page, without the folders of this machine."""
    flags = {
        "--rtp": rtp,
        "--scored-comments": scored_comments,
        "--labelled": labelled,
        "--speed": (speed,) if speed else (),
    }
    given = [" ".join([flag, *(path.name for path in paths)]) for flag, paths in flags.items() if paths]
    return " ".join(["python -m evaluation fit-scorer", *given, "--out scorer.safetensors --markdown docs/scorer.md"])
