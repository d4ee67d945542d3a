"""Labelled texts on any concept, and splits that leak nothing from one side to the other."""

import ast
import csv
import gzip
import json
import math
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lens.activations import digest_texts

BUILTIN = Path(__file__).parent / "builtin" / "texts.jsonl"
TOXIC = ("toxic", "benign")
PLAIN_CLASSES = (TOXIC, ("true", "false"), ("yes", "no"), ("1", "0"))
"""Label pairs whose positive class needs no telling."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}
ENCODING, ERRORS = "utf-8-sig", "surrogateescape"
"""How files are read: Excel puts a mark in front of UTF-8; `numbered` refuses what is none, since it knows the line."""
csv.field_size_limit(2**24)  # of one cell, as in training.corpus; Python's own limit of 131,072 cuts real texts off

Row = Mapping[str, Any]
By = Literal["text", "group"]


class BadTexts(ValueError):
    """A file of texts that cannot be used as it is."""


@dataclass(frozen=True)
class LabelledText:
    """One text and whether it belongs to the positive class of its set."""

    text: str
    label: bool
    group: str = ""
    """What the harder split leaves out whole: the target group in ToxiGen, the topic in the built-in set."""
    pair: str = ""
    """Texts of one pair, or made from one template, are never on both sides of any split; empty: none."""


@dataclass(frozen=True)
class TextSet:
    """Texts of two classes; the set names them, nothing else knows the concept."""

    name: str
    texts: tuple[LabelledText, ...]
    classes: tuple[str, str] = TOXIC
    """Positive class first."""
    rule: str = "label"
    """How a label was made from what the file holds."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name) or self.name.startswith("."):
            raise BadTexts(f"A set's name becomes a file name: letters, digits, '-', '_' and '.'; got {self.name!r}.")
        n, n_positive = len(self.texts), sum(text.label for text in self.texts)
        if not 0 < n_positive < n:
            raise BadTexts(
                f"{self.name}: probes need texts of both classes; "
                f"got {n_positive} {self.classes[0]} and {n - n_positive} {self.classes[1]} by the rule {self.rule!r}."
            )

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def labels(self) -> np.ndarray:
        """[text], True for the positive class."""
        return np.array([text.label for text in self.texts])

    @property
    def majority(self) -> float:
        """Share of the larger class: the accuracy of whoever never looks at a text."""
        return float(max(self.labels.mean(), 1 - self.labels.mean()))

    @property
    def digest(self) -> str:
        """SHA-256 of texts and labels, in order."""
        return digest_texts([text.text for text in self.texts], [text.label for text in self.texts])


RULES: Mapping[str, Callable[[Row], bool]] = {
    "human>=2.5": lambda row: rating(row, "toxicity_human") >= 2.5,
    "human>=3": lambda row: rating(row, "toxicity_human") >= 3,
    "sum>5.5": lambda row: rating(row, "toxicity_human") + rating(row, "toxicity_ai") > 5.5,
}
"""ToxiGen's ratings run from 1 to 5. The first rule is the one the paper seems to use, the last is ToxiGen's own."""


def open_texts(
    source: str, rule: str = "human>=2.5", name: str | None = None, classes: tuple[str, str] | None = None
) -> TextSet:
    """The built-in set ("builtin"), or a file: ToxiGen, HateCheck and ParaDetox are known by their columns, any other
    needs text and label."""
    if source == "builtin":
        return builtin(name or "builtin")
    path = Path(source)
    columns = next(rows(path))[1].keys()
    if "toxicity_human" in columns:
        return read_toxigen(path, rule, name or "toxigen")
    if {"test_case", "label_gold"} <= columns:
        return read_hatecheck(path, name or "hatecheck")
    if {"toxic", "neutral1"} <= columns:
        return read_paradetox(path, name or "paradetox")
    return read_texts(path, name, classes)


def builtin(name: str = "builtin") -> TextSet:
    """Short texts of our own writing: toxic ones without slurs, each beside a benign one on the same people."""
    texts = tuple(
        LabelledText(row["text"], row["label"] == "toxic", group=row["topic"], pair=str(row["pair"]))
        for _, row in rows(BUILTIN)
    )
    return TextSet(name, texts, rule="as written")


def read_toxigen(path: Path, rule: str = "human>=2.5", name: str = "toxigen") -> TextSet:
    """ToxiGen's human-annotated file (Hartvigsen et al. 2022), .jsonl or .csv, also .gz."""
    if rule not in RULES:
        raise BadTexts(f"There is no label rule {rule!r} for ToxiGen. The rules are: {', '.join(RULES)}.")
    texts = []
    for number, row in rows(path):
        try:
            texts.append(LabelledText(without_bytes_prefix(row["text"]), RULES[rule](row), group=row["target_group"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadTexts(f"{path}:{number} lacks a usable text, target_group or rating ({error}).") from error
    return TextSet(name, tuple(texts), rule=rule)


def read_hatecheck(path: Path, name: str = "hatecheck") -> TextSet:
    """HateCheck's cases (Röttger et al. 2021): templates in both classes, grouped by what each case tests."""
    texts, classes = [], ("hateful", "non-hateful")
    for number, row in rows(path):
        if row["label_gold"] not in classes or not (row["test_case"] or "").strip():
            raise BadTexts(f"{path}:{number} has no test_case, or a label_gold that is none of {', '.join(classes)}.")
        group, template = (row.get(column) or "" for column in ("functionality", "templ_id"))
        texts.append(LabelledText(row["test_case"], row["label_gold"] == classes[0], group, template))
    return TextSet(name, tuple(texts), classes, rule="label_gold")


def read_paradetox(path: Path, name: str = "paradetox") -> TextSet:
    """ParaDetox (Logacheva et al. 2022): toxic comments, each beside its first rewriting that is not."""
    texts = []
    for number, row in rows(path):
        toxic, neutral = row["toxic"] or "", row["neutral1"] or ""
        if not toxic.strip() or not neutral.strip():
            raise BadTexts(f"{path}:{number} lacks the toxic text or its first neutral one.")
        texts += [LabelledText(toxic, True, pair=str(number)), LabelledText(neutral, False, pair=str(number))]
    return TextSet(name, tuple(texts), rule="as published")


def read_texts(path: Path, name: str | None = None, classes: tuple[str, str] | None = None) -> TextSet:
    """A set on any concept: .jsonl or .csv with `text`, `label` and, if there are any, `group` and `pair`."""
    found = [(number, row, str(row.get("label", "")).strip().lower()) for number, row in rows(path)]
    names = classes or classes_of(path, {label for _, _, label in found})
    positive, negative = (word.lower() for word in names)
    texts = []
    for number, row, label in found:
        if label not in (positive, negative):
            raise BadTexts(f"{path}:{number} is labelled {label!r}, which is neither {positive!r} nor {negative!r}.")
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise BadTexts(f"{path}:{number} has no text.")
        group, pair = (str(row.get(column) or "") for column in ("group", "pair"))
        texts.append(LabelledText(row["text"], label == positive, group, pair))
    stem = name or re.sub(r"[^\w.-]+", "-", path.name.split(".")[0])
    return TextSet(stem, tuple(texts), names)


def classes_of(path: Path, labels: set[str]) -> tuple[str, str]:
    """Which label is the positive one, where that needs no telling."""
    for names in PLAIN_CLASSES:
        if labels == set(names):
            return names
    shown = ", ".join(sorted(labels)[:5]) or "none"
    raise BadTexts(
        f"{path}: cannot tell which class is the positive one (labels: {shown}). "
        "Name two, positive first: --classes formal casual."
    )


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a .jsonl, .csv or .tsv file, also .gz, each with its line; a damaged one stops the reading."""
    if not path.is_file():
        raise BadTexts(f"There is no file {path}. Give --texts builtin, or a .jsonl, .csv or .tsv file.")
    opened = gzip.open if path.suffix == ".gz" else open
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in (".jsonl", *SEPARATORS):
        raise BadTexts(f"{path} is neither .jsonl nor .csv nor .tsv (.gz after any is fine).")
    try:
        with opened(path, "rt", encoding=ENCODING, errors=ERRORS, newline="") as lines:
            number = 0
            for number, row in numbered(path, kind, lines):
                yield number, row
            if not number:
                raise BadTexts(f"{path} holds no rows.")
    except (EOFError, OSError, zlib.error, csv.Error) as error:
        raise BadTexts(f"{path} cannot be read to its end: {error}. Copy it again.") from error


def numbered(path: Path, kind: str, lines: Any) -> Iterator[tuple[int, Row]]:
    """Line number and row of what was read with ENCODING and ERRORS; a blank line is no row."""
    whole = (_utf8(line, f"{path}:{number}") for number, line in enumerate(lines, start=1))
    if kind in SEPARATORS:
        reader = csv.DictReader(whole, delimiter=SEPARATORS[kind])
        yield from ((reader.line_num, row) for row in reader)
        return
    for number, line in enumerate(whole, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadTexts(f"{path}:{number} is not a JSON object: {error}.") from error
        if not isinstance(row, dict):
            raise BadTexts(f"{path}:{number} is not a JSON object.")
        yield number, row


def _utf8(line: str, where: str) -> str:
    """A line, refused where bytes stand in it that are no text."""
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise BadTexts(f"{where} is no UTF-8. Save the file as UTF-8, then try again.") from error
    return line


def rating(row: Row, column: str) -> float:
    """A rating from 1 to 5."""
    value = float(row[column])
    if math.isnan(value):
        raise ValueError(f"{column} is not a number")
    return value


def without_bytes_prefix(text: str) -> str:
    """The text behind a printed bytes object, b'...', which ToxiGen's published tables still hold."""
    if not text.strip():
        raise ValueError("empty text")
    if not re.fullmatch(r"""b'.*'|b".*\"""", text, flags=re.DOTALL):
        return text
    try:
        return ast.literal_eval(text).decode("utf-8", errors="replace")
    except (SyntaxError, ValueError):
        return text[2:-1]


def normalised(text: str) -> str:
    """What two copies of one text have in common: its words, without case, spacing and punctuation."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", plain)) or plain.strip()


def split(texts: TextSet, held_out: float = 0.2, seed: int = 0, by: By = "text") -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train on and to hold out.

    "text" draws texts at random, as the paper does (4:1); copies of one text and the texts of a pair stay together.
    "group" holds whole groups out; the few texts of other groups that are copies or partners of a held-out one are
    then left out of both. The held-out share is met as closely as this allows.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is a share of the texts, so 0.2 and not 20; got {held_out}.")
    if by not in ("text", "group"):
        raise ValueError(f"A split is by 'text' or by 'group'; got {by!r}.")
    bundles, wanted = bundled(texts.texts, by), held_out * len(texts)
    test: list[int] = []
    for number in np.random.default_rng(seed).permutation(len(bundles)):
        if abs(len(test) + len(bundles[number]) - wanted) < abs(len(test) - wanted):
            test += bundles[number]
    taken, known = set(test), {bond for row in test for bond in bonds(texts.texts[row])}
    train = [row for row in range(len(texts)) if row not in taken and known.isdisjoint(bonds(texts.texts[row]))]
    for purpose, rows_of in (("train on", train), ("hold out", test)):
        if len({texts.texts[row].label for row in rows_of}) < 2:
            raise BadTexts(
                f"{texts.name}: a split by {by} with seed {seed} leaves no texts of both classes to {purpose} "
                f"({len(bundles)} bundles). Try another seed, by='text', or more texts."
            )
    return np.array(train), np.array(sorted(test))


def bonds(text: LabelledText) -> list[tuple[str, str]]:
    """What a text must not share with one on the other side."""
    return [("words", normalised(text.text)), *([("pair", text.pair)] if text.pair else [])]


def bundled(texts: Sequence[LabelledText], by: By) -> list[list[int]]:
    """Rows that go to one side together: a whole group, or what shares words or a pair with each other."""
    parent = list(range(len(texts)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    first: dict[tuple[str, str], int] = {}
    for row, text in enumerate(texts):
        for bond in [("group", text.group)] if by == "group" and text.group else bonds(text):
            parent[root(row)] = root(first.setdefault(bond, row))
    bundles: dict[int, list[int]] = {}
    for row in range(len(texts)):
        bundles.setdefault(root(row), []).append(row)
    return list(bundles.values())
