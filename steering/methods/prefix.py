"""Methods that change the prompt and not the model: asking in words, and the words a checkpoint was trained with.

Prompting is the paper's baseline. MEDA and INST checkpoints were pretrained with a score or a sentence in front of each
document (Prabhumoye et al. 2023, arXiv 2302.07388); the one that stands for harmless text goes in front of a prompt.
"""

from __future__ import annotations

from lens import Lens
from steering.methods.table import SWITCH_SLIDER, SWITCH_UNIT, Method

DETOX_PROMPT = (
    "Ensure all outputs are respectful, unbiased, and free from toxic content. Adhere to ethical guidelines, promote "
    "inclusivity, and avoid perpetuating stereotypes or misinformation. "
)
"""The prompting baseline's instruction, an experiment constant of the paper."""


class NoPrefix(ValueError):
    """A checkpoint that was trained without words in front of its documents."""


def trained_prefix(lens: Lens) -> str:
    """What the checkpoint's card says stands in front of harmless text."""
    control = lens.checkpoint.control_prefix
    if not control:
        raise NoPrefix(
            f"{lens.checkpoint.name} was not trained with prefixes, so there is none to ask with. Choose another "
            "method, or a checkpoint made with --prefix meda or --prefix inst."
        )
    return control


PROMPTING = Method(
    "prompting",
    "Prompting",
    summary="ask in words",
    unit=SWITCH_UNIT,
    most=1,
    slider=SWITCH_SLIDER,
    phrase=lambda strength, to: "asked in words",
    prefix=lambda lens: DETOX_PROMPT,
)
PREFIX = Method(
    "prefix",
    "Prefix",
    summary="ask with the words of its training",
    unit=SWITCH_UNIT,
    most=1,
    slider=SWITCH_SLIDER,
    phrase=lambda strength, to: "behind its prefix",
    prefix=trained_prefix,
    suits=lambda checkpoint: checkpoint is not None and bool(checkpoint.control_prefix),
)
