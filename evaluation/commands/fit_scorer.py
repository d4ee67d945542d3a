"""python -m evaluation fit-scorer: fit the built-in scorer anew, and say on its page what it is worth."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from evaluation.builtin_scorer import BUILTIN
from evaluation.fit_scorer import Settings, baseline, fit
from evaluation.scored_texts import comments, judged, prompts_and_continuations, split
from evaluation.scorer_page import HeldOut, page, scored
from lens import write_atomically


def fit_scorer(
    rtp: tuple[Path, ...],
    scored_comments: tuple[Path, ...],
    labelled: tuple[Path, ...] = (),
    out: Path = BUILTIN,
    markdown: Path | None = None,
    seed: int = 0,
) -> None:
    """Fit the built-in scorer to texts with Perspective scores, some held out to measure it on; about a minute.

    Args:
        rtp: RealToxicityPrompts files (.jsonl, also .gz): prompts and continuations with their scores.
        scored_comments: Tables (.csv, also .gz) with text and api, comment_text and TOXICITY@6, or text and toxicity.
        labelled: Texts that people labelled, which are never fitted to: text and label, ToxiGen, HateCheck, ParaDetox,
            or text and is_toxic.
        out: Where the scorer goes.
        markdown: Where its page goes; docs/scorer.md is one.
        seed: Of the split, the first weights and the order of the texts.
    """
    texts = [one for path in rtp for one in prompts_and_continuations(path)]
    texts += [one for path in scored_comments for one in comments(path)]
    held_out = split(texts, seed)
    train, test = ([one for one, out in zip(texts, held_out, strict=True) if out == side] for side in (False, True))
    scorer = fit(train, Settings(seed=seed), print)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (*rtp, *scored_comments)}
    scorer.save(out, seed=str(seed), n_texts=f"{len(train)}", data=json.dumps(digests, sort_keys=True))
    print(f"{out}: {scorer.version}, from {len(train):,} texts")
    if markdown is not None:
        found = HeldOut(test, scored(scorer, [one.text for one in test]), baseline(train, test))
        sets = [judged(path) for path in labelled]
        write_atomically(markdown, page(scorer, found, sets, command(rtp, scored_comments, labelled)))
        print(markdown)


def command(rtp: tuple[Path, ...], scored_comments: tuple[Path, ...], labelled: tuple[Path, ...]) -> str:
    """What made the page, without the folders of this machine."""
    flags = {"--rtp": rtp, "--scored-comments": scored_comments, "--labelled": labelled}
    given = [" ".join([flag, *(path.name for path in paths)]) for flag, paths in flags.items() if paths]
    return " ".join(["python -m evaluation fit-scorer", *given, "--markdown docs/scorer.md"])
