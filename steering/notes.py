"""What a person should know about a prompt, a receipt's number format and the end of a text, in sentences."""

from __future__ import annotations

import math
from typing import Literal

import torch

from lens import Lens

Ending = Literal["end token", "length", "context"]
"""Why a text ended: the model wrote a token that ends it, it is as long as was asked, or the model reads no more."""


def prompt_notes(lens: Lens, prompt: str) -> tuple[str, ...]:
    """What the prompt's characters do that its reader may not expect."""
    return tuple(_special_tokens(lens, prompt) + _trailing_blank(prompt))


def _special_tokens(lens: Lens, prompt: str) -> list[str]:
    """A special token that is written out is read as that token, as Hugging Face reads it."""
    special = {id: token.content for id, token in lens.tokenizer.added_tokens_decoder.items() if token.special}
    return [
        f"{token} in the prompt is read as one token{', which ends a text' * (id in lens.end_tokens)}, not as the "
        f"{len(token)} characters that it is written with."
        for id, token in special.items()
        if token in prompt
    ]


def _trailing_blank(prompt: str) -> list[str]:
    if not prompt.strip() or prompt == prompt.rstrip(" \t\u00a0"):
        return []
    return [
        "The prompt ends in a blank. A token of this model begins with the blank before its word, so what follows such "
        "a prompt is unusual text: leave the blank away."
    ]


def rounding_note(dtype: str, tolerance: float) -> str:
    """How far a measured displacement may be from the requested one; of float32 there is nothing to say."""
    if dtype == "float32":
        return ""
    digits = int(-math.log10(torch.finfo(getattr(torch, dtype)).eps))
    return (
        f"A {dtype} number has about {digits} digits, so what was asked and what was measured may differ by up to "
        f"{tolerance:.2g} here."
    )


def ending_note(ended: Ending | None, n_context: int) -> str:
    """Said of a text that ended although neither the model nor the person wanted it to."""
    return f"stopped at the model's limit of {n_context:,} tokens" if ended == "context" else ""
