"""Scripts that measure, and print what they found beside named baselines of the same run."""
