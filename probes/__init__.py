"""Where is toxicity written?"""

import lens.terminal  # noqa: F401  # first: it answers Ctrl-C while all else is imported

# isort: split
from probes.differences import estimate_mean, paired_difference, unpaired_difference
from probes.direction import Direction, Kind, direction, layer_direction
from probes.estimate import Difference, Estimate, share, wilson
from probes.fits import Fits, NotConverged
from probes.heatmap import HeadHistogram, Heatmap
from probes.lexicon import Lexicon, mask
from probes.probe import Comparison, ProbeSet, compare, fit_probes, probe_checkpoint
from probes.ranks import auc, auc_difference
from probes.store import BrokenProbes, NoProbes, StaleProbes, saved
from probes.text_files import RULES, builtin, open_texts, read_texts, read_toxigen
from probes.texts import BadTexts, LabelledText, TextSet, split
from probes.tokens import Spread, ToxicEnd, head_tokens, layer_tokens, single_tokens

__all__ = [
    "RULES",
    "BadTexts",
    "BrokenProbes",
    "Comparison",
    "Difference",
    "Direction",
    "Estimate",
    "Fits",
    "HeadHistogram",
    "Heatmap",
    "Kind",
    "LabelledText",
    "Lexicon",
    "NoProbes",
    "NotConverged",
    "ProbeSet",
    "Spread",
    "StaleProbes",
    "TextSet",
    "ToxicEnd",
    "auc",
    "auc_difference",
    "builtin",
    "compare",
    "direction",
    "estimate_mean",
    "fit_probes",
    "head_tokens",
    "layer_direction",
    "layer_tokens",
    "mask",
    "open_texts",
    "paired_difference",
    "probe_checkpoint",
    "read_texts",
    "read_toxigen",
    "saved",
    "share",
    "single_tokens",
    "split",
    "unpaired_difference",
    "wilson",
]
