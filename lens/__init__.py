"""Look inside a checkpoint."""

from lens.checkpoint import BrokenCheckpoint, Catalogue, Checkpoint, NoSuchCheckpoint, find
from lens.head import Head, HeadGrid
from lens.model import EmptyPrompt, HubUnreachable, Lens, PromptTooLong, open_lens, positions

__all__ = [
    "BrokenCheckpoint",
    "Catalogue",
    "Checkpoint",
    "EmptyPrompt",
    "Head",
    "HeadGrid",
    "HubUnreachable",
    "Lens",
    "NoSuchCheckpoint",
    "PromptTooLong",
    "find",
    "open_lens",
    "positions",
]
