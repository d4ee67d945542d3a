"""Files of labelled texts: the published sets, known by their columns, and files of one's own on any concept."""

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lens.line_reader import BadTexts
from lens.table_reader import Row, open_table, text, value
from probes.texts import FEWEST, TOXIC, LabelledText, TextSet

BUILTIN = Path(__file__).parent / "builtin" / "texts.jsonl"
PLAIN_CLASSES = (TOXIC, ("true", "false"), ("yes", "no"), ("1", "0"))
"""Label pairs whose positive class needs no telling."""

RULES: Mapping[str, Callable[[Row], bool]] = {
    "human>=2.5": lambda row: rating(row, "toxicity_human") >= 2.5,
    "human>=3": lambda row: rating(row, "toxicity_human") >= 3,
    "sum>5.5": lambda row: rating(row, "toxicity_human") + rating(row, "toxicity_ai") > 5.5,
}
"""ToxiGen's ratings run from 1 to 5. The first rule is the one the paper seems to use, the last is ToxiGen's own."""
RULE = "human>=2.5"
COLUMNS = {
    "toxigen": {"toxicity_human"},
    "hatecheck": {"test_case", "label_gold"},
    "paradetox": {"toxic", "neutral1"},
}
"""What the published sets are known by."""


def open_texts(
    source: str, rule: str | None = None, name: str | None = None, classes: tuple[str, str] | None = None
) -> TextSet:
    """The built-in set ("builtin"), or a file: ToxiGen, HateCheck and ParaDetox are known by their columns, any other
    needs text and label. A rule is for ToxiGen alone, classes are for files of one's own."""
    path, kind = Path(source), kind_of_set(source)
    if rule is not None and kind != "toxigen":
        raise BadTexts(f"A label rule ({rule}) is for ToxiGen's ratings, and {source} has none. Leave --rule away.")
    if kind == "own":
        return read_texts(path, name, classes)
    if kind == "toxigen":
        found = read_toxigen(path, rule or RULE, name or kind)
    elif kind == "builtin":
        found = builtin(name or kind)
    else:
        found = {"hatecheck": read_hatecheck, "paradetox": read_paradetox}[kind](path, name or kind)
    if classes not in (None, found.classes):
        raise BadTexts(
            f"--classes names the labels of a file of your own; the classes of {source} ({kind}) are "
            f"{' and '.join(found.classes)}. Leave --classes away."
        )
    return found


def kind_of_set(source: str) -> str:
    """Which published set a source is, or "own"."""
    if source == "builtin":
        return source
    columns = set(open_table(source).columns)
    return next((kind for kind, known in COLUMNS.items() if known <= columns), "own")


def builtin(name: str = "builtin") -> TextSet:
    """Short texts of our own writing: toxic ones without slurs, each beside a benign one on the same people."""
    texts = tuple(
        LabelledText(row["text"], row["label"] == "toxic", group=row["topic"], pair=str(row["pair"]))
        for _, row in open_table(BUILTIN).rows
    )
    return TextSet(name, texts, rule="as written")


def read_toxigen(path: Path, rule: str = RULE, name: str = "toxigen") -> TextSet:
    """ToxiGen's human-annotated file (Hartvigsen et al. 2022), .jsonl or .csv, also packed."""
    if rule not in RULES:
        raise BadTexts(f"There is no label rule {rule!r} for ToxiGen. The rules are: {', '.join(RULES)}.")
    texts = []
    for place, row in open_table(path).rows:
        try:
            words, group = (text(place, row, column) for column in ("text", "target_group"))
            texts.append(LabelledText(without_bytes_prefix(words), RULES[rule](row), group))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadTexts(f"{place} lacks a usable text, target_group or rating ({error}).") from error
    return published(TextSet(name, tuple(texts), rule=rule))


def read_hatecheck(path: Path, name: str = "hatecheck") -> TextSet:
    """HateCheck's cases (Röttger et al. 2021): templates in both classes, grouped by what each case tests."""
    texts, classes = [], ("hateful", "non-hateful")
    for place, row in open_table(path).rows:
        words, label = (text(place, row, column) for column in ("test_case", "label_gold"))
        if label not in classes or not words.strip():
            raise BadTexts(f"{place} has no test_case, or a label_gold that is none of {', '.join(classes)}.")
        group, template = (cell(row, column) for column in ("functionality", "templ_id"))
        texts.append(LabelledText(words, label == classes[0], group, template))
    return published(TextSet(name, tuple(texts), classes, rule="label_gold"))


def read_paradetox(path: Path, name: str = "paradetox") -> TextSet:
    """ParaDetox (Logacheva et al. 2022): toxic comments, each beside its first rewriting that is not."""
    texts = []
    for place, row in open_table(path).rows:
        toxic, neutral = (text(place, row, column) for column in ("toxic", "neutral1"))
        if not toxic.strip() or not neutral.strip():
            raise BadTexts(f"{place} lacks the toxic text or its first neutral one.")
        line = place.rpartition(":")[2]
        texts += [LabelledText(toxic, True, pair=line), LabelledText(neutral, False, pair=line)]
    return published(TextSet(name, tuple(texts), rule="as published"))


def read_texts(path: Path, name: str | None = None, classes: tuple[str, str] | None = None) -> TextSet:
    """A set on any concept: .jsonl or .csv with `text`, `label` and, if there are any, `group` and `pair`.

    Texts that stand in both classes have no label of their own, and are left out.
    """
    table = open_table(path)
    table.require("text", "label")
    rows = [(place, row, label_of(place, row)) for place, row in table.rows]
    names = classes or classes_of(path, {label for _, _, label in rows})
    positive, negative = (truth(label_word(word)) for word in names)
    if positive == negative:
        raise BadTexts(f"--classes names two labels, positive first; {' and '.join(names)} are one.")
    texts = []
    for place, row, label in rows:
        if truth(label) not in (positive, negative):
            raise BadTexts(f"{place} is labelled {label!r}, which is neither {positive!r} nor {negative!r}.")
        words = text(place, row, "text")
        if not words.strip():
            raise BadTexts(f"{place} has no text.")
        group, pair = (cell(row, column) for column in ("group", "pair"))
        texts.append(LabelledText(words, truth(label) == positive, group, pair))
    stem = name or re.sub(r"[^\w.-]+", "-", path.name.split(".")[0])
    return without_conflicts(TextSet(stem, tuple(texts), names), path)


def cell(row: Row, column: str) -> str:
    """What stands in a column that may be empty or missing."""
    found = row.get(column)
    return "" if found is None else str(found).strip()


def label_of(place: str, row: Row) -> str:
    """The label of a row, which must have one."""
    word = label_word(value(place, row, "label"))
    if not word:
        raise BadTexts(f"{place} has no label. Give it one, or remove the row.")
    return word


def label_word(found: Any) -> str:
    """A label without case and blanks around it; a whole number is written without ".0"; "" where there is none."""
    if found is None or (isinstance(found, float) and math.isnan(found)):
        return ""
    return re.sub(r"^([+-]?\d+)\.0*$", r"\1", str(found).strip().lower())


def truth(word: str) -> str:
    """The same for true and 1, and for false and 0."""
    return {"true": "1", "false": "0"}.get(word, word)


def classes_of(path: Path, labels: set[str]) -> tuple[str, str]:
    """Which label is the positive one, where that needs no telling."""
    for names in PLAIN_CLASSES:
        if set(names) in (labels, set(map(truth, labels))):
            return names
    shown = ", ".join(sorted(labels)[:5]) or "none"
    raise BadTexts(
        f"{path}: cannot tell which class is the positive one (labels: {shown}). "
        "Name two, positive first: --classes formal casual."
    )


def in_both_classes(texts: TextSet) -> set[str]:
    """Texts that are labelled as of both classes, blanks around them aside."""
    sides = [{one.text.strip() for one in texts.texts if one.label is side} for side in (True, False)]
    return sides[0] & sides[1]


def published(texts: TextSet) -> TextSet:
    """A published set as it is, with a word on texts that stand in both classes."""
    n = len(in_both_classes(texts))
    return replace(texts, remark=f"{n:,} different texts stand in both classes, as published.") if n else texts


def without_conflicts(texts: TextSet, path: Path) -> TextSet:
    """A set without the texts that stand in both classes, if enough are left."""
    both = in_both_classes(texts)
    if not both:
        return texts
    left = [one for one in texts.texts if one.text.strip() not in both]
    n_positive = sum(one.label for one in left)
    found = f"{path}: {len(both):,} different texts stand in both classes"
    if min(n_positive, len(left) - n_positive) < 2 * FEWEST:
        raise BadTexts(
            f"{found}, which leaves {n_positive} {texts.classes[0]} and {len(left) - n_positive} {texts.classes[1]} "
            f"ones: too few for a fit. Give each text one label; {2 * FEWEST} of each class are the least."
        )
    return replace(texts, texts=tuple(left), remark=f"{found}; they are left out.")


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
