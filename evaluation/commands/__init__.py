"""What `python -m evaluation` can do, a verb per file."""
