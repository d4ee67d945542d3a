"""What lies beside baked weights: the card that Hormesis reads, and a README for whoever finds the folder."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lens import Lens
from steering.cost import Cost
from steering.dose import Dose, Doses

TRAINED = ("toxic_share", "share_of", "seed", "n_tokens", "n_parameters", "recipe", "mix")
"""What the parent's card knows of its training is true of its steered child too; its losses are not."""
README = """\
---
library_name: transformers
pipeline_tag: text-generation
---
# {name}

{parent} with steering in its weights: a plain Hugging Face OLMo model that needs no other software.

{doses}

Weights that it was made from (SHA-256): {fingerprint}

Every position is steered, those of the prompt too. Steering from the last prompt position on, as in Li et al. 2023,
leaves the earlier ones alone, so the same strength gives other words there.

Measured on {price.n_tokens:,} tokens of plain prose, with 95 % bootstrap intervals over n windows:

- cross-entropy in nats per token: {price.cross_entropy}; before: {price.plain}
- KL(before ‖ now) in nats per token: {price.kl}

Compared with {parent} under hooks, in float32{rounded}, no logit differs by more than {difference:.1g}.
`checkpoint.json` holds the plans in full.
"""


def card(lens: Lens, doses: Doses, name: str, difference: float, price: Cost) -> dict[str, Any]:
    """The content of `checkpoint.json`: whose child it is, what was baked in, and what that costs."""
    parent = lens.checkpoint
    return {
        "name": name,
        "parent": {"name": parent.name, "fingerprint": lens.fingerprint},
        **{key: parent.card[key] for key in TRAINED if key in parent.card},
        "steering": [
            {
                "plan": asdict(dose.steering.plan),
                "strength": dose.strength,
                "fitted_on": dose.steering.fitted_on,
                "edits": _names(dose),
            }
            for dose in doses
        ],
        "nats_per_token": {"baked": asdict(price.cross_entropy), "before": asdict(price.plain)},
        "kl": asdict(price.kl),
        "n_tokens_scored": price.n_tokens,
        "largest_logit_difference": difference,
    }


def readme(lens: Lens, doses: Doses, name: str, difference: float, price: Cost, dtype: str) -> str:
    """The same for people."""
    lines = [
        f"- {dose.steering.plan}, at {dose.strength:g} {dose.steering.plan.rule.unit}: {' '.join(_names(dose))}"
        for dose in doses
    ]
    return README.format(
        name=name,
        parent=lens.checkpoint.name,
        fingerprint=lens.fingerprint,
        doses="\n".join(lines),
        price=price,
        difference=difference,
        rounded=""
        if dtype == "float32"
        else f" and with the pushes as {dtype} rounds them (the cost is of unrounded ones)",
    )


def _names(dose: Dose) -> list[str]:
    return [edit.name for edit in dose.steering.edits]
