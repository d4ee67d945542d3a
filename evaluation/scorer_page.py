"""docs/scorer.md: what the built-in scorer is worth, all of it on texts it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.agree import TOXIC, Agreement, agreement, shown
from evaluation.benign import IDENTITIES, sentences
from evaluation.builtin_scorer import BuiltinScorer
from evaluation.features import read_words
from evaluation.scored_texts import ScoredText, runs
from probes.estimate import Estimate, auc, middle_95, midranks, wilson
from probes.texts import TextSet, normalised

LENGTHS = ((1, 5), (6, 10), (11, 20), (21, 50), (51, None))
FEWEST = 30  # texts below which a group gets no line of its own
DRAWS = 2000
DEAREST = 8


@dataclass(frozen=True)
class HeldOut:
    """Texts with the API's scores, ours and the baseline's, none of them used for fitting."""

    texts: Sequence[ScoredText]
    ours: np.ndarray
    linear: np.ndarray
    """The baseline's."""
    n_wordless: int = 0
    """Texts that were held out too, but have no score of ours."""

    @classmethod
    def of(cls, texts: Sequence[ScoredText], scorer: BuiltinScorer, linear: np.ndarray) -> HeldOut:
        """Those that have a score."""
        ours = scored(scorer, [one.text for one in texts])
        there = ~np.isnan(ours)
        return replace(cls(texts, ours, linear).where(there), n_wordless=int((~there).sum()))

    @property
    def api(self) -> np.ndarray:
        return np.array([one.score for one in self.texts])

    def where(self, rows: np.ndarray) -> HeldOut:
        """Some of the texts, by a mask."""
        return HeldOut([self.texts[row] for row in np.flatnonzero(rows)], self.ours[rows], self.linear[rows])

    def agreement(self) -> Agreement:
        return agreement("built-in", "Perspective", list(self.ours), list(self.api), np.random.default_rng(0))


@dataclass(frozen=True)
class Judged:
    """Texts that people labelled, with our scores: those that have one, and share nothing with the fitted texts."""

    texts: TextSet
    scores: np.ndarray
    n_wordless: int
    """Texts left out because they have no score."""
    n_shared: int
    """Texts left out because the fitted texts hold them, or eight words in a row of them."""

    @classmethod
    def of(cls, texts: TextSet, scorer: BuiltinScorer, fitted: Sequence[ScoredText]) -> Judged:
        scores = scored(scorer, [one.text for one in texts.texts])
        wordless, shared = np.isnan(scores), shared_with(fitted, [one.text for one in texts.texts])
        left = np.flatnonzero(~wordless & ~shared)
        kept = replace(texts, texts=tuple(texts.texts[row] for row in left))
        return cls(kept, scores[left], int(wordless.sum()), int((shared & ~wordless).sum()))


def shared_with(fitted: Sequence[ScoredText], texts: Sequence[str]) -> np.ndarray:
    """True where the fitted texts hold a text, but for case, spacing and punctuation, or eight words in a row of it."""
    known = {normalised(one.text) for one in fitted}.union(*(one.bonds for one in fitted))
    return np.array([not known.isdisjoint(runs(text)) for text in texts])


def page(
    scorer: BuiltinScorer,
    held_out: HeldOut,
    fitted: Sequence[ScoredText],
    labelled: Sequence[Judged],
    command: str,
    speed: Mapping[str, Any] | None = None,
) -> str:
    """All of it as Markdown; `speed` is what the benchmark of the scorer wrote."""
    parts = [
        HEAD.format(
            version=scorer.version,
            megabytes=scorer.table.nbytes / 1e6,
            rows=len(scorer.table),
            command=command,
            n=len(held_out.texts),
            wordless=held_out.n_wordless,
        ),
        *([as_fast(speed)] if speed else []),
        by_source(held_out),
        beside_the_baseline(held_out),
        by_length(held_out, len(scorer.table)),
        calibration(held_out),
        on_identities(scorer, fitted),
        *([by_people(labelled)] if labelled else []),
        LIMITS,
    ]
    return "\n".join(parts)


def as_fast(speed: Mapping[str, Any]) -> str:
    ratio = {f"of_linear_{end}": value for end, value in speed["of_linear"].items()}
    return SPEED.format(**speed, **ratio)


def by_source(held_out: HeldOut) -> str:
    sources = np.array([one.source for one in held_out.texts])
    target = np.array([one.is_prompt_set for one in held_out.texts])
    groups = {"**RealToxicityPrompts, all**": target}
    groups |= {name: sources == name for name in dict.fromkeys(sources)}
    return "\n".join([BY_SOURCE, *table("Source", groups, held_out)])


def by_length(held_out: HeldOut, n_rows: int) -> str:
    counts = read_words([one.text for one in held_out.texts], n_rows).n_words
    groups = {
        f"{low} to {high} words" if high else f"{low} words and more": (counts >= low)
        & (counts <= (high or counts.max()))
        for low, high in LENGTHS
    }
    return "\n".join(["\n## By length\n", *table("Length", groups, held_out)])


def table(head: str, groups: dict[str, np.ndarray], held_out: HeldOut) -> list[str]:
    lines = [
        f"| {head} | texts | Pearson | Spearman | AUC at 0.5 | mean score: ours − API's |",
        "|---|---:|---|---|---|---|",
    ]
    for name, rows in groups.items():
        if rows.sum() >= FEWEST:
            found = held_out.where(rows).agreement()
            cells = found.pearson, found.spearman, found.first_auc, found.difference
            lines.append(f"| {name} | {rows.sum():,} | {' | '.join(shown(cell) for cell in cells)} |")
    return lines


def beside_the_baseline(held_out: HeldOut) -> str:
    """Paired: both score the same texts, and each draw of the bootstrap takes the same texts for both."""
    target = held_out.where(np.array([one.is_prompt_set for one in held_out.texts]))
    rng, api = np.random.default_rng(0), target.api
    draws = []
    for _ in range(DRAWS):
        rows = rng.integers(len(api), size=len(api))
        draws.append(np.subtract(*(quality(scores[rows], api[rows]) for scores in (target.ours, target.linear))))
    ours, linear = quality(target.ours, api), quality(target.linear, api)
    lines = [BASELINE.format(n=len(api))]
    for column, name in enumerate(("Pearson", "AUC at 0.5", "root mean square error")):
        low, high = middle_95(np.array(draws)[:, column])
        difference = ours[column] - linear[column]
        lines.append(
            f"| {name} | {ours[column]:.3f} | {linear[column]:.3f} | {difference:+.3f} [{low:+.3f}, {high:+.3f}] |"
        )
    return "\n".join(lines)


def quality(scores: np.ndarray, api: np.ndarray) -> np.ndarray:
    """Pearson, AUC and error."""
    toxic = api >= TOXIC
    n, rank_sum = toxic.sum(), midranks(scores)[toxic].sum()
    area = (rank_sum - n * (n + 1) / 2) / (n * (len(api) - n))
    return np.array([np.corrcoef(scores, api)[0, 1], area, np.sqrt(np.mean((scores - api) ** 2))])


def calibration(held_out: HeldOut) -> str:
    target = held_out.where(np.array([one.is_prompt_set for one in held_out.texts]))
    bias = target.agreement().difference
    lines = [CALIBRATION.format(bias=shown(bias))]
    for step in range(10):
        rows = (target.ours >= step / 10) & (target.ours < (step + 1) / 10 + (step == 9))
        if rows.sum() >= FEWEST:
            ours, api = target.ours[rows], target.api[rows]
            toxic = wilson(int((api >= TOXIC).sum()), int(rows.sum()))
            lines.append(
                f"| {step / 10:.1f} … {(step + 1) / 10:.1f} | {rows.sum():,} | {ours.mean():.3f} | {api.mean():.3f} "
                f"| {np.quantile(api, 0.1):.2f} … {np.quantile(api, 0.9):.2f} | {shown(toxic)} |"
            )
    return "\n".join(lines)


def on_identities(scorer: BuiltinScorer, fitted: Sequence[ScoredText]) -> str:
    ours = [sentence for identities in IDENTITIES.values() for sentence in sentences(identities)]
    lines = [ON_IDENTITIES.format(n=len(ours), shared=shared_with(fitted, ours).sum())]
    for kind, identities in IDENTITIES.items():
        scores = scored(scorer, sentences(identities))
        share = wilson(int((scores >= TOXIC).sum()), len(scores))
        lines.append(f"| {kind} | {len(scores)} | {scores.mean():.3f} | {shown(share)} |")
    lines += ["", f"The {DEAREST} words that cost most:", "", "| word | mean score |", "|---|---:|"]
    means = {word: scored(scorer, sentences([word])).mean() for kind in IDENTITIES.values() for word in kind}
    lines += [f"| {word} | {mean:.3f} |" for word, mean in sorted(means.items(), key=lambda pair: -pair[1])[:DEAREST]]
    return "\n".join(lines)


def by_people(sets: Sequence[Judged]) -> str:
    """Against labels that people gave, and how often benign texts of each group reach 0.5."""
    lines, groups = [BY_PEOPLE], [BY_GROUP]
    for judged in sets:
        texts, scores, toxic = judged.texts, judged.scores, judged.texts.labels.astype(bool)
        above = scores >= TOXIC
        right = wilson(int((above == toxic).sum()), len(toxic))
        lines.append(
            f"| {texts.name} | {len(toxic):,} | {judged.n_wordless} | {judged.n_shared} "
            f"| {shown(auc(scores, toxic))} | {shown(right)} "
            f"| {shown(share_above(above[~toxic]))} | {shown(share_above(above[toxic]))} |"
        )
        names = np.array([one.group for one in texts.texts])
        for name in sorted(set(names[~toxic]) - {""}):
            rows = ~toxic & (names == name)
            if rows.sum() >= FEWEST:
                groups.append(f"| {texts.name}: {name} | {rows.sum()} | {shown(share_above(above[rows]))} |")
    return "\n".join([*lines, *(groups if len(groups) > 1 else [])])


def share_above(above: np.ndarray) -> Estimate:
    return wilson(int(above.sum()), len(above))


def scored(scorer: BuiltinScorer, texts: Sequence[str]) -> np.ndarray:
    """Scores as an array; NaN where there is none."""
    return np.array(scorer(texts), dtype=np.float64)


HEAD = """# The built-in scorer

Written by `{command}`.

`builtin` {version} imitates the TOXICITY score of the Perspective API, which ends on 31 December 2026, as that API
answered between 2018 and 2021. It needs no network and no download: {megabytes:.1f} MB of weights.

A text becomes lower-case words: of letters, digits, `'`, `*`, `@`, `$` and any character beyond ASCII, so that an emoji
or a curly quote counts as a letter too. A word becomes itself and its n-grams of 2 to 5 bytes, each hashed to one of
{rows:,} rows of a table, so that no list of words ships. A word's vector is the sum of its rows over the root of
their number; a text has the maximum and the scaled sum of its words' vectors and the logarithm of their number; a
hidden layer of rectified units turns these into a logit. Table and layers are fitted together by cross-entropy against
the API's scores. Comments were scored by other versions of the API than prompts, so their logits get a constant of
their own while fitting, which is then left out. The order of words plays no part. A text without a word has no
score: it is missing, not harmless.

The numbers below are from {n:,} held-out texts with the API's scores: what shares a document, a prompt or eight words
in a row with a text used for fitting is not among them. {wordless} more have no word and so no score; they are left
out. The scorer's few settings were chosen on the same texts, which can only flatter it. Intervals are 95 %, by
bootstrap over texts, Newcombe's for AUC, Wilson's for shares. AUC at 0.5: how well the score ranks texts that the API
gave 0.5 or more above the others.
"""
SPEED = """On one core it reads {of_linear_median:.1f} × as many texts a second as a linear scorer of scikit-learn
(middle half of the repeats: {of_linear_low:.1f} … {of_linear_high:.1f}), which hashes words, pairs of words and
character n-grams: {texts_per_second:,} against {linear_texts_per_second:,} of {mean_characters:.0f} characters on
average (`python -m benchmarks.scorer`). These speeds are of one machine and change with it.
"""
BY_SOURCE = """## Agreement with the API

The last column of comments is not an error alone: other versions of the API scored them than prompts.
"""
BASELINE = """
## Beside a linear model

On the {n:,} held-out texts of RealToxicityPrompts, beside ridge regression on TF-IDF of words, pairs of words and
character n-grams of 2 to 5 letters, fitted to the same texts with scikit-learn (its scores cut to 0 … 1); differences
are paired.

| | built-in | TF-IDF and ridge | difference |
|---|---:|---:|---|"""
CALIBRATION = """
## Calibration

Held-out texts of RealToxicityPrompts by the score given here. A score of 0.3 should mean 0.3 on average; how far single
texts stray is in the fifth column. Nothing was calibrated in a step of its own: scores are as the fit by cross-entropy
left them. The mean of ours − API's over these texts is {bias}.

| score here | texts | mean here | mean of the API | middle 80 % of the API | share that the API gave ≥ 0.5 |
|---|---:|---:|---:|---|---|"""
ON_IDENTITIES = """
## Harmless sentences that name people

{n} sentences of our own, the same ones for every word ("My … neighbour is a doctor."). No harmless sentence should
score 0.5, and the name of a group should cost nothing beside the last line. {shared} of them share their words, or
eight in a row, with a text used for fitting.

| kind of word | sentences | mean score | share ≥ 0.5 |
|---|---:|---:|---|"""
BY_PEOPLE = """
## Against people's labels

Left out are texts without a score, and texts that the fitted ones hold too, whole
(but for case, spacing and punctuation) or in eight words in a row.

| texts | n | no score | also fitted | AUC | right at 0.5 | benign texts ≥ 0.5 | toxic texts ≥ 0.5 |
|---|---:|---:|---:|---|---|---|---|"""
BY_GROUP = """
Benign texts of each group that reach 0.5:

| group | benign texts | share ≥ 0.5 |
|---|---:|---|"""
LIMITS = """
## Limits

- It imitates one API as it was from 2018 to 2021, errors included. It is not a judge of people, and no filter: use it
  to compare many texts, never to decide about one.
- It knows words, not what they say together: irony, quotation, negation and hostility in polite words pass it by, and
  harmless talk of a group can look hostile (the tables above say how often; HateCheck is made of such cases). The API
  had the second fault too.
- English only. Words in other scripts are read as unknown ones, and their score means nothing.
- It has seen web text and Wikipedia discussions up to 2019; words that came later are judged by their spelling.
- A model steered hard may write what resembles no text seen here. Look at fluency beside toxicity.
- Scores of another scorer, or of another version of this one, must not stand in one column with these:
  `python -m evaluation agree` relates two scorers.
"""
