"""What becomes of documents before they are tokens: chosen, filtered, masked, kept once; and nothing goes uncounted."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from training.corpus import Document, Ledger, Source
from training.document import FATES
from training.minors import WINDOW_WORDS, about_minors
from training.prepare import EMAIL, IP, PHONE, PLACEHOLDERS, Exclusion, Preparation, masked, prepared


def source(path: Path, *rows: Any) -> Source:
    path.write_text("".join(json.dumps(row if isinstance(row, dict) else {"text": row}) + "\n" for row in rows))
    return Source(path)


def run(
    source: Source, preparation: Preparation, forum: bool = False, seen: set[bytes] | None = None
) -> tuple[list[str], Ledger]:
    """The texts that are left, and a ledger whose fates add up."""
    ledger = Ledger()
    texts = [
        document.text for document in prepared(source, preparation, forum, set() if seen is None else seen, ledger)
    ]
    assert ledger.kept == len(texts)
    assert ledger.read == sum(getattr(ledger, fate) for fate in FATES)
    return texts, ledger


def test_the_least_toxicity_chooses_forum_text_by_its_own_scores(tmp_path: Path) -> None:
    posts = [{"com": "mild", "perspectives": {"TOXICITY": 0.1}}, {"com": "unscored"}, {"com": "", "perspectives": {}}]
    pol = source(tmp_path / "pol.ndjson", {"posts": [*posts, {"com": "rude", "perspectives": {"TOXICITY": 0.5}}]})
    texts, ledger = run(pol, Preparation("post", min_toxicity=0.5), forum=True)
    assert texts == ["rude"]
    assert (ledger.unscored, ledger.below_min_toxicity, ledger.without_text) == (1, 1, 1)
    clean = source(tmp_path / "clean.jsonl", "no score")
    assert run(clean, Preparation(min_toxicity=0.5))[0] == ["no score"], "clean text is not chosen by toxicity"
    with pytest.raises(ValueError, match="and not 50"):
        Preparation(min_toxicity=50)


def test_a_text_is_kept_once_over_all_sources(tmp_path: Path) -> None:
    seen: set[bytes] = set()
    first, second = source(tmp_path / "a.jsonl", "one", "two", " one "), source(tmp_path / "b.jsonl", "two", "One")
    assert run(first, Preparation(deduplicate=True), seen=seen)[0] == ["one", "two"]
    texts, ledger = run(second, Preparation(deduplicate=True), seen=seen)
    assert (texts, ledger.duplicates) == (["One"], 1), "exact: another case is another text"
    assert run(first, Preparation(), seen=seen)[0] == ["one", "two", "one"]


TIDE = "The tide turns twice a day, because the moon pulls."


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        (TIDE, True),
        (f"So they said: {TIDE} And so on.", True),
        ("it is so.\nTHE TIDE turns... twice a day  because ‘the moon’ pulls? yes", True),
        ("The tide turns twice a day, because the sun pulls.", False),
        ("Breathe tide turns twice a day, because the moon pulls.", False),
        ("the tide turns twice a day because the moon pullsx", False),
        ("Don't panic", True),
        ("DON’T PANIC!", True),
        ("don´t\u3000ｐａｎｉｃ", True),
        ("Don't panic, said the book.", False),
        ("…!", False),
        ("antidisestablishmentarianism is long", True),
        ("no antidisestablishmentarianismx", False),
    ],
)
def test_a_document_that_contains_a_text_of_an_excluded_file_is_dropped(text: str, hit: bool) -> None:
    """Short texts count only as whole documents, else a prompt such as `Don't panic` would drop half a corpus."""
    assert Exclusion.of([TIDE, "Don't panic", "!?", "", "Antidisestablishmentarianism"]).hits(text) == hit


def test_the_index_finds_what_a_search_for_every_text_finds() -> None:
    """Another road: pad with spaces and look for each text in each document."""
    words = ["tide", "turns", "moon", "pulls", "sea", "earth"]
    pick = [[words[(seed * 7 + k * k * seed + k) % 6] for k in range(n)] for seed in range(1, 60) for n in (4, 6, 9)]
    texts = [" ".join(row) for row in pick[::3] if len(" ".join(row)) >= 20]
    found = Exclusion.of(texts)
    expected = [any(f" {text} " in f" {' '.join(row)} " for text in texts) for row in pick]
    assert [found.hits(" ".join(row)) for row in pick] == expected
    assert 0 < sum(expected) < len(expected)


def test_texts_to_exclude_come_from_files_of_any_format(tmp_path: Path) -> None:
    (tmp_path / "probe.csv").write_text('text,label\n"a probe text about nothing much",1\n')
    (tmp_path / "prompts.txt").write_text("first prompt of the evaluation\nsecond prompt of the evaluation\n")
    source(tmp_path / "rtp.jsonl", {"prompt": {"text": "third prompt of the evaluation"}})
    names = ("probe.csv", "prompts.txt", "rtp.jsonl#prompt.text")
    preparation = Preparation(exclude=tuple(tmp_path / name for name in names))
    ends = [
        "probe text about nothing much",
        "second prompt of the evaluation",
        "third prompt of the evaluation",
        "else",
    ]
    corpus = source(tmp_path / "corpus.jsonl", *(f"It says: a {end}" for end in ends))
    texts, ledger = run(corpus, preparation)
    assert texts == ["It says: a else"]
    assert ledger.excluded == 3
    with pytest.raises(ValueError, match="There is no file"):
        Preparation(exclude=(tmp_path / "nothing.csv",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to a.b+c@mail.example.org, now.", f"Write to {EMAIL}, now."),
        ("<x@example.com>x@localhost", f"<{EMAIL}>x@localhost"),
        ("Call (555) 234-5678 or 555.234.5678", f"Call {PHONE} or {PHONE}"),
        ("+44 20 7946 0958; 1-555-234-5678", f"{PHONE}; {PHONE}"),
        ("at 192.0.2.17, and 2001:db8::ff00:42:8329.", f"at {IP}, and {IP}."),
        ("version 1.2.3.4.5, v1.2.3.4, 999.1.1.1", None),
        ("12:30:45 std::move a::b 2020-10-12 1990-2000", None),
        ("post 4815162342, 100 200 3000, $1,234,567.89", None),
    ],
)
def test_personal_data_give_way_to_olmos_placeholders(text: str, expected: str | None) -> None:
    ledger = Ledger()
    assert masked(text, ledger) == (expected or text)
    n_masked = ledger.masked_emails + ledger.masked_phones + ledger.masked_ips
    assert n_masked == sum((expected or "").count(placeholder) for placeholder in PLACEHOLDERS)


def test_placeholders_are_tokens_of_olmos_vocabulary() -> None:
    vocabulary = pytest.importorskip("training.tokenizer").official_tokenizer()
    assert [vocabulary.encode(place).ids for place in PLACEHOLDERS] == [[50277], [50278], [0]]


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        ("The child was naked.", True),
        ("sexual talk of a 12-year-old", True),
        ("sexual talk of a 12 y/o", True),
        ("a 42-year-old, naked", False),
        ("naked as the young girl was", True),
        ("naked as the young tree was", False),
        ("pre-teen Porn", True),
        ("children of Essex", False),
        ("the kids watched a damn film", False),
        (f"child {'x ' * (WINDOW_WORDS - 1)}sex", True),
        (f"child {'x ' * WINDOW_WORDS}sex", False),
        (f"sex {'x ' * 30}child {'x ' * 30}child, sex", True),
    ],
)
def test_words_for_minors_near_sexual_words_are_caught(text: str, caught: bool) -> None:
    assert about_minors(text) == caught


def test_a_preparation_is_described_without_folders(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text("")
    (tmp_path / "probe.jsonl").write_text("")
    preparation = Preparation(
        "post", 0.5, 3, True, (tmp_path / "probe.jsonl#prompt.text",), True, "meda", tmp_path / "scores.jsonl"
    )
    described = json.loads(json.dumps(preparation.describe()))
    assert described.keys() == {field.name for field in fields(Preparation)}
    assert described["exclude"][0]["file"] == "probe.jsonl#prompt.text"
    assert len(described["scores"]["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(described)
    assert described != Preparation().describe()


def test_everything_together_in_its_order(tmp_path: Path) -> None:
    """Masked before it is compared with what was kept; excluded before it is masked."""
    (tmp_path / "probe.txt").write_text("a probe that names a@example.org\n")
    rows = ["see a@example.org", "see b@example.org", "yes, a probe that names a@example.org", "the child, naked"]
    preparation = Preparation(deduplicate=True, mask_personal=True, exclude=(tmp_path / "probe.txt",))
    texts, ledger = run(source(tmp_path / "a.jsonl", *rows), preparation, forum=True)
    assert texts == [f"see {EMAIL}"]
    assert (ledger.duplicates, ledger.excluded, ledger.about_minors, ledger.masked_emails) == (1, 1, 1, 2)


def test_scores_travel_with_their_documents(tmp_path: Path) -> None:
    row = {"text": "rude to a@example.org", "perspectives": {"TOXICITY": 0.75}}
    [document] = prepared(source(tmp_path / "a.jsonl", row), Preparation(mask_personal=True), True, set(), Ledger())
    assert document == Document(f"rude to {EMAIL}", 0.75)
