"""Texts of any concept come in whole, and a split leaks nothing."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from lens.table_reader import open_table
from probes import BadTexts, LabelledText, Lexicon, TextSet, mask, open_texts, read_texts, read_toxigen, split
from probes.text_files import RULES
from probes.texts import normalised


def toxigen_row(text: str, human: float, ai: float = 1.0, group: str = "bakers") -> dict[str, object]:
    return {"text": text, "target_group": group, "toxicity_human": human, "toxicity_ai": ai}


def line_of(place: str) -> int:
    return int(place.rpartition(":")[2])


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines)
    return path


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


RATED = [
    toxigen_row("rye bread is heavy", 2.4, 3.2),
    toxigen_row("oat bread is light", 2.5, 1.0),
    toxigen_row("b'bread isn\\'t cake'", 3.0, 2.5, "millers"),
    toxigen_row('b"it\'s caf\\xc3\\xa9 bread"', 5.0, 1.0, "millers"),
]


@pytest.mark.parametrize(
    ("rule", "labels"),
    [
        ("human>=2.5", [False, True, True, True]),
        ("human>=3", [False, False, True, True]),
        ("sum>5.5", [True, False, False, True]),
    ],
)
@pytest.mark.parametrize("name", ["rated.jsonl", "rated.jsonl.gz", "rated.csv"])
def test_toxigen_is_labelled_by_the_named_rule(tmp_path, rule, labels, name):
    write = write_csv if name.endswith("csv") else write_jsonl
    found = open_texts(str(write(tmp_path / name, RATED)), rule)
    assert [text.label for text in found.texts] == labels
    assert (found.name, found.rule, found.classes) == ("toxigen", rule, ("toxic", "benign"))
    assert found.texts[2].group == "millers"


def test_a_printed_bytes_object_is_read_as_its_text(tmp_path):
    found = read_toxigen(write_jsonl(tmp_path / "rated.jsonl", RATED))
    assert [text.text for text in found.texts[2:]] == ["bread isn't cake", "it's café bread"]


def test_a_rule_that_does_not_exist_is_answered_with_the_rules(tmp_path):
    with pytest.raises(BadTexts, match=r"human>=2\.5, human>=3, sum>5\.5"):
        read_toxigen(write_jsonl(tmp_path / "rated.jsonl", RATED), "human>2")
    assert list(RULES) == ["human>=2.5", "human>=3", "sum>5.5"]


@pytest.mark.parametrize(
    "damaged", [{"text": "no rating", "target_group": "x"}, toxigen_row(" ", 3.0), toxigen_row("x", float("nan"))]
)
def test_a_damaged_row_stops_the_reading_with_its_number(tmp_path, damaged):
    with pytest.raises(BadTexts, match=r"rated\.jsonl:5 lacks"):
        read_toxigen(write_jsonl(tmp_path / "rated.jsonl", [*RATED, damaged]))


def test_a_line_that_is_no_json_stops_the_reading_with_its_number(tmp_path):
    path = tmp_path / "rated.jsonl"
    path.write_text(json.dumps(RATED[0]) + '\n{"text": "cut of')
    with pytest.raises(BadTexts, match=r"rated\.jsonl:2 is not JSON"):
        open_texts(str(path))


def test_a_truncated_archive_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "rated.jsonl.gz", RATED * 200)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(BadTexts, match="fetch it again"):
        open_texts(str(path))


@pytest.mark.parametrize("name", ["rated.jsonl.gz", "rated.csv.gz"])
def test_an_archive_with_a_changed_byte_is_refused(tmp_path, name):
    write_csv(tmp_path / "rated.csv", RATED * 200)
    write_jsonl(tmp_path / "rated.jsonl", RATED * 200)
    path = tmp_path / name
    whole = gzip.compress(path.with_suffix("").read_bytes(), mtime=0)
    for at in range(10, len(whole), 7):  # behind the header, of which gzip does not read every byte
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with pytest.raises(BadTexts):
            list(open_table(path).rows)


@pytest.mark.parametrize("name", ["rated.jsonl", "rated.csv"])
def test_a_mark_in_front_and_blank_lines_are_no_part_of_the_rows(tmp_path, name):
    """Excel writes the mark; the lines of rows are still those of the file."""
    path = (write_csv if name.endswith("csv") else write_jsonl)(tmp_path / name, RATED)
    plain = list(open_table(path).rows)
    head, first, *rest = path.read_text().splitlines()
    path.write_text("\ufeff" + "\n".join([head, "", first, *rest, "", ""]))
    marked = list(open_table(path).rows)
    assert [row for _, row in marked] == [row for _, row in plain]
    assert [line_of(place) for place, _ in marked[1:]] == [line_of(place) + 1 for place, _ in plain[1:]]


def test_a_cell_of_a_table_may_be_long(tmp_path):
    path = write_csv(tmp_path / "long.csv", [{"text": "bread " * 50_000, "label": "toxic"}])
    assert len(next(open_table(path).rows)[1]["text"]) == 300_000


@pytest.mark.parametrize("name", ["rated.jsonl", "rated.csv"])
def test_what_is_no_utf_8_is_named_by_its_line(tmp_path, name):
    path = (write_csv if name.endswith("csv") else write_jsonl)(tmp_path / name, RATED)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"bread", "café".encode("latin-1")), *lines[3:]]))
    with pytest.raises(BadTexts, match=rf"{name}:3 is no UTF-8"):
        list(open_table(path).rows)


@pytest.mark.parametrize("name", ["no-such.jsonl", "texts.parquet"])
def test_a_file_of_no_use_says_what_would_be(tmp_path, name):
    (tmp_path / "texts.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadTexts, match=r"\.jsonl"):
        open_texts(str(tmp_path / name))


FORMAL = [
    {"text": "I remain yours sincerely", "label": "formal", "group": "letters"},
    {"text": "see ya", "label": "casual", "group": "chat"},
]


@pytest.mark.parametrize("name", ["style.jsonl", "style.csv"])
def test_any_concept_names_its_own_classes(tmp_path, name):
    path = (write_csv if name.endswith("csv") else write_jsonl)(tmp_path / name, FORMAL)
    found = read_texts(path, classes=("formal", "casual"))
    assert (found.name, found.classes) == ("style", ("formal", "casual"))
    assert found.labels.tolist() == [True, False]
    assert read_texts(path, classes=("casual", "formal")).labels.tolist() == [False, True]


def test_which_class_is_positive_is_asked_and_not_guessed(tmp_path):
    with pytest.raises(BadTexts, match="--classes formal casual"):
        read_texts(write_jsonl(tmp_path / "style.jsonl", FORMAL))


def test_a_name_of_ones_own_holds_for_every_source(tmp_path):
    rated, own = write_jsonl(tmp_path / "rated.jsonl", RATED), write_csv(tmp_path / "style.csv", FORMAL)
    assert open_texts(str(own), name="mine", classes=("formal", "casual")).name == "mine"
    for source in ("builtin", str(rated)):
        assert open_texts(source, name="mine").name == "mine"
    assert open_texts("builtin", name="mine").digest == open_texts("builtin").digest


@pytest.mark.parametrize(("yes", "no"), [(1, 0), (True, False), ("Toxic", "benign"), ("yes", "no")])
def test_plain_labels_need_no_telling(tmp_path, yes, no):
    rows: list[dict[str, object]] = [{"text": "a", "label": no}, {"text": "b", "label": yes}]
    assert read_texts(write_jsonl(tmp_path / "plain.jsonl", rows)).labels.tolist() == [False, True]


def test_one_class_alone_is_refused(tmp_path):
    with pytest.raises(BadTexts, match="both classes"):
        read_toxigen(write_jsonl(tmp_path / "rated.jsonl", RATED[2:]))


def test_the_majority_rate_is_that_of_who_never_looks():
    texts = tuple(LabelledText(str(row), row < 3) for row in range(10))
    assert TextSet("ten", texts).majority == 0.7


def test_the_digest_knows_texts_labels_and_order():
    one, other = LabelledText("a", True), LabelledText("b", False)
    sets = [
        (one, other),
        (other, one),
        (LabelledText("a", False), LabelledText("b", True)),
        (one, LabelledText("c", False)),
    ]
    assert len({TextSet("set", texts).digest for texts in sets}) == 4


def bundled_set(n: int = 200) -> TextSet:
    """Ten groups; every fifth text is a near copy of the one before, every seventh is paired with the next."""
    texts = []
    for row in range(n):
        words = f"Words of number {row - 1}!" if row % 5 == 4 else f"words  of number {row}"
        pair = f"pair {row // 7}" if row % 7 in (0, 1) else ""
        texts.append(LabelledText(words, row % 3 == 0, f"group {row * 10 // n}", pair))
    return TextSet("bundled", tuple(texts))


@pytest.mark.parametrize("by", ["text", "group"])
@pytest.mark.parametrize("seed", range(5))
def test_no_copy_and_no_pair_straddles_a_split(by, seed):
    texts = bundled_set()
    train, test = split(texts, seed=seed, by=by)
    sides = [[texts.texts[row] for row in rows] for rows in (train, test)]
    assert not {normalised(t.text) for t in sides[0]} & {normalised(t.text) for t in sides[1]}
    assert not {t.pair for t in sides[0] if t.pair} & {t.pair for t in sides[1]}
    assert not set(train) & set(test)
    if by == "group":
        assert not {t.group for t in sides[0]} & {t.group for t in sides[1]}
        assert len(train) + len(test) >= len(texts) - 4  # partners across a group's border are left out
    else:
        assert len(train) + len(test) == len(texts)


def test_copies_are_known_by_their_words_alone():
    assert normalised("Rye  BREAD, fresh!") == normalised("rye bread\nfresh") != normalised("fresh rye bread")
    assert normalised("?!") == "?!"  # without words, what is there


def test_a_split_by_text_is_four_to_one():
    texts = TextSet("single", tuple(LabelledText(f"number {row}", row % 2 == 0) for row in range(1000)))
    assert [len(rows) for rows in split(texts)] == [800, 200]
    assert 35 <= len(split(bundled_set())[1]) <= 45


def test_the_seed_is_the_split():
    texts = bundled_set()
    assert np.array_equal(split(texts, seed=3)[1], split(texts, seed=3)[1])
    assert not np.array_equal(split(texts, seed=3)[1], split(texts, seed=4)[1])


def test_a_split_that_would_leave_one_side_empty_is_refused():
    texts = TextSet("alone", tuple(LabelledText(f"number {row}", row % 2 == 0, "all") for row in range(50)))
    with pytest.raises(BadTexts, match="both classes to hold out"):
        split(texts, by="group")
    with pytest.raises(ValueError, match="a share of the texts"):
        split(texts, held_out=20)


def test_a_name_that_would_leave_the_folder_is_refused():
    texts = (LabelledText("a", True), LabelledText("b", False))
    for name in ("../up", "a/b", "", ".hidden"):
        with pytest.raises(BadTexts, match="file name"):
            TextSet(name, texts)


def test_a_lexicon_knows_whole_words_in_any_case_and_hides_them():
    lexicon = Lexicon.of(["rotten", "Mouldy", "stale bread", ""])
    assert len(lexicon) == 2  # a phrase is no word
    assert "ROTTEN" in lexicon
    assert " mouldy" in lexicon
    assert "rottenness" not in lexicon
    assert mask("A rotten, Mouldy loaf.", lexicon) == "A r*****, M***** loaf."


def test_hashes_and_words_make_the_same_lexicon(tmp_path):
    words = Lexicon.of(["rotten", "mouldy"])
    path = tmp_path / "hashed.txt"
    path.write_text("\n".join(words.hashes))
    assert Lexicon.read(path).hashes == words.hashes
    assert "rotten" not in path.read_text()
    with pytest.raises(FileNotFoundError, match="one word per line"):
        Lexicon.read(tmp_path / "none.txt")


def test_hatecheck_and_paradetox_are_known_by_their_columns(tmp_path):
    cases = [
        {"functionality": "praise", "test_case": "bread is lovely", "label_gold": "non-hateful", "templ_id": "7"},
        {"functionality": "insult", "test_case": "bread is awful", "label_gold": "hateful", "templ_id": "8"},
    ]
    found = open_texts(str(write_csv(tmp_path / "cases.csv", cases)))
    assert (found.name, found.classes, found.rule) == ("hatecheck", ("hateful", "non-hateful"), "label_gold")
    assert found.texts == (
        LabelledText("bread is lovely", False, "praise", pair="7"),
        LabelledText("bread is awful", True, "insult", pair="8"),
    )
    rows = "toxic\tneutral1\tneutral2\nbad bread, you\tthis bread, dear\t\nvile rolls\tpoor rolls\tother rolls\n"
    (tmp_path / "pairs.tsv.gz").write_bytes(gzip.compress(rows.encode()))
    pairs = open_texts(str(tmp_path / "pairs.tsv.gz"))
    assert pairs.name == "paradetox"
    assert [text.text for text in pairs.texts if text.label] == ["bad bread, you", "vile rolls"]
    assert [text.pair for text in pairs.texts] == ["2", "2", "3", "3"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cases.csv", "test_case,label_gold\nrye,hateful\noats,maybe\n", r"cases\.csv:3 .* hateful, non-hateful"),
        ("cases.csv", "test_case,label_gold\n,hateful\n", r"cases\.csv:2 has no test_case"),
        ("pairs.tsv", "toxic\tneutral1\nrye\toats\nrye\n", r"pairs\.tsv:3 has 1 cell, the header has 2"),
    ],
)
def test_a_damaged_row_of_a_published_set_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadTexts, match=words):
        open_texts(str(tmp_path / name))


def concept(n: int = 20, **changed: object) -> list[dict[str, object]]:
    """So many texts of each of two classes."""
    rows: list[dict[str, object]] = [
        {"text": f"{word} number {row}", "label": label}
        for row in range(n)
        for word, label in (("sincerely", "formal"), ("yo", "casual"))
    ]
    return [*rows[:-1], {**rows[-1], **changed}]


@pytest.mark.parametrize("label", [None, "", "  ", float("nan")])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_row_without_a_label_is_no_class_of_its_own(tmp_path, name, label):
    rows = concept(label=label if name == "a.jsonl" or isinstance(label, str) else "")
    path = (write_csv if name == "a.csv" else write_jsonl)(tmp_path / name, rows)
    for classes in (("formal", "none"), ("formal", "casual"), ("formal", "nan"), None):
        with pytest.raises(BadTexts, match=rf"{name}:4[01] has no label"):
            open_texts(str(path), classes=classes)


def test_a_row_that_lacks_the_key_of_its_label_is_named(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [*concept(), {"text": "none at all"}])
    with pytest.raises(BadTexts, match=r"a\.jsonl:41 has no field 'label'"):
        open_texts(str(path), classes=("formal", "none"))


@pytest.mark.parametrize(
    ("yes", "no", "classes"),
    [
        ("1.0", "0.0", ("1", "0")),
        ("1.", "0", ("1", "0")),
        (1.0, 0.0, ("1", "0")),
        (1, 0.0, ("1", "0")),
        (True, 0, ("1", "0")),
        (" TRUE ", "False", ("true", "false")),
        (True, False, ("true", "false")),
        (" Yes", "NO ", ("yes", "no")),
    ],
)
def test_labels_that_say_one_thing_in_two_ways_are_one(tmp_path, yes, no, classes):
    rows = [{**row, "label": yes if row["label"] == "formal" else no} for row in concept()]
    found = open_texts(str(write_jsonl(tmp_path / "a.jsonl", rows)))
    assert (found.classes, found.labels.tolist()) == (classes, [True, False] * 20)
    named = open_texts(str(tmp_path / "a.jsonl"), classes=(str(no).strip(), str(yes).strip()))
    assert named.labels.tolist() == [False, True] * 20


def test_a_label_that_is_neither_class_is_named_with_its_line(tmp_path):
    path = str(write_csv(tmp_path / "a.csv", concept(label="2.5")))
    with pytest.raises(BadTexts, match=r"a\.csv:41 is labelled '2\.5', which is neither 'formal' nor 'casual'"):
        open_texts(path, classes=("formal", "casual"))
    with pytest.raises(BadTexts, match=r"labels: 2\.5, casual, formal"):
        open_texts(path)
    with pytest.raises(BadTexts, match="Formal and formal  are one"):
        open_texts(path, classes=("Formal", "formal "))


def test_classes_and_rules_that_would_be_ignored_are_refused(tmp_path):
    rated, own = str(write_jsonl(tmp_path / "rated.jsonl", RATED)), str(write_csv(tmp_path / "style.csv", concept()))
    for source in ("builtin", rated):
        with pytest.raises(BadTexts, match=r"--classes names .* are toxic and benign\. Leave --classes away"):
            open_texts(source, classes=("benign", "toxic"))
        assert open_texts(source, classes=("toxic", "benign")).classes == ("toxic", "benign")
    for source in ("builtin", own):
        with pytest.raises(BadTexts, match=r"A label rule \(human>=3\) is for ToxiGen's ratings.* Leave --rule away"):
            open_texts(source, "human>=3", classes=("formal", "casual") if source == own else None)


def test_texts_in_both_classes_are_counted_and_left_out(tmp_path):
    both = [{"text": f" sincerely number {row}", "label": "casual"} for row in range(4)]
    found = open_texts(str(write_csv(tmp_path / "a.csv", concept() + both)), classes=("formal", "casual"))
    assert "4 different texts stand in both classes; they are left out" in found.remark
    assert [int(found.labels.sum()), len(found)] == [16, 36]
    assert not open_texts(str(write_csv(tmp_path / "a.csv", concept())), classes=("formal", "casual")).remark


@pytest.mark.parametrize("n_both", [20, 17])
def test_texts_of_which_too_few_are_of_one_class_are_refused(tmp_path, n_both):
    both = [{"text": f"sincerely number {row}", "label": "casual"} for row in range(n_both)]
    path = write_csv(tmp_path / "a.csv", concept() + both)
    with pytest.raises(
        BadTexts, match=rf"a\.csv: {n_both} different texts stand in both .* {20 - n_both} formal and 20"
    ):
        open_texts(str(path), classes=("formal", "casual"))


def test_a_published_set_is_kept_as_it_is_with_a_word_on_texts_in_both_classes(tmp_path):
    rows = "toxic\tneutral1\nbad bread\tno bread\nno bread\tbread\n"
    (tmp_path / "pairs.tsv").write_text(rows)
    found = open_texts(str(tmp_path / "pairs.tsv"))
    assert len(found) == 4
    assert found.remark == "1 different texts stand in both classes, as published."


def test_a_split_by_group_needs_groups():
    for n_without, texts in ((50, 50), (1, 50)):
        rows = [
            LabelledText(f"number {row}", row % 2 == 0, "" if row < n_without else f"{row % 9}") for row in range(texts)
        ]
        with pytest.raises(BadTexts, match=rf"{n_without} of 50 have none. Give the texts a column 'group'"):
            split(TextSet("plain", tuple(rows)), by="group")


@pytest.mark.parametrize(("n_positive", "n"), [(3, 200), (5, 300), (198, 200), (2, 8)])
def test_a_split_with_too_few_texts_of_one_class_is_refused(n_positive, n):
    """Of one text of a class held out, a probe's share right is 0 or 1."""
    texts = TextSet("rare", tuple(LabelledText(f"number {row}", row < n_positive) for row in range(n)))
    with pytest.raises(
        BadTexts, match=r"too few texts of both classes to .*: \d+ toxic and \d+ benign, where 2 of each"
    ):
        split(texts)


@pytest.mark.parametrize(
    ("row", "words"), [({"text": 3}, "is not a text but 3"), ({"text": "\ud800"}, "half a character")]
)
def test_a_text_that_cannot_be_read_is_named(tmp_path, row, words):
    for rows, classes in ((concept(**row), ("formal", "casual")), ([*RATED, {**RATED[0], **row}], None)):
        path = write_jsonl(tmp_path / "a.jsonl", rows)
        with pytest.raises(BadTexts, match=rf"a\.jsonl:{len(rows)}\b.*{words}"):
            open_texts(str(path), classes=classes)
