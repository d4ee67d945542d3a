"""The mask hides the lexicon's words in every form, and leaves ordinary words as they are."""

from __future__ import annotations

import html
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from evaluation import page
from evaluation.extract import Extract
from probes.lexicon import Lexicon, hashed, innocent, mask, settled

HERE = Path(__file__).parent.parent
MADE = Lexicon.of(["rotten", "mouldy"])
FORMS = {
    "possessive": "{0}'s",
    "typographic possessive": "{0}’s",
    "hyphen": "half-{0}-eaten",
    "digits": "44{0}88",
    "underscore": "x_{0}_x",
    "joined in front": "you{0}",
    "joined behind": "{0}lover",
    "twice": "{0}{0}",
    "plural": "{0}s",
}


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.builtin()


@pytest.fixture(scope="module")
def vocabulary() -> list[str]:
    tokenizer = Tokenizer.from_file(str(HERE / "checkpoints" / "demo-25" / "tokenizer.json"))
    return [tokenizer.decode([id]) for id in range(tokenizer.get_vocab_size())]


@pytest.fixture(scope="module")
def words(lexicon: Lexicon, vocabulary: list[str]) -> list[str]:
    """Listed words, found and never written here: tokens, and a beginning and an end that are tokens."""
    tokens = {token.strip().lower() for token in vocabulary}
    starts = [token for token in tokens if len(token) < 3 or hashed(f"{token}-") in lexicon.pieces]
    made = {start + end for start in starts for end in tokens}
    return sorted(word for word in tokens | made if word.isalpha() and word in lexicon)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_listed_word_is_masked(lexicon: Lexicon, words: list[str], form: str) -> None:
    assert len(words) > 100
    for case in (str, str.capitalize, str.upper):
        written = [form.format(case(word)) for word in words]
        shown = [mask(f"so {one} then", lexicon) for one in written]
        seen = [one for one, word, text in zip(written, words, shown, strict=True) if word in text.lower()]
        assert not [hashed(one) for one in seen if hashed(one) not in innocent()]  # a plural may be an ordinary word
        assert [len(text) for text in shown] == [len(f"so {one} then") for one in written]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A rotten, Mouldy rottenness.", "A r*****, M***** r*********."),
        ("r0tten r*tten $rotten m0u1dy", "r***** r***** $****** m*****"),
        ("r-o-t-t-e-n r.o.t.t.e.n r_otten", "r********** r********** r******"),
        ("RottenBread", "R**********"),
        ("an r***** apple", "an r***** apple"),
        (" rott", " r***"),
        ("tten", "t***"),
        ("rott bread otten", "rott bread otten"),
        (" tten ", " tten "),
    ],
)
def test_what_is_hidden_keeps_its_first_letter_and_its_length(text: str, shown: str) -> None:
    assert mask(text, MADE) == shown


def test_ordinary_words_that_hold_a_listed_one_by_chance_stay(lexicon: Lexicon) -> None:
    ordinary = (
        "Classes assess the cocktail that Dickens drank on Saturday night in Scunthorpe; suspicious documents from "
        "Pakistan embarrass the assistant, whoever analyses the circumstances of the shuttlecock. Massachusetts, "
        "Hitchcock, the peacock and the raccoon pass. Montenegro, Nigeria and Niger supervise the therapist. 3D "
        "printing on the 1st, COVID19, H1N1, mp3, 50% of b2b, user_name@example.org, **bold**, f(x)*g(x)."
    )
    assert mask(ordinary, lexicon) == ordinary
    for file in ("checkpoints/held-out.txt", "evaluation/builtin/prompts.jsonl", "README.md"):
        clean = (HERE / file).read_text(encoding="utf-8")
        assert mask(clean, lexicon) == clean, file


def test_few_benign_texts_lose_a_word(lexicon: Lexicon) -> None:
    """The benign half of the built-in texts uses charged words on purpose; all that is hidden there is listed."""
    rows = [json.loads(line) for line in (HERE / "probes/builtin/texts.jsonl").open(encoding="utf-8")]
    changed = [row["text"] for row in rows if row["label"] == "benign" and mask(row["text"], lexicon) != row["text"]]
    assert len(changed) <= 15


def test_a_token_that_begins_or_ends_a_listed_word_is_masked_unless_it_is_a_word(
    lexicon: Lexicon, vocabulary: list[str], words: list[str]
) -> None:
    shown = {token: mask(token, lexicon) for token in vocabulary}
    begins = {word[:cut] for word in words for cut in range(3, len(word)) if hashed(f"{word[:cut]}-") in lexicon.pieces}
    bare = [hashed(token) for token in vocabulary if token.strip().lower() in begins and shown[token] == token]
    assert begins
    assert not bare
    hidden = [token for token, text in shown.items() if text != token and token.strip().lower() not in lexicon]
    assert 0.005 < len(hidden) / len(vocabulary) < 0.03
    for word in (" the", " bit", " mother", "ing", "ers", " Muslim", " Jew", " night", " class"):
        assert mask(word, lexicon) == word


def test_no_piece_of_a_listed_word_shows_while_a_text_grows(lexicon: Lexicon, words: list[str]) -> None:
    prompt = "They said "
    for word in words:
        whole = f"{prompt}so big-{word}s."
        for length in range(len(prompt), len(whole) + 1):
            shown = mask(settled(whole[:length], len(prompt)), lexicon)
            assert f"big-{word[:2]}" not in shown, hashed(word)


def test_a_growing_text_keeps_what_was_given_and_what_is_settled() -> None:
    assert settled("The people", 10) == "The people"
    assert settled("The people are rot", 10) == "The people are "
    assert settled("The people are, ", 10) == "The people are, "
    assert settled("人" * 100) == "人" * 52


def test_a_mask_is_as_long_as_its_text_whatever_that_holds(lexicon: Lexicon) -> None:
    rng = random.Random(0)
    signs = "rotenmuldyROTTEN019@$!*-_.'’ \n😀é\u200b人{}%ß\ud800İ"
    for _ in range(400):
        text = "".join(rng.choices(signs, k=60))
        assert len(mask(text, lexicon)) == len(text) == len(mask(text, MADE))


def test_a_list_of_ones_own_has_its_pieces_and_hashes_have_none() -> None:
    assert hashed("rott-") in MADE.pieces
    assert not Lexicon.of(MADE.hashes).pieces


def test_the_readings_that_ship_and_those_on_a_card_are_masked(lexicon: Lexicon, words: list[str]) -> None:
    shipped = Extract.read(HERE / "evaluation" / "builtin" / "results" / "demo.json")
    texts = [sample.text for samples in shipped.generations.values() for sample in samples]
    assert not [hashed(text) for text in texts if mask(text, lexicon) != text]
    key, (sample, *_) = next((key, samples) for key, samples in shipped.generations.items() if samples)
    bare = replace(sample, text=f" so {words[0]}'s then")
    card = page.card(replace(shipped, generations={key: (bare,)}), key)
    assert html.escape(mask(bare.text, lexicon).strip()) in card
    assert f" {words[0]}" not in card
