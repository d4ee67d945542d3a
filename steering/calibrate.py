"""Calibrated strength: how strongly to steer so that it costs so many nats per token.

A standard deviation of one method is no mean difference of another, and neither is worth the same in two checkpoints.
KL(plain ‖ steered) on ordinary text is a unit they share: what the same nats buy can then be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens import Lens
from lens.numeric import as_float
from probes.differences import estimate_mean
from probes.estimate import Estimate
from steering.cost import EVERY_POSITION, batches, cost, cut, divergence, log_probs, plain_text
from steering.dose import Steering
from steering.plan import Plan

TOLERANCE = 0.01
"""How far the KL may be from the one asked for, as a share of it."""
DIGITS = 4
"""Significant digits of a strength that is found."""
FIRST = 1 / 128
"""Share of the largest strength that is tried first; it is doubled until the KL is reached."""
MOST_TRIES = 60
EDGE_TRIES = 12
"""How often the place where numbers end is halved in."""
PLAIN_AT_ONCE = 128_000_000
"""Plain log-probabilities that are kept, 512 MB in float32; of longer texts they are computed anew each time."""

OnProgress = Callable[[float, float], None]
"""Told each strength that was measured, and its KL."""


class OutOfReach(ValueError):
    """No strength of the method moves the predictions as far as asked."""


@dataclass(frozen=True)
class Calibrated:
    """The strength that spends so many nats per token."""

    plan: Plan
    nats: float
    """Asked for: KL(plain ‖ steered) per token, every position steered."""
    strength: float
    """In the method's own unit, 4 significant digits; the smallest that spends as much."""
    kl: float
    """Of that strength on the windows it was found on: every other one of the text, from the first."""
    n_tokens: int
    """Predicted tokens in these."""
    held_out: Estimate
    """KL on the windows between them; bootstrap, n = windows."""

    def __str__(self) -> str:
        unit = self.plan.rule.unit.split(",")[0]
        return (
            f"{self.plan}: {self.strength:g} {unit} for {self.nats:g} nats per token "
            f"({self.kl:.4g} on {self.n_tokens:,} tokens, {EVERY_POSITION}; held out {self.held_out:.4g}, "
            f"n={self.held_out.n})"
        )


def calibrate(
    lens: Lens,
    steering: Steering,
    nats: float,
    text: str | None = None,
    window: int | None = None,
    on_progress: OnProgress | None = None,
) -> Calibrated:
    """The smallest strength whose KL from the plain model is within 1 % of `nats` per token, or OutOfReach."""
    return Calibration(lens, steering, text, window, on_progress).spend(nats)


class Calibration:
    """One steering's KL as a function of its strength: the plain model is read once, each strength once."""

    def __init__(
        self,
        lens: Lens,
        steering: Steering,
        text: str | None = None,
        window: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """`text`: ordinary prose, ours unless given; every other window is held out."""
        self._lens, self._steering, self._on_progress = lens, steering, on_progress
        if not steering.plan.site:
            self._refuse_words(plain_text() if text is None else text, window)
        windows = cut(lens, plain_text() if text is None else text, window)
        if len(windows) < 2:
            raise ValueError(
                f"The text has {windows.numel()} tokens; calibration needs at least two windows of {windows.shape[1]} "
                "each, one to find the strength on and one to check it. Give a longer text."
            )
        self._seen, self._held_out = windows[::2], windows[1::2]
        self._plain: list[Tensor] = []
        self._measured: dict[float, float] = {0.0: 0.0}

    def spend(self, nats: float) -> Calibrated:
        """The strength for so many nats per token."""
        asked = as_float(nats)
        if asked is None or not 0 < asked < math.inf:
            raise ValueError(f"nats is a KL per token above 0, such as 0.1; got {nats!r}.")
        plan = self._steering.plan
        who = f"{plan.rule.name} on {self._lens.checkpoint.name}"
        strength = written(smallest(lambda tried: self.kl(written(tried)), asked, plan.rule.most, who))
        held_out = torch.cat([self._divergence(batch, strength, None) for batch in batches(self._lens, self._held_out)])
        return Calibrated(
            plan,
            asked,
            strength,
            self.kl(strength),
            self._seen.shape[0] * (self._seen.shape[1] - 1),
            estimate_mean(held_out.double().numpy(), np.random.default_rng(0)),
        )

    def kl(self, strength: float) -> float:
        """KL(plain ‖ steered) on the windows that are not held out, nats per token."""
        if strength not in self._measured:
            found = [self._divergence(batch, strength, plain) for batch, plain in self._batches()]
            self._measured[strength] = torch.cat(found).double().mean().item()
            if self._on_progress:
                self._on_progress(strength, self._measured[strength])
        return self._measured[strength]

    def _divergence(
        self, tokens: Tensor, strength: float, plain: Float[Tensor, "batch pos vocab"] | None
    ) -> Float[Tensor, " batch"]:
        expected = log_probs(self._lens, tokens) if plain is None else plain
        return divergence(expected, log_probs(self._lens, tokens, self._steering.at(strength))).cpu()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Windows with what the plain model expects, which is kept where there is room."""
        if self._seen.numel() * self._lens.n_vocab > PLAIN_AT_ONCE:
            yield from ((batch, None) for batch in batches(self._lens, self._seen))
            return
        whole = list(batches(self._lens, self._seen))
        self._plain = self._plain or [log_probs(self._lens, batch) for batch in whole]
        yield from zip(whole, self._plain, strict=True)

    def _refuse_words(self, text: str, window: int | None) -> None:
        (found,) = cost(self._lens, [self._steering.at(1)], text, window=window)
        raise OutOfReach(
            f"{self._steering.plan.rule.name} is on or off and has no strength to find. On, it moves the predictions "
            f"of {self._lens.checkpoint.name} by {found.kl} nats per token."
        )


def written(strength: float) -> float:
    """The strength as people write it: what is shown, typed or set on a slider is what was measured."""
    return float(f"{strength:.{DIGITS}g}")


def smallest(kl: Callable[[float], float], nats: float, most: float, who: str = "It") -> float:
    """The smallest strength up to `most` at which `kl` comes within 1 % of `nats`, or OutOfReach.

    Strengths are doubled from a small one on until one spends enough, so a dip behind it is never looked at; where one
    gives no number, the last that does is looked for. Between the last two: false position on the square root, since KL
    grows as the square of a small strength, and every third time bisection, where the curve bends so much that this
    crawls.
    """
    low, high = _bracket(kl, nats, most, who)
    for tries in range(MOST_TRIES):
        for end in (low, high):
            if abs(kl(end) - nats) <= TOLERANCE * nats:
                return end
        below, above = (math.sqrt(max(kl(end), 0)) - math.sqrt(nats) for end in (low, high))
        share = 0.5 if tries % 3 == 2 else below / (below - above)
        middle = low + share * (high - low)
        if not low < middle < high:
            break
        low, high = (middle, high) if kl(middle) < nats else (low, middle)
    raise OutOfReach(
        f"{who} spends {kl(low):.4g} nats per token at strength {low:.6g} and jumps to {kl(high):.4g} at {high:.6g}: "
        f"no strength spends {nats:g}. Ask for one of these."
    )


def _bracket(kl: Callable[[float], float], nats: float, most: float, who: str) -> tuple[float, float]:
    """Two strengths, the first too weak and the second strong enough."""
    tried = [0.0]
    for strength in _outward(kl, most):
        if kl(strength) >= nats:
            return tried[-1], strength
        tried.append(strength)
    top = max(range(len(tried)), key=lambda i: kl(tried[i]))
    left, right = tried[max(top - 1, 0)], tried[min(top + 1, len(tried) - 1)]
    peak = max(tried[top], _peak(kl, left, right, nats), key=kl)
    if kl(peak) >= nats:
        return left, peak
    raise OutOfReach(
        f"{who} spends at most {kl(peak):.4g} nats per token, at strength {peak:.4g} of 0 to {most:g}; {nats:g} are "
        "out of reach. Ask for less, or change more heads or layers."
    )


def _outward(kl: Callable[[float], float], most: float) -> Iterator[float]:
    """Ever larger strengths that have a KL: doubled up to `most`, or halfway again and again to where numbers end."""
    last, strength = 0.0, FIRST * most
    while math.isfinite(kl(strength)):
        yield strength
        if strength == most:
            return
        last, strength = strength, min(2 * strength, most)
    for _ in range(EDGE_TRIES):
        middle = (last + strength) / 2
        if math.isfinite(kl(middle)):
            yield middle
            last = middle
        else:
            strength = middle


def _peak(kl: Callable[[float], float], left: float, right: float, enough: float) -> float:
    """The strength between two at which KL is largest, by golden section; the first that is enough."""
    share = (math.sqrt(5) - 1) / 2
    inner = [right - share * (right - left), left + share * (right - left)]
    for _ in range(12):
        best = max(inner, key=kl)
        if kl(best) >= enough:
            return best
        left, right = (left, inner[1]) if best == inner[0] else (inner[0], right)
        inner = [right - share * (right - left), left + share * (right - left)]
    return max(inner, key=kl)
