"""docs/scorer.md: what the built-in scorer is worth, all of it on texts it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.agree import TOXIC, Agreement, agreement, shown
from evaluation.benign import IDENTITIES, SENTENCES, sentences
from evaluation.builtin_scorer import BuiltinScorer
from evaluation.features import read_words
from evaluation.scored_texts import ScoredText
from probes.estimate import Estimate, auc, middle_95, midranks, wilson
from probes.texts import TextSet

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

    @property
    def api(self) -> np.ndarray:
        return np.array([one.score for one in self.texts])

    def where(self, rows: np.ndarray) -> HeldOut:
        """Some of the texts, by a mask."""
        return HeldOut([self.texts[row] for row in np.flatnonzero(rows)], self.ours[rows], self.linear[rows])

    def agreement(self) -> Agreement:
        return agreement("built-in", "Perspective", list(self.ours), list(self.api), np.random.default_rng(0))


def page(scorer: BuiltinScorer, held_out: HeldOut, labelled: Sequence[TextSet], command: str) -> str:
    """All of it as Markdown."""
    parts = [
        HEAD.format(
            version=scorer.version, megabytes=scorer.table.nbytes / 1e6, rows=len(scorer.table), command=command
        ),
        by_source(held_out),
        beside_the_baseline(held_out),
        by_length(held_out, len(scorer.table)),
        calibration(held_out),
        on_identities(scorer),
        *([by_people(scorer, labelled)] if labelled else []),
        LIMITS,
    ]
    return "\n".join(parts)


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
    lines = [CALIBRATION]
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


def on_identities(scorer: BuiltinScorer) -> str:
    n = sum(map(len, IDENTITIES.values())) * len(SENTENCES)
    lines = [ON_IDENTITIES.format(n=n)]
    for kind, identities in IDENTITIES.items():
        scores = scored(scorer, sentences(identities))
        share = wilson(int((scores >= TOXIC).sum()), len(scores))
        lines.append(f"| {kind} | {len(scores)} | {scores.mean():.3f} | {shown(share)} |")
    lines += ["", f"The {DEAREST} words that cost most:", "", "| word | mean score |", "|---|---:|"]
    means = {word: scored(scorer, sentences([word])).mean() for kind in IDENTITIES.values() for word in kind}
    lines += [f"| {word} | {mean:.3f} |" for word, mean in sorted(means.items(), key=lambda pair: -pair[1])[:DEAREST]]
    return "\n".join(lines)


def by_people(scorer: BuiltinScorer, sets: Sequence[TextSet]) -> str:
    """Against labels that people gave, and how often benign texts of each group reach 0.5."""
    lines, groups = [BY_PEOPLE], [BY_GROUP]
    for texts in sets:
        scores, toxic = scored(scorer, [one.text for one in texts.texts]), texts.labels.astype(bool)
        above = scores >= TOXIC
        right = wilson(int((above == toxic).sum()), len(toxic))
        lines.append(
            f"| {texts.name} | {len(toxic):,} | {shown(auc(scores, toxic))} | {shown(right)} "
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
    """Scores as an array; a text without a letter counts as 0 here."""
    return np.array([score or 0.0 for score in scorer(texts)])


HEAD = """# The built-in scorer

Written by `{command}`.

`builtin` {version} imitates the TOXICITY score of the Perspective API, which ends on 31 December 2026, as that API
answered between 2018 and 2021. It needs no network and no download: {megabytes:.1f} MB of weights.

A text becomes lower-case words; a word becomes its character n-grams of 2 to 5 letters and itself, each hashed to one
of {rows:,} rows of a table, so that no list of words ships. A word's vector is the sum of its rows over the root of
their number; a text has the maximum and the scaled sum of its words' vectors and the logarithm of their number; a
hidden layer of rectified units turns these into a logit. Table and layers are fitted together by cross-entropy against
the API's scores. Comments were scored by other versions of the API than prompts, so their logits get a constant of
their own while fitting, which is then left out. The order of words plays no part. A text without a letter or digit has
no score: it is missing, not harmless.

The numbers below are from texts held out whole: what shares a document, a prompt or eight words in a row with a text
used for fitting is not among them. The scorer's few settings were compared on them too; Pearson's r differed by less
than 0.01 between those tried. Intervals are 95 %, by bootstrap over texts, Newcombe's for AUC, Wilson's for
shares. AUC at 0.5: how well the score ranks texts that the API gave 0.5 or more above the others.
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
texts stray is in the fifth column.

| score here | texts | mean here | mean of the API | middle 80 % of the API | share that the API gave ≥ 0.5 |
|---|---:|---:|---:|---|---|"""
ON_IDENTITIES = """
## Harmless sentences that name people

{n} sentences of our own, the same ones for every word ("My … neighbour is a doctor."). No harmless sentence should
score 0.5, and the name of a group should cost nothing beside the last line.

| kind of word | sentences | mean score | share ≥ 0.5 |
|---|---:|---:|---|"""
BY_PEOPLE = """
## Against people's labels

| texts | n | AUC | right at 0.5 | benign texts ≥ 0.5 | toxic texts ≥ 0.5 |
|---|---:|---|---|---|---|"""
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
