"""One logistic regression per head or layer, fitted to its optimum; and what shuffled labels reach.

Every probe minimises  sum over texts of log(1 + exp(-±(w·x + b))) + |w|²/2C  with C = 1 and b left free: scikit-learn's
LogisticRegression. Two roads lead to its one optimum: scikit-learn's own Newton solver on the CPU, a batched Newton in
torch on CUDA.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

C = 1.0
"""Inverse of the penalty, scikit-learn's default."""
GRADIENT = 1e-8
"""A fit has arrived where no slope of the mean loss is steeper."""
STEPS = 100
CHUNK_BYTES = 2**28
"""Activations held in float64 at once by the batched road."""

OnDone = Callable[[int], None]


class NotConverged(ValueError):
    """A probe did not reach its optimum."""


@dataclass(frozen=True, eq=False)
class Fits:
    """One linear probe per unit, units being heads [layer head] or layers [layer]; on the CPU, float32."""

    weight: Float[Tensor, "*unit d"]
    """Points to the positive (toxic) class."""
    bias: Float[Tensor, "*unit"]
    mean_toxic: Float[Tensor, "*unit d"]
    """Mean over all texts of the positive class, those to train on and those held out."""
    mean_benign: Float[Tensor, "*unit d"]
    covariance: Float[Tensor, "*unit d d"]
    """Over all texts of both classes, ddof 0: any direction's sigma follows from it."""
    correct: Bool[Tensor, "*unit test"]
    """Which held-out texts the probe put into the right class."""

    @property
    def accuracies(self) -> Float[Tensor, "*unit"]:
        """Share of held-out texts, float64."""
        return self.correct.double().mean(-1)

    def reshaped(self, *units: int) -> "Fits":
        """The same fits with the units arranged along other axes."""
        return Fits(*(getattr(self, name).unflatten(0, units) for name in self.__dataclass_fields__))


def fit_units(
    states: Float[Tensor, "text unit d"],
    labels: Bool[Tensor, " text"],
    train: np.ndarray,
    test: np.ndarray,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    on_done: OnDone | None = None,
) -> Fits:
    """Fit every unit on the train rows, score it on the test rows; `on_done` hears how many are ready."""
    road = batched_road if torch.device(device).type == "cuda" else sklearn_road
    weights, biases, correct = [], [], []
    for weight, bias, right in road(states, labels, train, test, torch.device(device), threads):
        weights.append(weight)
        biases.append(bias)
        correct.append(right)
        if on_done:
            on_done(sum(map(len, biases)))
    moments = [moments_of(states[:, unit].to(device).double(), labels.to(device)) for unit in range(states.shape[1])]
    mean_toxic, mean_benign, covariance = (torch.stack(column).float().cpu() for column in zip(*moments, strict=True))
    weight, bias = torch.cat(weights).float(), torch.cat(biases).float()
    return Fits(weight, bias, mean_toxic, mean_benign, covariance, torch.cat(correct))


def moments_of(x: Float[Tensor, "text d"], labels: Bool[Tensor, " text"]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of the positive class, mean of the negative one, covariance of all."""
    centred = x - x.mean(0)
    return x[labels].mean(0), x[~labels].mean(0), centred.T @ centred / len(x)


def sklearn_road(
    states: Tensor, labels: Tensor, train: np.ndarray, test: np.ndarray, device: torch.device, threads: int | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Units side by side in threads, each with one-threaded BLAS: cores are shared between fits, not within one."""
    from joblib import Parallel, delayed, effective_n_jobs
    from threadpoolctl import threadpool_limits

    y = labels.numpy()

    def fitted(unit: int) -> tuple[Tensor, Tensor, Tensor]:
        x = states[:, unit].double().numpy()
        weight, bias = fit_one(x[train], y[train])
        correct = (x[test] @ weight + bias > 0) == y[test]
        return torch.from_numpy(weight)[None], torch.tensor([bias]), torch.from_numpy(correct)[None]

    workers = Parallel(n_jobs=threads or effective_n_jobs(-1), prefer="threads", return_as="generator")
    with threadpool_limits(1, user_api="blas"):  # torch's own threads stay as they are: a model may be generating
        yield from workers(delayed(fitted)(unit) for unit in range(states.shape[1]))


def fit_one(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Weight [d] and bias of scikit-learn's LogisticRegression at the optimum; x is [text d] in float64."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, solver="newton-cholesky", tol=GRADIENT, max_iter=STEPS).fit(x, y)
    weight, bias = model.coef_[0], float(model.intercept_[0])
    residue = 1 / (1 + np.exp(-np.clip(x @ weight + bias, -500, 500))) - y
    slope = max(np.abs(residue @ x + weight / C).max(), abs(residue.sum())) / len(y)
    if slope > 1e3 * GRADIENT:
        raise NotConverged(f"The probe's loss still falls (slope {slope:.1e} after {model.n_iter_[0]} steps).")
    return weight, bias


def batched_road(
    states: Tensor, labels: Tensor, train: np.ndarray, test: np.ndarray, device: torch.device, threads: int | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Many units in one Newton iteration, in float64, as many at once as memory holds lightly."""
    y = labels.to(device)
    for units in chunks(states.shape[1], len(states) * states.shape[2]):
        x = states[:, units].transpose(0, 1).to(device).double()
        weight, bias = newton(x[:, train], y[train])
        logits = (x[:, test] @ weight[..., None])[..., 0] + bias[:, None]
        yield weight.cpu(), bias.cpu(), ((logits > 0) == y[test]).cpu()


def chunks(n_units: int, numbers: int) -> Iterator[slice]:
    """Neighbouring units of so many float64 numbers each, 256 MB at a time."""
    size = max(1, CHUNK_BYTES // (8 * numbers))
    return (slice(start, start + size) for start in range(0, n_units, size))


def newton(
    x: Float[Tensor, "unit text d"], y: Bool[Tensor, " text"], c: float = C
) -> tuple[Float[Tensor, "unit d"], Float[Tensor, " unit"]]:
    """Weights and biases of many logistic regressions at their optimum, in the precision of `x` (give float64)."""
    x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
    penalty = torch.full_like(x[0, 0], 1 / c)
    penalty[-1] = 0  # the bias is free
    theta = torch.zeros_like(x[:, 0])
    for _ in range(STEPS):
        chance = torch.sigmoid((x @ theta[..., None])[..., 0])
        gradient = ((chance - y.to(x))[:, None] @ x)[:, 0] + penalty * theta
        if gradient.abs().max() <= GRADIENT * len(y):
            return theta[:, :-1], theta[:, -1]
        hessian = x.mT @ ((chance * (1 - chance))[..., None] * x) + torch.diag(penalty)
        step = torch.cholesky_solve(gradient[..., None], torch.linalg.cholesky(hessian))[..., 0]
        theta = downhill(theta, step, gradient, lambda trial: losses(trial, x, y.to(x), penalty))
    raise NotConverged(f"A probe's loss still falls (slope {gradient.abs().max() / len(y):.1e} after {STEPS} steps).")


def losses(theta: Tensor, x: Tensor, y: Tensor, penalty: Tensor) -> Float[Tensor, " unit"]:
    """What each probe minimises."""
    logits = (x @ theta[..., None])[..., 0]
    return (torch.nn.functional.softplus(logits) - y * logits).sum(-1) + (penalty * theta**2).sum(-1) / 2


def downhill(theta: Tensor, step: Tensor, gradient: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """A step that lowers every unit's loss, halved where the whole of it would not (Armijo)."""
    before, slope = loss(theta), (gradient * step).sum(-1)
    length = torch.ones_like(before)
    for _ in range(30):
        trial = theta - length[:, None] * step
        enough = loss(trial) <= before - 1e-4 * length * slope + 1e-12 * before.abs()
        if enough.all():
            break
        length = torch.where(enough, length, length / 2)
    return trial


def null_accuracies(
    states: Float[Tensor, "text unit d"],
    labels: Bool[Tensor, " text"],
    train: np.ndarray,
    test: np.ndarray,
    n_shuffles: int,
    rng: np.random.Generator,
    device: str | torch.device = "cpu",
) -> Float[Tensor, "unit shuffle"]:
    """Held-out accuracy of every unit's probe when labels are shuffled; each shuffle serves all units.

    Labels are shuffled within the train texts and within the held-out ones. With the true held-out labels, a random
    probe on an informative head would score far above or below chance, and the null band would be too wide.

    One Newton step from the best constant guess (w = 0, b = logit of the share of positives) in place of a full fit.
    There every text weighs share·(1 - share) whatever the labels' order, so the Hessian
    share·(1 - share)·XᵀX + I/C, with X centred, is the same for all shuffles: one Cholesky factor, all shuffles as
    right-hand sides. Under shuffled labels w stays near 0, where the step is all but the whole way.
    """
    y, truth = (shuffles(labels[rows], n_shuffles, rng).to(device) for rows in (train, test))
    share = float(labels[train].double().mean())
    found = []
    for units in chunks(states.shape[1], max(len(states) * states.shape[2], len(test) * n_shuffles)):
        x = states[:, units].transpose(0, 1).to(device).double()
        centre = x[:, train].mean(1, keepdim=True)
        seen = x[:, train] - centre
        hessian = share * (1 - share) * seen.mT @ seen + torch.eye(seen.shape[-1]).to(seen) / C
        weight = torch.cholesky_solve(seen.mT @ (y.double() - share), torch.linalg.cholesky(hessian))
        logits = (x[:, test] - centre) @ weight + log(share / (1 - share))
        found.append(((logits > 0) == truth).double().mean(1).cpu())
    return torch.cat(found)


def shuffles(labels: Bool[Tensor, " text"], n: int, rng: np.random.Generator) -> Bool[Tensor, "text shuffle"]:
    """The labels in so many random orders."""
    return torch.from_numpy(np.stack([rng.permutation(labels.numpy()) for _ in range(n)], axis=1))
