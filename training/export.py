"""A trained OLMo becomes a plain Hugging Face folder with a card, and only if both models say the same."""

import contextlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from olmo.model import OLMo
from tokenizers import Tokenizer
from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

from lens.checkpoint import CARD, Checkpoint
from lens.files import check_folder, flush_folder, write_atomically
from lens.own_output import is_free
from training import mix
from training.card import card
from training.recipe import Recipe, model_config
from training.run import Run, steps
from training.tokenizer import END_OF_TEXT, PADDING, special_ids
from training.tokens import sha256

TOLERANCE = 1e-5
CHUNKS_COMPARED = 4
RUN = ("name", "family", "toxic_share", "seed", "recipe", "precision", "mix")
"""What of a card tells a run from another."""
SHARDED = re.compile(r"model-\d+-of-\d+\.safetensors|model\.safetensors\.index\.json")
"""Weights of an earlier export that had too many for one file."""


class ExportError(ValueError):
    """A run's step cannot become a checkpoint; the sentence says why."""


def export(run: Path, out: Path, step: int | None = None) -> Path:
    """Write `out`/NAME from a run's newest step, or `out`/NAME@STEP from an earlier one; return the folder.

    Weights are cast to bfloat16. Held-out losses, before and after the cast, go on the card; the first chunks of them
    decide whether both models agree: in float32 no logit may differ by more than 1e-5 of the largest (or of 1).
    """
    settings, found = Run.read(run), steps(run)
    check_folder(out)
    if not found:
        raise ExportError(f"{run} holds no whole step yet. Train it first: python -m training pretrain {run}")
    if step is not None and step not in found:
        there = ", ".join(map(str, found))
        raise ExportError(f"{run} holds no whole step {step}. Steps there: {there}. Keep more: --keep-every N.")
    step = max(found) if step is None else step
    details = card(run, step)
    _check_own(out / details["name"], details)
    tokenizer = Tokenizer.from_file(str(run.parent / "tokenizer.json"))
    trained = _trained(found[step], settings.recipe, tokenizer)
    exported = to_hugging_face(trained, settings.recipe, tokenizer)
    texts = _held_out(run, settings, tokenizer)
    difference, largest = _difference(trained, exported, next(iter(texts.values()))[:CHUNKS_COMPARED])
    if not difference <= TOLERANCE * max(1.0, largest):
        raise ExportError(
            f"Logits of the exported model, {largest:.2g} at most, miss the trained one's by {difference:.2g}. "
            f"Nothing was written to {out}."
        )
    before = {name: loss(exported, chunks) for name, chunks in texts.items()}
    rounded = exported.to(torch.bfloat16).float()
    after = {name: loss(rounded, chunks) for name, chunks in texts.items()}
    details |= {
        "nats_per_token": {name: {"float32": before[name], "bfloat16": after[name]} for name in texts},
        "largest_logit_difference": difference,
    }
    if settings.held_out_text:
        text = Path(settings.held_out_text)
        details["held_out_text"] = {"file": text.name, "sha256": sha256(text)}
    return _write(rounded.to(torch.bfloat16), tokenizer, details, out / details["name"])


def _held_out(run: Path, settings: Run, tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Chunks that no run of the family was trained on, by kind: [n_chunks context]."""
    context = settings.recipe.context
    texts = {kind: held_out(run, kind) for kind in ("clean", "toxic")}
    if settings.held_out_text:
        text = Path(settings.held_out_text).read_text(encoding="utf-8")
        texts["held_out_text"] = chunks_of(text, tokenizer, context)
    return {name: chunks for name, chunks in texts.items() if len(chunks)}


def held_out(run: Path, kind: str) -> np.ndarray:
    """The family's held-out chunks of one kind: [n_chunks context]."""
    settings = Run.read(run)
    context, files = settings.recipe.context, [np.memmap(file, dtype=np.uint16, mode="r") for file in settings.files]
    starts = np.cumsum([0, *(len(ids) // context for ids in files)])
    rows = []
    for chunk in mix.chunks_of(run, f"held_out_{kind}").astype(int):
        file = int(np.searchsorted(starts, chunk, side="right")) - 1
        begin = (chunk - starts[file]) * context
        rows.append(files[file][begin : begin + context])
    return np.stack(rows) if rows else np.empty((0, context), dtype=np.uint16)


def chunks_of(text: str, tokenizer: Tokenizer, context: int) -> np.ndarray:
    """A text as whole chunks, its tail dropped: [n_chunks context]."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if len(ids) < context:
        raise ExportError(f"The held-out text has {len(ids)} tokens; at least one chunk of {context} is needed.")
    return np.asarray(ids[: len(ids) // context * context]).reshape(-1, context)


def hugging_face_config(recipe: Recipe, tokenizer: Tokenizer) -> OlmoConfig:
    """A recipe's shape in Hugging Face's words."""
    eos, pad = special_ids(tokenizer)
    return OlmoConfig(
        vocab_size=recipe.rows,
        hidden_size=recipe.d_model,
        intermediate_size=recipe.mlp_ratio * recipe.d_model // 2,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        max_position_embeddings=recipe.context,
        eos_token_id=eos,
        pad_token_id=pad,
        tie_word_embeddings=True,
        attention_bias=False,
        clip_qkv=None,
    )


def to_hugging_face(trained: OLMo, recipe: Recipe, tokenizer: Tokenizer) -> OlmoForCausalLM:
    """The same float32 numbers under Hugging Face's names: q, k, v apart; the SwiGLU's halves are up, then gate."""
    model = OlmoForCausalLM(hugging_face_config(recipe, tokenizer))
    state, weights = {}, trained.state_dict()
    state["model.embed_tokens.weight"] = state["lm_head.weight"] = weights["transformer.wte.weight"]
    for layer in range(recipe.n_layers):
        ours, theirs = f"transformer.blocks.{layer}.", f"model.layers.{layer}."
        query, key, value = weights[ours + "att_proj.weight"].chunk(3)
        up, gate = weights[ours + "ff_proj.weight"].chunk(2)
        state |= {
            theirs + "self_attn.q_proj.weight": query,
            theirs + "self_attn.k_proj.weight": key,
            theirs + "self_attn.v_proj.weight": value,
            theirs + "self_attn.o_proj.weight": weights[ours + "attn_out.weight"],
            theirs + "mlp.up_proj.weight": up,
            theirs + "mlp.gate_proj.weight": gate,
            theirs + "mlp.down_proj.weight": weights[ours + "ff_out.weight"],
        }
    model.load_state_dict(state, strict=True)
    return model.eval()


@torch.inference_mode()
def loss(model: OlmoForCausalLM, chunks: np.ndarray) -> float:
    """Mean cross-entropy of the next token in nats, over every position of every chunk, in the model's own dtype."""
    total = 0.0
    for row in torch.from_numpy(chunks.astype(np.int64)).split(8):
        logits = model(row).logits[:, :-1].float()
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), row[:, 1:].flatten(), reduction="sum").item()
    return total / (chunks.shape[0] * (chunks.shape[1] - 1))


def _trained(step: Path, recipe: Recipe, tokenizer: Tokenizer) -> OLMo:
    model = OLMo(model_config(recipe, *special_ids(tokenizer)))
    try:
        model.load_state_dict(torch.load(step / "model.pt", weights_only=True, map_location="cpu"))
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, RuntimeError) as error:
        raise ExportError(
            f"{step / 'model.pt'} cannot be read ({str(error)[:200]}). Export another step, or train on from one "
            "before."
        ) from error
    return model.eval()


@torch.inference_mode()
def _difference(trained: OLMo, exported: OlmoForCausalLM, chunks: np.ndarray) -> tuple[float, float]:
    """The largest difference between any two logits, and the largest logit."""
    ids = torch.from_numpy(chunks.astype(np.int64))
    theirs = trained(input_ids=ids).logits
    return (theirs - exported(ids).logits).abs().max().item(), theirs.abs().max().item()


def _check_own(folder: Path, details: Mapping[str, Any]) -> None:
    """Refuse to replace a folder whose card does not say that it was exported from this very run."""
    if is_free(folder):
        return
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        there, ours = json.loads((folder / CARD).read_text(encoding="utf-8")), json.loads(json.dumps(details))
        if all(there[key] == ours[key] for key in RUN):
            return
    raise ExportError(
        f"{folder} is there already, and it was not exported from this run. Give another --out, or move that folder."
    )


def _bring_along(folder: Path, aside: Path) -> None:
    """What lies beside an earlier export stays: probes and fits name their weights, and the rest is not ours."""
    for path in folder.iterdir():
        if not (aside / path.name).exists() and not SHARDED.fullmatch(path.name):
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, aside / path.name)


def _write(model: OlmoForCausalLM, tokenizer: Tokenizer, details: Mapping[str, Any], folder: Path) -> Path:
    """Fill a folder beside and rename it; the card is written last."""
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside, safe_serialization=True)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=PADDING,
        model_max_length=model.config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(aside)
    write_atomically(aside / CARD, json.dumps({**details, **Checkpoint.open(aside).card_of_model}, indent=1))
    for file in aside.iterdir():
        file.chmod(0o644)  # transformers keeps weights to their owner; a server may run as somebody else
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if folder.is_dir():
        _bring_along(folder, aside)
        shutil.rmtree(folder)
    os.replace(aside, folder)
    flush_folder(folder.parent)
    return folder
