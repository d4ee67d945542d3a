"""What did it do, and what did it cost? Scorers, measures, sweeps over checkpoints, and comparisons with intervals."""
