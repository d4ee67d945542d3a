"""Where is toxicity written?"""

from probes.direction import Direction, Kind, direction, layer_direction
from probes.estimate import Difference, Estimate, auc, bootstrap_mean, paired_difference, unpaired_difference, wilson
from probes.fits import Fits, NotConverged
from probes.lexicon import Lexicon, mask
from probes.probe import Comparison, ProbeSet, compare, fit_probes, probe_checkpoint
from probes.store import BrokenProbes, NoProbes, StaleProbes, saved
from probes.texts import RULES, BadTexts, LabelledText, TextSet, builtin, open_texts, read_texts, read_toxigen, split

__all__ = [
    "RULES",
    "BadTexts",
    "BrokenProbes",
    "Comparison",
    "Difference",
    "Direction",
    "Estimate",
    "Fits",
    "Kind",
    "LabelledText",
    "Lexicon",
    "NoProbes",
    "NotConverged",
    "ProbeSet",
    "StaleProbes",
    "TextSet",
    "auc",
    "bootstrap_mean",
    "builtin",
    "compare",
    "direction",
    "fit_probes",
    "layer_direction",
    "mask",
    "open_texts",
    "paired_difference",
    "probe_checkpoint",
    "read_texts",
    "read_toxigen",
    "saved",
    "split",
    "unpaired_difference",
    "wilson",
]
