"""Look inside a checkpoint."""

import lens.terminal  # noqa: F401  # first: it answers Ctrl-C while all else is imported

# isort: split
from lens.activations import Activations, NoActivations, digest_texts, gather
from lens.checkpoint import BrokenCheckpoint, Catalogue, Checkpoint, NoSuchCheckpoint, find
from lens.files import write_atomically
from lens.head import Head, HeadGrid
from lens.model import EmptyPrompt, Lens, PromptTooLong, positions
from lens.opening import HubUnreachable, open_lens
from lens.pool import LensPool, NotEnoughMemory
from lens.vocabulary import NearToken, cosines, head_to_residual, nearest_tokens, random_nearest
from lens.weights import ChangedWeights

__all__ = [
    "Activations",
    "BrokenCheckpoint",
    "Catalogue",
    "ChangedWeights",
    "Checkpoint",
    "EmptyPrompt",
    "Head",
    "HeadGrid",
    "HubUnreachable",
    "Lens",
    "LensPool",
    "NearToken",
    "NoActivations",
    "NoSuchCheckpoint",
    "NotEnoughMemory",
    "PromptTooLong",
    "cosines",
    "digest_texts",
    "find",
    "gather",
    "head_to_residual",
    "nearest_tokens",
    "open_lens",
    "positions",
    "random_nearest",
    "write_atomically",
]
