"""Written texts as a terminal shows them, and as JSON lines."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

from lens import Lens
from steering.generate import Row, Step
from steering.notes import ending_note, prompt_notes
from steering.sampling import Sampling

ORDERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control characters other than the new line, halves of characters, and marks that reorder what stands around them."""


def page(rows: Sequence[Row], step: Step, hide: Callable[[str], str]) -> str:
    """Every row's text behind its prompt, under its strength; below it, why it ended where nobody wanted it to."""
    notes = [ending_note(ending, step.n_context) for ending in step.ended]
    return "\n".join(
        f"{title(row)}\n{hide(harmless(row.prompt + text))}\n" + f"({note})\n" * bool(note)
        for row, text, note in zip(rows, step.texts, notes, strict=True)
    )


def notes_on(lens: Lens, prompts: Sequence[str]) -> list[str]:
    """What should be known of the prompts, each note once."""
    notes = Counter(note for prompt in prompts for note in prompt_notes(lens, prompt))
    return [f"{f'{n} of {len(prompts)} prompts. ' if len(prompts) > 1 else ''}{note}" for note, n in notes.items()]


def title(row: Row) -> str:
    """What steers a row, in a few words."""
    words = []
    for dose in row.doses:
        rule = dose.steering.plan.rule
        if dose.strength and dose.steering.plan.method == "iti":
            words.append(f"{dose.strength:g} sigmas")
        elif dose.strength:
            words.append(f"{rule.name} at {dose.strength:g}" if rule.where else "asked in words")
    return f"— {' + '.join(words) or 'plain'}{f', sample {row.sample}' * bool(row.sample)} —"


def strengths(row: Row) -> dict[str, float]:
    """By method, or by plan where two have one method; what is named alike adds up, as it does while a text grows."""
    methods = [dose.steering.plan.method for dose in row.doses]
    twice = len(set(methods)) < len(methods)
    found: dict[str, float] = {}
    for dose in row.doses:
        name = str(dose.steering.plan) if twice else dose.steering.plan.method
        found[name] = found.get(name, 0.0) + dose.strength
    return found


def harmless(text: str) -> str:
    """What a model writes may hold orders that a terminal would obey; every other character is shown."""
    return ORDERS.sub("\ufffd", text.replace("\t", " "))


def json_lines(rows: Sequence[Row], step: Step, sampling: Sampling) -> str:
    """One object per row, with its whole receipt and how its words were drawn: enough to write it again."""
    return "\n".join(
        json.dumps(
            {
                "prompt": row.prompt,
                "strengths": strengths(row),
                "sample": row.sample,
                "text": text,
                "n_tokens": n_tokens,
                "done": ended is not None,
                "ended": ended,
                "sampling": asdict(sampling),
                "receipt": receipt.to_dict(),
            }
        )
        for row, text, n_tokens, ended, receipt in zip(
            rows, step.texts, step.n_tokens, step.ended, step.receipts, strict=True
        )
    )
