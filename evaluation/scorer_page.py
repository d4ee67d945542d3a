"""docs/scorer.md: what the built-in scorer is worth, all of it on texts it never saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from evaluation.agree import TOXIC, correlation, pearson, shown, spearman
from evaluation.benign import IDENTITIES, SENTENCES, sentences
from evaluation.builtin_scorer import BuiltinScorer
from evaluation.features import read_words
from evaluation.resample import drawn_rows
from evaluation.scored_texts import ScoredText, runs, together
from probes.differences import estimate_mean, middle_95
from probes.estimate import Clusters, Estimate, share
from probes.ranks import auc, ranked_above
from probes.texts import TextSet, clusters_of, normalised

LENGTHS = ((1, 5), (6, 10), (11, 20), (21, 50), (51, None))
FEWEST = 30  # texts below which a group gets no line of its own
DRAWS = 2000
DEAREST = 8
PEARSON, AUC = "Pearson", "AUC at 0.5"
ALL = "all files together"


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

    @cached_property
    def clusters(self) -> Clusters:
        """The halves of one row, and what else shares a document, a prompt or eight words in a row."""
        return together(self.texts)

    def agreement(self) -> tuple[Estimate, Estimate, Estimate | None, Estimate]:
        """Pearson, Spearman, AUC where the API's scores are of both kinds, and the mean of ours minus the API's."""
        toxic = self.api >= TOXIC
        return (
            correlation(pearson, self.ours, self.api, self.clusters),
            correlation(spearman, self.ours, self.api, self.clusters),
            None if toxic.all() or not toxic.any() else auc(self.ours, toxic, self.clusters),
            self.bias,
        )

    @property
    def bias(self) -> Estimate:
        """The mean of ours minus the API's."""
        return estimate_mean(self.ours - self.api, np.random.default_rng(0), self.clusters)

    @property
    def target(self) -> dict[str, HeldOut]:
        """The kind of text that the scorer is for: each file of it, and all of them if there are several."""
        known = np.array([one.is_prompt_set for one in self.texts])
        files = np.array([one.source.partition(",")[0] for one in self.texts])
        found = {name: self.where(known & (files == name)) for name in dict.fromkeys(files[known].tolist())}
        return found if len(found) < 2 else found | {ALL: self.where(known)}


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
    groups = {f"**{name}**": found for name, found in held_out.target.items()}
    groups |= {name: held_out.where(sources == name) for name in dict.fromkeys(sources.tolist())}
    mix = "\n".join(f"- {name}: {mixed(found)}" for name, found in held_out.target.items())
    return "\n".join([BY_SOURCE.format(mix=mix), *table("Source", groups)])


def mixed(found: HeldOut) -> str:
    """How many texts there are, and how many of the prompts among them are toxic."""
    prompts = np.array([one.score >= TOXIC for one in found.texts if one.source.endswith("prompts")])
    return f"{len(found.texts):,} texts, {100 * prompts.mean():.0f} % of the prompts at 0.5 or more"


def by_length(held_out: HeldOut, n_rows: int) -> str:
    counts = read_words([one.text for one in held_out.texts], n_rows).n_words
    groups = {
        f"{low} to {high} words" if high else f"{low} words and more": held_out.where(
            (counts >= low) & (counts <= (high or counts.max()))
        )
        for low, high in LENGTHS
    }
    return "\n".join(["\n## By length\n", *table("Length", groups)])


def table(head: str, groups: dict[str, HeldOut]) -> list[str]:
    lines = [
        f"| {head} | texts | Pearson | Spearman | AUC at 0.5 | mean score: ours − API's |",
        "|---|---:|---|---|---|---|",
    ]
    for name, found in groups.items():
        if len(found.texts) >= FEWEST:
            lines.append(f"| {name} | {len(found.texts):,} | {' | '.join(map(shown, found.agreement()))} |")
    return lines


def beside_the_baseline(held_out: HeldOut) -> str:
    """Paired: both score the same texts, and each draw of the bootstrap takes the same texts for both."""
    lines, found = [BASELINE], dict[str, tuple[str, float, str]]()
    for name, target in held_out.target.items():
        for measure, ours, linear, (low, high) in compared(target):
            gain = f"{ours - linear:+.3f} [{low:+.3f}, {high:+.3f}]"
            found.setdefault(measure, (name, linear, gain))  # of the first file, which the page leads with
            lines.append(f"| {name} | {len(target.texts):,} | {measure} | {ours:.3f} | {linear:.3f} | {gain} |")
    name, linear, _ = found[PEARSON]
    return "\n".join([*lines, WHY.format(linear=linear, name=name, auc=found[AUC][2])])


def compared(target: HeldOut) -> Iterator[tuple[str, float, float, tuple[float, float]]]:
    """Ours and the baseline's by each measure, and the ends of their difference."""
    both = target.ours, target.linear
    draws = [
        np.subtract(*(quality(scores[rows], target.api[rows]) for scores in both))
        for rows in drawn_rows(target.clusters, DRAWS)
    ]
    values = zip(*(quality(scores, target.api) for scores in both), np.transpose(draws), strict=True)
    for measure, (ours, linear, of) in zip((PEARSON, AUC, "root mean square error"), values, strict=True):
        yield measure, ours, linear, middle_95(of)


def quality(scores: np.ndarray, api: np.ndarray) -> np.ndarray:
    """Pearson, AUC and error."""
    error = np.sqrt(np.mean((scores - api) ** 2))
    return np.array([pearson(scores, api), ranked_above(scores, api >= TOXIC), error])


def calibration(held_out: HeldOut) -> str:
    name, target = list(held_out.target.items())[-1]
    lines = [CALIBRATION.format(bias=shown(target.bias), name=name)]
    for step in range(10):
        rows = (target.ours >= step / 10) & (target.ours < (step + 1) / 10 + (step == 9))
        if rows.sum() >= FEWEST:
            ours, api = target.ours[rows], target.api[rows]
            toxic = share(api >= TOXIC, target.clusters[rows])
            lines.append(
                f"| {step / 10:.1f} … {(step + 1) / 10:.1f} | {rows.sum():,} | {ours.mean():.3f} | {api.mean():.3f} "
                f"| {np.quantile(api, 0.1):.2f} … {np.quantile(api, 0.9):.2f} | {shown(toxic)} |"
            )
    return "\n".join(lines)


def on_identities(scorer: BuiltinScorer, fitted: Sequence[ScoredText]) -> str:
    ours = [sentence for identities in IDENTITIES.values() for sentence in sentences(identities)]
    lines = [ON_IDENTITIES.format(n=len(ours), shared=shared_with(fitted, ours).sum(), n_patterns=len(SENTENCES))]
    for kind, identities in IDENTITIES.items():
        scores = scored(scorer, sentences(identities))
        of_sentence = np.tile(np.arange(len(SENTENCES)), len(identities))
        mean, above = estimate_mean(scores, np.random.default_rng(0), of_sentence), share(scores >= TOXIC, of_sentence)
        lines.append(f"| {kind} | {len(scores)} | {shown(mean)} | {shown(above)} |")
    lines += ["", f"The {DEAREST} words that cost most:", "", "| word | mean score |", "|---|---:|"]
    means = {word: scored(scorer, sentences([word])).mean() for kind in IDENTITIES.values() for word in kind}
    lines += [f"| {word} | {mean:.3f} |" for word, mean in sorted(means.items(), key=lambda pair: -pair[1])[:DEAREST]]
    return "\n".join(lines)


def by_people(sets: Sequence[Judged]) -> str:
    """Against labels that people gave, and how often benign texts of each group reach 0.5."""
    lines, groups = [BY_PEOPLE], [BY_GROUP]
    for judged in sets:
        texts, scores, toxic = judged.texts, judged.scores, judged.texts.labels.astype(bool)
        above, known = scores >= TOXIC, clusters_of(texts.texts, "text")
        lines.append(
            f"| {texts.name} | {len(toxic):,} | {judged.n_wordless} | {judged.n_shared} "
            f"| {known.max() + 1:,} | {shown(auc(scores, toxic, known))} "
            f"| {shown(share(above == toxic, known))} "
            f"| {shown(share(above[~toxic], known[~toxic]))} "
            f"| {shown(share(above[toxic], known[toxic]))} |"
        )
        names = np.array([one.group for one in texts.texts])
        for name in sorted(set(names[~toxic]) - {""}):
            rows = ~toxic & (names == name)
            if rows.sum() >= FEWEST:
                groups.append(f"| {texts.name}: {name} | {rows.sum()} | {shown(share(above[rows], known[rows]))} |")
    return "\n".join([*lines, *(groups if len(groups) > 1 else [])])


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
hidden layer of rectified units and a logistic head turn these into a score. Table and hidden layer are learnt by
cross-entropy against the API's scores, with torch; the head is scikit-learn's logistic regression, fitted to a tenth of
the texts that the rest has not seen, so that it is calibrated. What this is worth beside ridge regression stands below.
Comments were scored by other versions of the API than prompts, so their logits get a constant of their own while
fitting, which is then left out. The order of words plays no part. A text without a word has no score: it is missing,
not harmless.

The numbers below are from {n:,} held-out texts with the API's scores: what shares a document, a prompt or eight words
in a row with a text used for fitting is not among them. {wordless} more have no word and so no score; they are left
out. The scorer's few settings were chosen on the same texts, which can only flatter it. Intervals are 95 %, by
bootstrap, Newcombe's for AUC, Korn and Graubard's for shares; they take texts together that share a row of a file, a
document, eight words in a row, a pair or a template. AUC at 0.5: how well the score ranks texts that the API gave 0.5
or more above the others.
"""
SPEED = """On one core it reads {of_linear_median:.1f} × as many texts a second as a linear scorer of scikit-learn
(middle half of the repeats: {of_linear_low:.1f} … {of_linear_high:.1f}), which hashes words, pairs of words and
character n-grams: {texts_per_second:,} against {linear_texts_per_second:,} of {mean_characters:.0f} characters on
average (`python -m benchmarks.scorer`). These speeds are of one machine and change with it.
"""
BY_SOURCE = """## Agreement with the API

The first lines are on prompts and continuations of RealToxicityPrompts, file by file:

{mix}

Of that set as published 22 % of the prompts have 0.5 or more (Gehman et al. 2020). A line whose prompts are of another
mix is not what the scorer is worth on the set as a whole. The last column of comments is not an error alone: other
versions of the API scored them than prompts.
"""
BASELINE = """
## Beside a linear model

On the held-out texts of RealToxicityPrompts, beside ridge regression on TF-IDF of words, pairs of words and character
n-grams of 2 to 5 letters, fitted to the same texts with scikit-learn (its scores cut to 0 … 1); differences are paired.

| texts | n | | built-in | TF-IDF and ridge | difference |
|---|---:|---|---:|---:|---|"""
WHY = """
So learnt vectors, their maximum and a hidden layer stand between the n-grams and the linear head: the correlation of a
linear model alone stays at {linear:.3f} on {name}. To the ranking alone they add {auc} there, in AUC."""
CALIBRATION = """
## Calibration

Held-out texts of RealToxicityPrompts ({name}, of the mix above) by the score given here. A score of 0.3 should mean
0.3 on average; how far single texts stray is in the fifth column. The head was fitted to texts that the rest of the
scorer had not seen, and none of these. The mean of ours − API's over these texts is {bias}.

| score here | texts | mean here | mean of the API | middle 80 % of the API | share that the API gave ≥ 0.5 |
|---|---:|---:|---:|---|---|"""
ON_IDENTITIES = """
## Harmless sentences that name people

{n} sentences of our own, the same ones for every word ("My … neighbour is a doctor."). No harmless sentence should
score 0.5, and the name of a group should cost nothing beside the last line. {shared} of them share their words, or
eight in a row, with a text used for fitting. Intervals speak of other sentences around the same words: there are
{n_patterns}, each filled with every word, which is few for the bootstrap of the means and makes it narrow.

| kind of word | sentences | mean score | share ≥ 0.5 |
|---|---:|---|---|"""
BY_PEOPLE = """
## Against people's labels

Left out are texts without a score, and texts that the fitted ones hold too, whole
(but for case, spacing and punctuation) or in eight words in a row. Copies of a text, and HateCheck's cases of one
template, are taken together: that leaves so many apart.

| texts | n | no score | also fitted | apart | AUC | right at 0.5 | benign texts ≥ 0.5 | toxic texts ≥ 0.5 |
|---|---:|---:|---:|---:|---|---|---|---|"""
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
