"""Activations in which we know what is where."""

import numpy as np
import torch

from lens import Activations, Head, HeadGrid
from probes import LabelledText, TextSet

GRID = HeadGrid(n_layers=3, n_heads=4, d_head=6)
D_MODEL = 24  # grid and width of the tiny model in conftest.py


def text_set(
    n: int = 400, share: float = 0.5, seed: int = 0, classes: tuple[str, str] = ("toxic", "benign")
) -> TextSet:
    """Made-up texts, the given share of them positive, in five groups."""
    order = np.random.default_rng(seed).permutation(n)
    texts = (
        LabelledText(f"text number {row}", bool(rank < share * n), f"group {row % 5}") for row, rank in enumerate(order)
    )
    return TextSet("planted", tuple(texts), classes)


def planted(
    texts: TextSet, head: Head | None = None, layer: int | None = None, strength: float = 5.0, seed: int = 1
) -> Activations:
    """Correlated noise everywhere; in `head` and after `layer` the label shifts it along a line."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(GRID.n_layers, GRID.n_heads, GRID.d_head, GRID.d_head)) * 0.4
    noise = rng.normal(size=(len(texts), *mixing.shape[:3]))
    z = np.einsum("tlhd,lhde->tlhe", noise, mixing) + rng.normal(size=mixing.shape[:3])
    x = rng.normal(size=(len(texts), GRID.n_layers, D_MODEL))
    if head is not None:
        z[:, head.layer, head.index] += strength * texts.labels[:, None] * line(GRID.d_head)
    if layer is not None:
        x[:, layer] += strength * texts.labels[:, None] * line(D_MODEL)
    return Activations(
        torch.from_numpy(z).float(),
        torch.from_numpy(x).float(),
        torch.from_numpy(texts.labels),
        tuple(text.group for text in texts.texts),
        "f" * 64,
        texts.digest,
    )


def line(d: int) -> np.ndarray:
    """The planted direction, unit length, benign → toxic."""
    raw = np.arange(1, d + 1) * (-1) ** np.arange(d)
    return raw / np.linalg.norm(raw)
