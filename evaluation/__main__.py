"""Evaluation at a terminal.

python -m evaluation sweep --checkpoints checkpoints/demo-* --plans none iti@8 --prompts builtin --out results/mine
"""

from __future__ import annotations

import tyro

from evaluation.commands.ability import ability
from evaluation.commands.agree import agree
from evaluation.commands.compare import compare
from evaluation.commands.fit_scorer import fit_scorer
from evaluation.commands.reproduce import reproduce
from evaluation.commands.score import score
from evaluation.commands.sweep import sweep
from evaluation.commands.transfer import transfer
from lens.terminal import Command, run_command

AGAIN = "Nothing was written; give the same command again."
GOES_ON = "What was measured is kept in --out; the same command goes on there."
COMMANDS = {
    "sweep": Command(sweep, GOES_ON),
    "compare": Command(compare, "Some files may be of before; the same command writes all of them again."),
    "reproduce": Command(reproduce, "Some files may be of before; the same command writes all of them again."),
    "score": Command(
        score, "The scores above are whole lines, in the order of the file; asked again, the cache answers."
    ),
    "fit-scorer": Command(
        fit_scorer, "Unless its version is printed above, no scorer was written; give the same command again."
    ),
    "agree": Command(agree, AGAIN),
    "ability": Command(
        ability, "With --out, what was measured is kept there and the same command goes on; else it begins again."
    ),
    "transfer": Command(
        transfer, "With --out, the lines above are kept there; give the same command with the other checkpoints."
    ),
}


def main() -> None:
    """What `python -m evaluation` runs."""
    run_command(COMMANDS, "python -m evaluation", config=(tyro.conf.FlagCreatePairsOff,))


if __name__ == "__main__":
    main()
