"""Fitting the built-in scorer to texts that the Perspective API has scored, and the linear baseline it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.builtin_scorer import BuiltinScorer
from evaluation.features import Words, read_words
from evaluation.scored_texts import ScoredText, split
from lens.numeric import settle_numbers


@dataclass(frozen=True)
class Settings:
    """How the scorer is fitted."""

    n_rows: int = 2**18
    """Of the table; n-grams whose hashes share a row share a vector."""
    n_dims: int = 8
    """Of each row."""
    n_units: int = 16
    """Of the hidden layer."""
    n_epochs: int = 6
    """Passes over the texts."""
    batch: int = 128
    """Texts per step."""
    rate: float = 0.005
    """The largest learning rate, of one cycle up and down (Smith 2018)."""
    drop: float = 0.3
    """The share of n-grams that a step does not see."""
    aside: float = 0.1
    """The share of texts that the head is fitted to, of which table and hidden layer see nothing."""
    seed: int = 0

    def __post_init__(self) -> None:
        settle_numbers(self)
        if self.n_rows < 2 or self.n_rows & (self.n_rows - 1):
            raise ValueError(f"n_rows is a power of two, so that hashes fill the table; got {self.n_rows}.")


class Network(nn.Module):
    """The scorer while it learns: the same sums as `BuiltinScorer`, with gradients."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.drop = settings.drop
        self.table = nn.Parameter(0.1 * torch.randn(settings.n_rows, settings.n_dims))
        self.hidden = nn.Linear(2 * settings.n_dims + 1, settings.n_units)
        self.out = nn.Linear(settings.n_units, 1)
        self.of_comments = nn.Parameter(torch.zeros(1))  # what `fit` adds to the logits of comments

    def forward(self, batch: Batch) -> Tensor:
        """One logit per text."""
        grams = functional.embedding(batch.gram, self.table)
        if self.training:
            grams = functional.dropout(torch.ones(len(grams), 1), self.drop) * grams  # whole n-grams at once
        owner = torch.repeat_interleave(batch.n_grams)
        each = torch.zeros(len(batch.n_grams), grams.shape[1]).index_add(0, owner, grams)
        words = (each / batch.n_grams.sqrt()[:, None])[batch.word]
        text, n = torch.repeat_interleave(batch.n_words), batch.n_words[:, None]
        nothing = torch.zeros(len(n), words.shape[1])
        most = nothing.scatter_reduce(0, text[:, None].expand_as(words), words, "amax", include_self=False)
        features = torch.cat([most, nothing.index_add(0, text, words) / n.sqrt(), n.log()], dim=1)
        return self.out(self.hidden(features).relu())[:, 0]

    def scorer(self) -> BuiltinScorer:
        """What was learnt, as it ships."""
        rest = self.hidden.weight, self.hidden.bias, self.out.weight, self.out.bias
        hidden, hidden_bias, out, out_bias = (weight.detach().numpy().copy() for weight in rest)
        table = self.table.detach().numpy().astype(np.float16)
        return BuiltinScorer(table, np.ascontiguousarray(hidden.T), hidden_bias, out[0], out_bias)


@dataclass(frozen=True)
class Batch:
    """Some texts' words, as `Words` has them, each different word of the batch once."""

    word: Tensor
    n_words: Tensor
    gram: Tensor
    n_grams: Tensor


class Texts:
    """The words of all texts, of which batches are drawn."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.first_word = np.cumsum(words.n_words) - words.n_words
        self.first_gram = np.cumsum(words.n_grams) - words.n_grams

    def batch(self, rows: np.ndarray) -> Batch:
        n_words = self.words.n_words[rows]
        different, word = np.unique(self.words.word[stretches(self.first_word[rows], n_words)], return_inverse=True)
        n_grams = self.words.n_grams[different]
        gram = self.words.gram[stretches(self.first_gram[different], n_grams)]
        return Batch(*(torch.from_numpy(array) for array in (word, n_words, gram, n_grams)))


def stretches(first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Every number of every stretch, one stretch after the other."""
    return np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())


def fit(
    texts: Sequence[ScoredText], settings: Settings, say: Callable[[str], None] = lambda line: None
) -> BuiltinScorer:
    """Learn to imitate the scores by cross-entropy against them.

    Table and hidden layer are learnt from most texts, the head from the others. The same texts and seed give the same
    file on the same machine; processors round differently. Comments were scored by other versions of the API than
    prompts: their logits get a constant of their own, which is learnt and left behind, so that the scorer speaks on the
    prompts' scale.
    """
    aside = split(texts, settings.seed + 1, settings.aside, settings.aside)
    learnt, others = ([one for one, out in zip(texts, aside, strict=True) if out == side] for side in (False, True))
    return with_head(learn(learnt, settings, say).scorer(), others)


def with_head(scorer: BuiltinScorer, texts: Sequence[ScoredText]) -> BuiltinScorer:
    """The scorer with a logistic head fitted by scikit-learn to texts that the rest of it has not seen.

    On texts that it was learnt from the hidden layer is surer than on others, and a head fitted there speaks too low on
    new ones: this one is calibrated. A score of 0.3 counts as three tenths of a toxic text and seven of another.
    """
    from sklearn.linear_model import LogisticRegression

    spoken, units = scorer.units([one.text for one in texts])
    if not len(spoken):
        raise ValueError(f"The {len(texts)} texts for the scorer's head have no word. Give more texts.")
    scores = np.array([texts[row].score for row in spoken])
    comment = np.array([not texts[row].is_prompt_set for row in spoken])
    known = np.tile(np.column_stack([units, comment]), (2, 1))
    toxic, weights = np.repeat([1, 0], len(spoken)), np.concatenate([scores, 1 - scores])
    head = LogisticRegression(max_iter=10_000).fit(known, toxic, sample_weight=weights)
    return replace(scorer, out=head.coef_[0, :-1].astype(np.float32), out_bias=head.intercept_.astype(np.float32))


def learn(texts: Sequence[ScoredText], settings: Settings, say: Callable[[str], None]) -> Network:
    """Table, hidden layer and a head of their own, learnt together."""
    rng = np.random.default_rng(settings.seed)
    words = read_words([one.text for one in texts], settings.n_rows)
    known, rows = Texts(words), np.flatnonzero(words.n_words)
    target = torch.tensor([one.score for one in texts])
    comment = torch.tensor([float(not one.is_prompt_set) for one in texts])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = Network(settings)
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=0.0, fused=True)
        n_steps = settings.n_epochs * -(-len(rows) // settings.batch)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, n_steps, pct_start=0.1)
        for epoch in range(settings.n_epochs):
            total = 0.0
            for chosen in np.split(rng.permutation(rows), range(settings.batch, len(rows), settings.batch)):
                logits = network(known.batch(chosen)) + comment[chosen] * network.of_comments
                loss = functional.binary_cross_entropy_with_logits(logits, target[chosen])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                cycle.step()
                total += loss.item() * len(chosen)
            say(f"epoch {epoch + 1} of {settings.n_epochs}: cross-entropy {total / len(rows):.4f}")
    return network


def baseline(texts: Sequence[ScoredText], unseen: Sequence[ScoredText]) -> np.ndarray:
    """TF-IDF of words, pairs of words and character n-grams, with ridge regression: what unseen texts score."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    views = (
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True),
    )
    known = hstack([view.fit_transform([one.text for one in texts]) for view in views]).tocsr()
    model = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-3).fit(known, [one.score for one in texts])
    new = hstack([view.transform([one.text for one in unseen]) for view in views]).tocsr()
    return np.clip(model.predict(new), 0, 1)
