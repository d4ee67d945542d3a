"""Written texts as a terminal shows them, and as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from steering.generate import Row, Step


def page(rows: Sequence[Row], step: Step, hide: Callable[[str], str]) -> str:
    """Every row's text behind its prompt, under its strength."""
    return "\n".join(
        f"{title(row)}\n{hide(harmless(row.prompt + text))}\n" for row, text in zip(rows, step.texts, strict=True)
    )


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


def harmless(text: str) -> str:
    """What a model writes may hold control characters; a terminal would obey them."""
    return "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" else "\ufffd" for c in text)


def json_lines(rows: Sequence[Row], step: Step) -> str:
    """One object per row, with its whole receipt."""
    return "\n".join(
        json.dumps(
            {
                "prompt": row.prompt,
                "strengths": {dose.steering.plan.method: dose.strength for dose in row.doses},
                "sample": row.sample,
                "text": text,
                "n_tokens": n_tokens,
                "done": done,
                "receipt": receipt.to_dict(),
            }
        )
        for row, text, n_tokens, done, receipt in zip(
            rows, step.texts, step.n_tokens, step.done, step.receipts, strict=True
        )
    )
