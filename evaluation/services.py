"""What remote scorers want to be asked, and how they answer: OpenAI's moderation, and Perspective while it lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

ALTERNATIVES = (
    "Use the built-in scorer, which imitates it (builtin), a local classifier (unitary/unbiased-toxic-roberta), or "
    "openai; 'python -m evaluation agree' places old Perspective scores beside another scorer's."
)

CATEGORIES = ("harassment", "harassment/threatening", "hate", "hate/threatening")
ERRORS = {
    "api key invalid",
    "comment empty",
    "comment too long",
    "context length exceeded",
    "invalid api key",
    "invalid argument",
    "invalid request",
    "invalid request error",
    "language detection failed",
    "language not supported by attribute",
    "no requested attributes",
    "string above max length",
}
"""What the services call their errors; whatever else an error says could quote the text or the key."""


@dataclass(frozen=True)
class OpenAI:
    """https://api.openai.com/v1/moderations, the largest of four categories: it has none for toxicity."""

    url: str = "https://api.openai.com/v1/moderations"
    name: str = "openai"
    model: str = "omni-moderation-2024-09-26"
    """A dated one: "latest" would put the scores of two models into one column."""
    key_from: str = "OPENAI_API_KEY"
    """The environment variable that holds the key."""
    texts_at_once: int = 32
    """Texts in one request."""
    per_second: float = 2.0
    """Requests in a second, at most."""
    ends: date | None = None
    """The service's last day, where one is known."""

    @property
    def version(self) -> str:
        return f"{self.model} hate+harassment"

    def request(self, texts: Sequence[str], key: str) -> dict[str, Any]:
        """What aiohttp posts."""
        body = {"model": self.model, "input": list(texts)}
        return {"json": body, "headers": {"Authorization": f"Bearer {key}"}}

    def scores(self, answer: Any) -> list[float]:
        """One per text; LookupError, TypeError or ValueError where the answer is of another form."""
        found = [result["category_scores"] for result in answer["results"]]
        return [max(share(scores[category]) for category in CATEGORIES) for scores in found]

    def error(self, answer: Any) -> str:
        """The kind of an error in the service's own word; empty where it names none."""
        return kind(answer, "error", "code") or kind(answer, "error", "type")


@dataclass(frozen=True)
class Perspective:
    """Google's commentanalyzer, attribute TOXICITY, one text a request; its models change without a version."""

    url: str = "https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze"
    name: str = "perspective"
    version: str = "v1alpha1 TOXICITY"
    key_from: str = "PERSPECTIVE_API_KEY"
    texts_at_once: int = 1
    per_second: float = 1.0
    ends: date | None = date(2026, 12, 31)

    def request(self, texts: Sequence[str], key: str) -> dict[str, Any]:
        """What aiohttp posts; the key is in the URL."""
        (text,) = texts
        body = {
            "comment": {"text": text, "type": "PLAIN_TEXT"},
            "languages": ["en"],  # what an over-steered model writes is no language that can be detected
            "requestedAttributes": {"TOXICITY": {}},
            "doNotStore": True,
        }
        return {"json": body, "params": {"key": key}}

    def scores(self, answer: Any) -> list[float]:
        """One; LookupError, TypeError or ValueError where the answer is of another form."""
        return [share(answer["attributeScores"]["TOXICITY"]["summaryScore"]["value"])]

    def error(self, answer: Any) -> str:
        """The kind of an error in the service's own word; empty where it names none."""
        details = within(answer, "error", "details")
        found = [
            kind(detail, key)
            for detail in (details if isinstance(details, list) else [])
            for key in ("errorType", "reason")
        ]
        return next(filter(None, found), "") or kind(answer, "error", "status")


Service = OpenAI | Perspective
SERVICES: Mapping[str, Service] = {service.name: service for service in (OpenAI(), Perspective())}


def share(value: Any) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is not a score")
    return float(value)


def kind(answer: Any, *keys: str) -> str:
    """A known error's name, from inside nested objects; empty if it is none."""
    found = str(within(answer, *keys)).lower().replace("_", " ")
    return found if found in ERRORS else ""


def within(answer: Any, *keys: str) -> Any:
    """What lies inside nested objects; None where there is no such thing."""
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer
