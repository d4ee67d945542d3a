"""Make the checkpoints: corpus → tokens → mix → pretrain → export."""

import lens.terminal  # noqa: F401  # first: it answers Ctrl-C while all else is imported
