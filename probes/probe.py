"""Where the concept is written: a linear probe per head and per layer, kept beside the checkpoint it belongs to."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens.activations import Activations, gather
from lens.checkpoint import Checkpoint
from lens.files import check_folder
from lens.head import Head, HeadGrid
from lens.model import Lens
from lens.numeric import settle_numbers, whole_number
from probes.differences import estimate_mean, middle_95, paired_difference, unpaired_difference
from probes.estimate import Difference, Estimate, share
from probes.fits import Fits, fit_units, null_accuracies
from probes.store import (
    BY_GROUP,
    BrokenProbes,
    NoProbes,
    StaleProbes,
    check_same_texts,
    cure,
    explain_stale,
    packed,
    path_of,
    read,
    saved,
    unpacked,
    write,
)
from probes.texts import By, TextSet, clusters_of, split

FORMAT = 1
N_SHUFFLES = 1000
"""Of 64 heads and 500 held-out texts the upper end of the null band then lies within 0.002 of where it would settle."""
FEWEST_SHUFFLES = 40
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """One linear probe per head and per layer of one checkpoint, scored on texts they never saw."""

    name: str
    """Of the set of texts: "builtin", "toxigen"; with "-by-group" behind it for the split that leaves groups out."""
    checkpoint: str
    fingerprint: str
    texts_digest: str
    rule: str
    """How the texts got their labels."""
    classes: tuple[str, str]
    """Positive class first."""
    split: str
    """Held out at random by "text", or whole groups by "group"."""
    seed: int
    n_train: int
    n_test: int
    n_toxic: int
    """Texts of the positive class, trained on or held out."""
    majority: float
    """Share of the larger class among the held-out texts: what a probe must beat."""
    grid: HeadGrid
    fitted_at: str
    """UTC, ISO 8601."""
    heads: Fits
    """[layer head]"""
    residual: Fits
    """[layer], on the residual stream after each layer."""
    test_rows: tuple[int, ...]
    """Held-out rows of the text set, so that two checkpoints are compared text by text."""
    test_clusters: tuple[int, ...]
    """Of each held-out row the number of its cluster: copies, pairs, and whole groups where groups are held out."""
    n_shuffles: int
    """Times that the labels were shuffled for the null band."""
    null_best: Float[Tensor, " shuffle"]
    """Held-out accuracy of the best of all heads when the train labels are shuffled."""
    fitted_with: Mapping[str, str | None] = field(default_factory=dict)
    """Number format and device of the model, and versions of programs; empty in cards that do not name them."""
    n_cut: int = 0
    """Texts longer than the model's context, of which only the end was read."""

    def __post_init__(self) -> None:
        settle_numbers(self)

    def accuracy(self, head: Head) -> Estimate:
        """Share of held-out texts the head's probe gets right, with an interval over their clusters."""
        return share(self.heads.correct[head.layer, head.index].numpy(), np.array(self.test_clusters))

    def layer_accuracy(self, layer: int) -> Estimate:
        """The same for the residual stream after a layer."""
        return share(self.residual.correct[layer].numpy(), np.array(self.test_clusters))

    def ranked(self) -> list[Head]:
        """All heads, most accurate first; equals in order of the grid."""
        return sorted(self.grid, key=lambda head: -self.heads.accuracies[head.layer, head.index])

    @property
    def null_band(self) -> tuple[float, float]:
        """The middle 95 % of `null_best`: a best head inside it is no better than chance and search."""
        return middle_95(self.null_best.numpy())

    @property
    def best_layer(self) -> int:
        """The layer after which the residual stream is read best."""
        return int(self.residual.accuracies.argmax())

    def mean_accuracy(self, rng: np.random.Generator) -> Estimate:
        """Mean over all heads, with an interval over the clusters of held-out texts."""
        return estimate_mean(share_right(self), rng, np.array(self.test_clusters))

    @property
    def in_words(self) -> str:
        """When and with what it was fitted."""
        made = self.fitted_with
        if not made:
            return f"{self.fitted_at}; number format, device and versions are not noted"
        versions = ", ".join(
            f"{name} {made.get(name) or 'of unknown version'}" for name in ("torch", "transformers", "hormesis")
        )
        return f"{self.fitted_at}, {made.get('dtype')} on {made.get('device')}; {versions}"

    def save(self, folder: Path) -> Path:
        """Write `probes/<name>.safetensors` and `.json` into the checkpoint's folder; returns the latter's path."""
        plain = [one.name for one in fields(self) if one.name not in ("heads", "residual", "null_best")]
        card = {"format": FORMAT, **{name: getattr(self, name) for name in plain}, "grid": asdict(self.grid)}
        tensors = {**packed("heads", self.heads), **packed("residual", self.residual), "null_best": self.null_best}
        write(path_of(folder, self.name), card, tensors)
        return path_of(folder, self.name)

    @classmethod
    def load(cls, checkpoint: Checkpoint, name: str) -> "ProbeSet":
        """Read what `save` wrote; refused when the checkpoint's weights, config or tokenizer have changed since."""
        path = path_of(checkpoint.folder, name)
        if name not in saved(checkpoint):
            has = ", ".join(saved(checkpoint)) or "none yet"
            raise NoProbes(f"{checkpoint.name} has no probes {name!r} (it has: {has}). {cure(checkpoint, name)}")
        try:
            found = cls._from(*read(path))
        except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise BrokenProbes(
                f"{path} or its .safetensors is damaged: {str(error).rstrip('.')}. {cure(checkpoint, name)}"
            ) from error
        if found.fingerprint != checkpoint.fingerprint:
            what, remedy = f"The probes {name!r}", cure(checkpoint, name)
            raise StaleProbes(explain_stale(what, found.fingerprint, checkpoint, remedy))
        return replace(found, checkpoint=checkpoint.name)  # what its folder is called now

    @classmethod
    def _from(cls, card: dict[str, Any], tensors: dict[str, Tensor]) -> "ProbeSet":
        if card.pop("format") != FORMAT:
            raise ValueError(f"expected format {FORMAT}")
        grid, heads = HeadGrid(**card["grid"]), unpacked("heads", tensors)
        if heads.weight.shape != (grid.n_layers, grid.n_heads, grid.d_head):
            raise ValueError(f"{grid} does not fit weights of shape {tuple(heads.weight.shape)}")
        null_best = tensors["null_best"]
        clusters = card.get("test_clusters", range(card["n_test"]))  # older cards do not say: every text for itself
        card |= {"grid": grid, "classes": tuple(card["classes"]), "test_rows": tuple(card["test_rows"])}
        card |= {"test_clusters": tuple(clusters), "n_shuffles": len(null_best)}
        card["fitted_with"] = dict(card.get("fitted_with", {}))
        return cls(**card, heads=heads, residual=unpacked("residual", tensors), null_best=null_best)


def fit_probes(
    activations: Activations,
    texts: TextSet,
    checkpoint: str,
    held_out: float = 0.2,
    seed: int = 0,
    by: By = "text",
    n_shuffles: int = N_SHUFFLES,
    on_progress: OnProgress | None = None,
    device: str | torch.device = "cpu",
    threads: int | None = None,
) -> ProbeSet:
    """A probe for every head and layer, each at its optimum, and the null band that the best head must leave.

    `on_progress` hears (probes fitted, probes in all). On CUDA a batched Newton replaces scikit-learn.
    """
    if activations.texts_digest != texts.digest:
        raise ValueError(f"The activations are of other texts or labels than {texts.name!r} holds. Gather them again.")
    if not activations.heads.isfinite().all():
        raise ValueError(f"{checkpoint}: some activations are not numbers. Open it with --dtype float32.")
    n_shuffles = whole_number("n_shuffles", n_shuffles)
    if n_shuffles < FEWEST_SHUFFLES:
        raise ValueError(
            f"The null band is the middle 95 % of shuffles, so it needs {FEWEST_SHUFFLES} of them; got {n_shuffles}."
        )
    train, test = split(texts, held_out, seed, by)
    _, n_layers, n_heads, d_head = activations.heads.shape
    states, labels, total = activations.heads.flatten(1, 2), activations.labels, n_layers * (n_heads + 1)

    def report(before: int) -> Callable[[int], None]:
        return lambda done: on_progress(before + done, total) if on_progress else None

    heads = fit_units(states, labels, train, test, device, threads, report(0))
    residual = fit_units(activations.residual, labels, train, test, device, threads, report(n_layers * n_heads))
    null = null_accuracies(states, labels, train, test, n_shuffles, np.random.default_rng(seed), device)
    positives = float(labels[test].double().mean())
    return ProbeSet(
        name=probes_name(texts, by),
        checkpoint=checkpoint,
        fingerprint=activations.fingerprint,
        texts_digest=activations.texts_digest,
        rule=texts.rule,
        classes=texts.classes,
        split=by,
        seed=seed,
        n_train=len(train),
        n_test=len(test),
        n_toxic=int(labels.sum()),
        majority=max(positives, 1 - positives),
        grid=HeadGrid(n_layers, n_heads, d_head),
        fitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        heads=heads.reshaped(n_layers, n_heads),
        residual=residual,
        test_rows=tuple(test.tolist()),
        test_clusters=tuple(clusters_of(texts.texts, by)[test].tolist()),
        n_shuffles=n_shuffles,
        null_best=null.max(0).values,
        fitted_with=activations.made_with,
        n_cut=activations.n_cut,
    )


def probe_checkpoint(
    lens: Lens,
    texts: TextSet,
    held_out: float = 0.2,
    seed: int = 0,
    by: By = "text",
    n_shuffles: int = N_SHUFFLES,
    on_progress: Callable[[str, int, int], None] | None = None,
    overwrite: bool = False,
) -> ProbeSet:
    """Gather, fit and save beside the checkpoint; `on_progress` hears (what is being done, done, in all).

    Probes of that name on other texts stay where they are unless `overwrite` says otherwise.
    """
    check_same_texts(lens.checkpoint.folder, probes_name(texts, by), texts.digest, overwrite)

    def stage(name: str) -> OnProgress | None:
        return (lambda done, total: on_progress(name, done, total)) if on_progress else None

    check_folder(lens.checkpoint.folder / "probes", f"The folder of {lens.checkpoint.name}")
    rows = texts.texts
    activations = gather(
        lens, [r.text for r in rows], [r.label for r in rows], [r.group for r in rows], stage("reading")
    )
    places: dict[str, Any] = {"device": lens.device, "threads": lens.threads}
    found = fit_probes(
        activations, texts, lens.checkpoint.name, held_out, seed, by, n_shuffles, stage("fitting"), **places
    )
    found.save(lens.checkpoint.folder)
    return found


def probes_name(texts: TextSet, by: By) -> str:
    """What probes on these texts are called."""
    return texts.name + (BY_GROUP if by == "group" else "")


@dataclass(frozen=True)
class Comparison:
    """How much more accurate the heads of one checkpoint are than those of another, on the same held-out texts."""

    over_texts: Difference
    """Of the mean over heads, clusters of held-out texts as the sample: would other texts say the same?"""
    by_head: Difference
    """The paper's test, heads as the sample. It treats heads as independent, which they are not: all read the same
    texts and one residual stream. It says nothing of what other texts would show."""


def compare(a: ProbeSet, b: ProbeSet, rng: np.random.Generator) -> Comparison:
    """Mean accuracy over heads of `a` minus that of `b`, in shares of texts."""
    if (a.texts_digest, a.test_rows) != (b.texts_digest, b.test_rows):
        raise ValueError(
            f"{a.checkpoint} and {b.checkpoint} were probed on different held-out texts ({a.name!r}, {b.name!r}). "
            "Fit both with the same --texts, --by, --held-out and --seed."
        )
    return Comparison(
        paired_difference(share_right(a), share_right(b), rng, np.array(a.test_clusters)),
        unpaired_difference(a.heads.accuracies.flatten().numpy(), b.heads.accuracies.flatten().numpy(), rng),
    )


def share_right(probes: ProbeSet) -> np.ndarray:
    """[test] for each held-out text the share of heads whose probe gets it right."""
    return probes.heads.correct.double().flatten(0, -2).mean(0).numpy()
