"""Threads and posts of 4chan: HTML taken off in the right order, scores kept, one document per thread or per post."""

import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.document import Document, Ledger, Reading
from training.minors import about_minors

BETWEEN_POSTS = "\n\n"

# No pattern may look past the next `<`: with `.*?` a post of many opened tags would take quadratic time.
WORD_BREAK = re.compile(r"<wbr\s*/?>", re.IGNORECASE)
LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
QUOTE_LINK = re.compile(r"<a\b[^<>]*>\s*&gt;&gt;[^<]*</a>", re.IGNORECASE)
TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
BARE_QUOTE = re.compile(r"^>>\d+[ \t]*$", re.MULTILINE)


def clean_post(comment: str) -> str:
    """The words of a 4chan comment, without its HTML.

    The order matters: `<wbr>` splits URLs and goes first; entities are undone last, because a literal `&lt;` undone
    earlier would be eaten as a tag. Addresses and green lines (`>like this`) stay; links to other posts go.
    """
    text = LINE_BREAK.sub("\n", WORD_BREAK.sub("", comment))
    text = html.unescape(TAG.sub("", QUOTE_LINK.sub("", text)))
    return BARE_QUOTE.sub("", text).strip()


def posts_of_thread(row: Mapping[str, Any]) -> list[Document]:
    """The posts of an archived thread, `{"posts": [{"com": ..., "perspectives": {...}}, ...]}`; both may be missing."""
    if not isinstance(row["posts"], list):
        raise TypeError("'posts' is no list")
    return [_post(post) for post in row["posts"]]


def posts_of_plain_thread(text: str) -> list[Document]:
    """The posts of a thread that comes as text, without HTML, an empty line between them."""
    return [Document(BARE_QUOTE.sub("", post).strip()) for post in text.split(BETWEEN_POSTS)]


def toxicity_of(scored: Mapping[str, Any]) -> float | None:
    """The TOXICITY among an object's `perspectives`, if it was scored."""
    scores = scored.get("perspectives")
    if scores is None:
        return None
    if not isinstance(scores, Mapping):
        raise TypeError("'perspectives' is no object")
    score = scores.get("TOXICITY")
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise ValueError("the TOXICITY of 'perspectives' is no number from 0 to 1")
    return float(score)


def as_documents(posts: Sequence[Document], reading: Reading, ledger: Ledger) -> Iterator[Document]:
    """A thread as one document or as one per post, without the posts that have no text or speak sexually of minors."""
    with_text = [post for post in posts if post.text]
    kept = [post for post in with_text if not about_minors(post.text)]
    n_empty, n_minors = len(posts) - len(with_text), len(with_text) - len(kept)
    ledger.posts += len(posts)
    ledger.posts_without_text += n_empty
    ledger.posts_about_minors += n_minors
    if reading.document == "post":
        ledger.read += len(posts)
        ledger.without_text += n_empty
        ledger.about_minors += n_minors
        yield from kept
        return
    ledger.read += 1
    if kept:
        yield Document(BETWEEN_POSTS.join(post.text for post in kept), _mean_toxicity(kept))
    else:
        ledger.about_minors += bool(n_minors)
        ledger.without_text += not n_minors


def _post(post: Any) -> Document:
    if not isinstance(post, Mapping):
        raise TypeError("a post is no object")
    comment = post.get("com")
    if not isinstance(comment, str | None):
        raise TypeError("the 'com' of a post is no text")
    return Document(clean_post(comment or ""), toxicity_of(post))


def _mean_toxicity(posts: Sequence[Document]) -> float | None:
    """Over the scored posts, weighted by their lengths."""
    scored = [(len(post.text), post.toxicity) for post in posts if post.toxicity is not None]
    if not scored:
        return None
    mean = math.fsum(length * toxicity for length, toxicity in scored) / sum(length for length, _ in scored)
    return min(mean, 1.0)  # rounding
