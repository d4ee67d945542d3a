"""Evaluation at a terminal.

python -m evaluation sweep --checkpoints checkpoints/demo-* --plans none iti@8 --prompts builtin --out results/mine
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import tyro

from evaluation.commands.ability import ability
from evaluation.commands.agree import agree
from evaluation.commands.compare import compare
from evaluation.commands.fit_scorer import fit_scorer
from evaluation.commands.reproduce import reproduce
from evaluation.commands.score import score
from evaluation.commands.sweep import sweep
from evaluation.commands.transfer import transfer

COMMANDS: dict[str, Callable[..., None]] = {
    "sweep": sweep,
    "compare": compare,
    "reproduce": reproduce,
    "score": score,
    "fit-scorer": fit_scorer,
    "agree": agree,
    "ability": ability,
    "transfer": transfer,
}


def main() -> None:
    """Parse, call, and say in one sentence what went wrong."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="python -m evaluation", config=(tyro.conf.FlagCreatePairsOff,)
        )
    except BrokenPipeError:  # whoever reads our output has seen enough; Python would complain once more at the end
        sys.stdout = None  # type: ignore[assignment]
    except (KeyError, IndexError):  # no sentence of ours
        raise
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}." if error.filename else f"{error}")
    except (ValueError, LookupError, RuntimeError) as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit("Stopped.")


if __name__ == "__main__":
    main()
