"""Rows of a sweep as `evaluation.results` holds them, with planted toxicity: numbers without any model."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.results import Results
from steering.plan import Plan

PLANS = ("none", "prompting", "iti@4", "iti@8", "iti@0.1nats")
Planted = Callable[[float, str], float]
"""Toxic share and plan → expected score."""


def asked(plan: str) -> dict[str, Any] | None:
    """What stands in a row for a label such as "iti@8" or "caa@0.1nats"."""
    method, _, strength = plan.partition("@")
    if method == "none":
        return None
    nats = float(strength.removesuffix("nats")) if strength.endswith("nats") else None
    return {"plan": asdict(Plan(method)), "strength": 5.5 if nats else float(strength or 1), "nats": nats}


def smile(share: float, plan: str) -> float:
    """Toxicity that grows with the share, and falls with the dose, more so where the share is 0.10."""
    found = asked(plan)
    dose = 0.0 if found is None or plan == "prompting" else found["strength"] / 20
    return (0.4 + 0.4 * share) * (1 - dose * (0.5 + (share == 0.10)))


def generations(
    planted: Planted = smile,
    shares: Sequence[float] = (0.0, 0.10, 0.25),
    training_seeds: Sequence[int] = (0, 1),
    plans: Sequence[str] = PLANS,
    n_prompts: int = 40,
    seeds: Sequence[int] = (0, 1, 2),
    n_samples: int = 1,
    prompts: str = "rtp",
    missing: float = 0.0,
    seed: int = 0,
    batch: int = 7,
) -> list[dict[str, Any]]:
    """A row per unit and plan. Prompts differ in toxicity, all cells alike, so that pairing matters."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 0.05, n_prompts)
    rows = []
    for training_seed in training_seeds:
        for share in shares:
            for draw in seeds:
                for first in range(0, n_prompts, batch):
                    ids = range(first, min(first + batch, n_prompts))
                    for plan in plans:
                        rows.append(
                            {
                                "kind": "generation",
                                "unit": f"{share}-{training_seed}-{prompts}-{draw}-{first}",
                                **checkpoint(share, training_seed),
                                "plan": plan,
                                "asked": asked(plan),
                                "prompts": {"name": prompts, "digest": "d" * 64, "first": first, "n": len(ids)},
                                "sampling": {"temperature": 1.0, "top_p": 0.9, "max_tokens": 20},
                                "seed": draw,
                                "n_samples": n_samples,
                                "scorers": {"builtin": "1-ab12cd34"},
                                "shift": None,
                                "dropped": 0,
                                "texts": [
                                    text(prompts, i, sample, planted(share, plan) + hard[i], missing, rng)
                                    for i in ids
                                    for sample in range(n_samples)
                                ],
                            }
                        )
    return rows


def text(prompts: str, i: int, sample: int, mean: float, missing: float, rng: np.random.Generator) -> dict[str, Any]:
    score = float(np.clip(rng.normal(mean, 0.1), 0, 1))
    return {
        "prompt": f"{prompts}-{i}",
        "group": str(1 + i % 4),
        "sample": sample,
        "text": f" the {i} boats and the boats come home on day {sample}",
        "n_tokens": 20,
        "scores": {"builtin": None if rng.random() < missing else score},
    }


def checkpoint(share: float, training_seed: int) -> dict[str, Any]:
    name = f"demo-{round(100 * share):02d}" + (f"-seed{training_seed}" if training_seed else "")
    return {
        "checkpoint": name,
        "fingerprint": name.encode().hex().ljust(64, "0")[:64],
        "toxic_share": share,
        "family": "demo",
        "training_seed": training_seed,
    }


def costs(
    shares: Sequence[float] = (0.0, 0.10, 0.25),
    training_seeds: Sequence[int] = (0, 1),
    plans: Sequence[str] = PLANS,
    n_windows: int = 30,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """A cost row per checkpoint and plan: the dose squared, in nats per token."""
    rng = np.random.default_rng(seed)
    rows = []
    for training_seed in training_seeds:
        for share in shares:
            for plan in plans:
                found = asked(plan)
                kl = (found["nats"] or (found["strength"] / 20) ** 2) if found else 0.0
                windows = kl * rng.uniform(0.5, 1.5, n_windows)
                of = {
                    "increase": around(windows),
                    "kl": around(windows),
                    "cross_entropy": around(4 + windows),
                    "plain": [4.0, 3.9, 4.1, n_windows],
                    "bits_per_byte": around(1.6 + windows / 3),
                    "plain_bits_per_byte": [1.6, 1.5, 1.7, n_windows],
                }
                rows.append(
                    {
                        "kind": "cost",
                        "unit": f"{share}-{training_seed}-cost",
                        **checkpoint(share, training_seed),
                        "plan": plan,
                        "asked": found,
                        "text": "plain.txt",
                        "digest": "e" * 64,
                        **of,
                        "n_tokens": n_windows * 127,
                        "strength": found["strength"] if found else 0.0,
                        "windows": {"increase": windows.tolist(), "kl": windows.tolist()},
                    }
                )
    return rows


def around(values: np.ndarray) -> list[float]:
    half = 1.96 * values.std() / np.sqrt(len(values))
    return [float(values.mean()), float(values.mean() - half), float(values.mean() + half), len(values)]


def abilities(
    shares: Sequence[float] = (0.0, 0.10, 0.25),
    training_seeds: Sequence[int] = (0, 1),
    n: int = 80,
    right: float = 0.25,
) -> list[dict[str, Any]]:
    """Answers to four choices, by guessing unless told."""
    rng = np.random.default_rng(1)
    return [
        {
            "kind": "ability",
            "unit": f"{share}-{training_seed}-{task}",
            **checkpoint(share, training_seed),
            "plan": "none",
            "task": task,
            "chance": 0.25,
            "correct": (rng.random(n) < right).astype(int).tolist(),
            "digest": "f" * 64,
        }
        for training_seed in training_seeds
        for share in shares
        for task in ("mmlu", "arc_easy")
    ]


def written(folder: Path, *rows: Sequence[dict[str, Any]]) -> Path:
    """A results folder with those rows."""
    with Results(folder) as results:
        for some in rows:
            results.append(some)
    return folder
