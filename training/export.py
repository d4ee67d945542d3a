"""A trained OLMo becomes a plain Hugging Face folder with a card, and only if both models say the same."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from olmo.model import OLMo
from tokenizers import Tokenizer
from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

from lens.checkpoint import CARD
from lens.files import flush_folder, write_atomically
from training.recipe import Recipe, model_config
from training.tokens import END_OF_TEXT, PADDING, special_ids

TOLERANCE = 1e-5
CHUNKS_COMPARED = 4


class ExportError(ValueError):
    """The exported model does not say what the trained one says."""


def export(
    step: Path,
    recipe: Recipe,
    tokenizer: Tokenizer,
    texts: Mapping[str, np.ndarray],
    card: Mapping[str, Any],
    folder: Path,
) -> Path:
    """Write `folder` from a trained step: bfloat16 weights, tokenizer, card.

    `texts` are held-out chunks by name, [n_chunks context]: their losses, before and after the cast, go on the card,
    and the first of them decide whether the two models agree (float32, largest difference of any logit 1e-5).
    """
    trained = _trained(step, recipe, tokenizer)
    exported = to_hugging_face(trained, recipe, tokenizer)
    compared = next(iter(texts.values()))[:CHUNKS_COMPARED]
    difference = _difference(trained, exported, compared)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"Logits of the exported model miss the trained one's by {difference:.2g} (allowed: {TOLERANCE}). "
            f"Nothing was written to {folder}."
        )
    float32 = {name: loss(exported, chunks) for name, chunks in texts.items()}
    exported = exported.to(torch.bfloat16)
    bfloat16 = {name: loss(exported.float(), chunks) for name, chunks in texts.items()}
    exported = exported.to(torch.bfloat16)
    losses = {name: {"float32": float32[name], "bfloat16": bfloat16[name]} for name in texts}
    details = {"nats_per_token": losses, "largest_logit_difference": difference, **_circumstances()}
    return _write(exported, tokenizer, {**card, **details}, folder)


def to_hugging_face(trained: OLMo, recipe: Recipe, tokenizer: Tokenizer) -> OlmoForCausalLM:
    """The same float32 numbers under Hugging Face's names: q, k, v apart; the SwiGLU's halves are up, then gate."""
    eos, pad = special_ids(tokenizer)
    config = OlmoConfig(
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
    model = OlmoForCausalLM(config)
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
    model.load_state_dict(torch.load(step / "model.pt", weights_only=True, map_location="cpu"))
    return model.eval()


@torch.inference_mode()
def _difference(trained: OLMo, exported: OlmoForCausalLM, chunks: np.ndarray) -> float:
    ids = torch.from_numpy(chunks.astype(np.int64))
    return (trained(input_ids=ids).logits - exported(ids).logits).abs().max().item()


def _circumstances() -> dict[str, Any]:
    git = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "git_revision": git.stdout.strip() or None,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def _write(model: OlmoForCausalLM, tokenizer: Tokenizer, card: Mapping[str, Any], folder: Path) -> Path:
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
    write_atomically(aside / CARD, json.dumps(card, indent=1))
    for file in aside.iterdir():
        file.chmod(0o644)  # transformers keeps weights to their owner; a server may run as somebody else
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(aside, folder)
    flush_folder(folder.parent)
    return folder
