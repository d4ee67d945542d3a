"""What the heads and layers hold at the end of each text: the raw material of every probe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens.blocks import OnePass, rotary_table, sight
from lens.files import write_atomically
from lens.model import EmptyPrompt, Lens, positions

CPU_BATCH, GPU_BATCH = 512, 32_768
"""Tokens in a batch, padding included: a CPU is fastest while a batch stays in its cache, a GPU with large ones."""


class NoActivations(LookupError):
    """A file of activations that is not there, or not whole."""


@dataclass(frozen=True)
class Activations:
    """Activations at the last token of labelled texts, in one checkpoint: float32, on the CPU."""

    heads: Float[Tensor, "text layer head d_head"]
    """What each head hands to `o_proj`."""
    residual: Float[Tensor, "text layer d_model"]
    """The residual stream after each layer."""
    labels: Bool[Tensor, " text"]
    """True for the positive class of the concept, such as toxic."""
    groups: tuple[str, ...]
    """The group of each text; a split never straddles one."""
    fingerprint: str
    """Of the checkpoint."""
    texts_digest: str
    """Names exactly these texts with these labels, without holding them."""
    made_with: Mapping[str, str | None] = field(default_factory=dict)
    """Number format and device of the model, and versions of programs; empty: not noted."""
    n_cut: int = 0
    """Texts longer than the model's context, of which only the end was read."""

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Write `path`.safetensors, then `path`.json, whose presence says that the save is whole."""
        from safetensors.torch import save

        belongs = {"fingerprint": self.fingerprint, "texts_digest": self.texts_digest}
        tensors = {"heads": self.heads, "residual": self.residual, "labels": self.labels}
        write_atomically(Path(f"{path}.safetensors"), save(tensors, metadata=belongs))
        write_atomically(
            Path(f"{path}.json"),
            json.dumps({**belongs, "groups": self.groups, "made_with": self.made_with, "n_cut": self.n_cut}),
        )

    @classmethod
    def load(cls, path: Path) -> Activations:
        """Read what `save` wrote."""
        from safetensors import SafetensorError, safe_open

        try:
            card = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
            with safe_open(f"{path}.safetensors", framework="pt") as file:
                belongs = file.metadata()
                tensors = {name: file.get_tensor(name) for name in ("heads", "residual", "labels")}
            groups, made_with = tuple(card.pop("groups")), dict(card.pop("made_with", {}))
            n_cut = int(card.pop("n_cut", 0))
        except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
            raise NoActivations(
                f"{path}.safetensors and .json hold no activations ({error}). Gather them again."
            ) from error
        if card != belongs:
            raise NoActivations(f"{path}.safetensors and {path}.json come from different runs. Gather them again.")
        return cls(**tensors, groups=groups, made_with=made_with, n_cut=n_cut, **card)


def gather(
    lens: Lens,
    texts: Sequence[str],
    labels: Sequence[bool],
    groups: Sequence[str],
    on_progress: Callable[[int, int], None] | None = None,
) -> Activations:
    """Run every text through the model's layers and keep the last position of each.

    Texts longer than the context keep their end. `on_progress` hears (texts done, texts in all) after each batch.
    """
    if not len(texts) == len(labels) == len(groups) > 0:
        raise ValueError(f"Every text needs a label and a group: {len(texts)}, {len(labels)} and {len(groups)} came.")
    lens.check_weights()
    whole, grid = encode_whole(lens, texts), lens.grid
    rows = [row[-lens.n_context :] for row in whole]
    heads = torch.empty(len(rows), grid.n_layers, grid.n_heads, grid.d_head)
    residual = torch.empty(len(rows), grid.n_layers, lens.d_model)
    table, done = rotary_table(lens.model, max(map(len, rows))), 0
    for batch in sorted_batches(lens, rows):
        z, x = _last_positions(lens, [rows[index] for index in batch], table)
        heads[batch], residual[batch] = z.float().cpu().view(-1, *heads.shape[1:]), x.float().cpu()
        done += len(batch)
        if on_progress is not None:
            on_progress(done, len(rows))
    return Activations(
        heads,
        residual,
        torch.tensor([bool(label) for label in labels]),
        tuple(groups),
        lens.fingerprint,
        digest_texts(texts, labels),
        lens.computed_with,
        sum(len(row) > lens.n_context for row in whole),
    )


def digest_texts(texts: Sequence[str], labels: Sequence[bool]) -> str:
    """SHA-256 of texts with their labels, in order."""
    digest = hashlib.sha256()
    for text, label in zip(texts, labels, strict=True):
        digest.update(json.dumps([text, bool(label)]).encode() + b"\n")
    return digest.hexdigest()


def encode_ends(lens: Lens, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text; of one longer than the context, its end."""
    return [row[-lens.n_context :] for row in encode_whole(lens, texts)]


def encode_whole(lens: Lens, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text, which has at least one."""
    rows = lens.encode_all(texts)
    empty = next((number for number, row in enumerate(rows) if not row), None)
    if empty is not None:
        raise EmptyPrompt(f"Text {empty} (counted from 0) is empty. Remove it: it has no last token.")
    return rows


def sorted_batches(lens: Lens, rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Row numbers by length, longest first: little padding, and what does not fit into memory fails at once."""
    budget = CPU_BATCH if lens.device.type == "cpu" else GPU_BATCH
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    while order:
        n_rows = max(1, budget // len(rows[order[0]]))
        yield order[:n_rows]
        order = order[n_rows:]


@torch.inference_mode()
def _last_positions(
    lens: Lens, rows: Sequence[Sequence[int]], table: tuple[Tensor, Tensor]
) -> tuple[Float[Tensor, "row layer heads_d_head"], Float[Tensor, "row layer d_model"]]:
    """One pass without the unembedding: what enters each `o_proj` and what leaves each layer, at each row's end.

    Padding is on the left, so the last position is a real one. `table`: of the rotary embedding.
    """
    tokens, real = lens.pad(rows)
    where, mask = positions(tokens, real), sight(real)
    rotary, hidden = (table[0][where], table[1][where]), lens.embed(tokens)
    heads, residual = [], []
    for layer, block in enumerate(lens.blocks):
        z = block.heads(hidden, rotary, OnePass(), layer, mask)
        if layer == len(lens.blocks) - 1:  # nothing reads the other positions any more
            z, hidden = z[:, -1:], hidden[:, -1:]
        hidden = hidden + block.written(z)
        hidden = hidden + block.mlp(hidden)
        heads.append(z[:, -1].clone())  # a view of one position would keep all of them in memory
        residual.append(hidden[:, -1].clone())
    return torch.stack(heads, dim=1), torch.stack(residual, dim=1)
