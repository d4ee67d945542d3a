"""What did it do, and what did it cost? Scorers, measures, sweeps over checkpoints, and comparisons with intervals."""

import lens.terminal  # noqa: F401  # first: it answers Ctrl-C while all else is imported
