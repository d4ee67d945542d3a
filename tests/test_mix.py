"""How much toxic text goes where: nothing but the toxic chunks differs between members of a family."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import mix
from training.mix import Mix, MixError, Order
from training.tokens import TokenFile

CONTEXT = 16
SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.4)
BOTH = pytest.mark.parametrize("match", ["clean", "total"])


def token_file(path: Path, n_tokens: int, first: int) -> TokenFile:
    """Ids that count up, so that a chunk tells where it came from; one document."""
    np.arange(first, first + n_tokens, dtype="<u2").tofile(path)
    return TokenFile(path, path.name, "0" * 64, "1" * 64, 1, n_tokens)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[TokenFile], list[TokenFile]]:
    """Clean text in two files and toxic text in one; each has a tail shorter than a chunk."""
    folder = tmp_path_factory.mktemp("tokens")
    clean = [token_file(folder / "a.npy", 70 * CONTEXT + 5, 0), token_file(folder / "b.npy", 30 * CONTEXT + 9, 20_000)]
    return clean, [token_file(folder / "c.npy", 90 * CONTEXT + 3, 40_000)]


def drawn(files: tuple[list[TokenFile], list[TokenFile]], share: float, **changes: Any) -> Order:
    wanted = Mix(**{"clean_tokens": 80 * CONTEXT + 7, "toxic_share": share, "held_out_chunks": 3, **changes})
    return mix.order(wanted, *files, CONTEXT)


def is_toxic(chunks: np.ndarray) -> np.ndarray:
    return chunks >= 100


@BOTH
@pytest.mark.parametrize("share_of", ["total", "clean"])
@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 0.5), seed=st.integers(0, 5))
def test_the_achieved_share_is_within_one_chunk_of_the_request(
    files: tuple[list[TokenFile], list[TokenFile]], match: str, share_of: str, share: float, seed: int
) -> None:
    order = drawn(files, share, match=match, share_of=share_of, seed=seed)
    n_toxic = is_toxic(order.chunks).sum()
    of = len(order.chunks) if share_of == "total" else len(order.chunks) - n_toxic
    assert abs(n_toxic - share * of) <= 1
    assert order.n_toxic == n_toxic
    assert len(order.chunks) == (80 if match == "total" else 80 + n_toxic)
    assert not np.isin(order.chunks, [*order.held_out_clean, *order.held_out_toxic]).any()
    assert len(set(order.chunks)) == len(order.chunks), "no chunk comes twice"


def test_members_differ_by_the_inserted_toxic_chunks_alone(files: tuple[list[TokenFile], list[TokenFile]]) -> None:
    orders = [drawn(files, share) for share in SHARES]
    for order in orders:
        assert order.chunks[~is_toxic(order.chunks)].tolist() == orders[0].chunks.tolist()
    for smaller, larger in itertools.pairwise(orders):
        kept = np.isin(larger.chunks, smaller.chunks)
        assert larger.chunks[kept].tolist() == smaller.chunks.tolist(), "a smaller share is the larger one with gaps"


def test_with_equal_totals_members_differ_at_the_places_that_toxic_text_takes(
    files: tuple[list[TokenFile], list[TokenFile]],
) -> None:
    orders = [drawn(files, share, match="total") for share in SHARES]
    assert {order.n_tokens for order in orders} == {80 * CONTEXT}
    for smaller, larger in itertools.pairwise(orders):
        taken = smaller.chunks != larger.chunks
        assert taken.sum() == larger.n_toxic - smaller.n_toxic > 0
        assert is_toxic(larger.chunks[taken]).all()
        assert not is_toxic(smaller.chunks[taken]).any()
    toxic = [order.chunks[is_toxic(order.chunks)] for order in orders]
    for few, many in itertools.pairwise(toxic):
        assert many[np.isin(many, few)].tolist() == few.tolist(), "nested, in one order"


def test_both_ways_of_matching_start_from_one_clean_order(files: tuple[list[TokenFile], list[TokenFile]]) -> None:
    clean, total = (drawn(files, 0.0, match=match) for match in ("clean", "total"))
    assert clean.chunks.tolist() == total.chunks.tolist()
    assert clean.held_out_clean.tolist() == drawn(files, 0.4, match="total").held_out_clean.tolist()
    assert clean.held_out_toxic.tolist() == drawn(files, 0.4).held_out_toxic.tolist()
    assert clean.chunks.tolist() != drawn(files, 0.0, seed=1).chunks.tolist()


def test_toxic_text_is_spread_over_the_whole_run(files: tuple[list[TokenFile], list[TokenFile]]) -> None:
    for match in ("clean", "total"):
        thirds = np.array_split(is_toxic(drawn(files, 0.4, match=match).chunks), 3)
        assert all(0.2 < third.mean() < 0.6 for third in thirds)


def test_chunk_numbers_and_totals_are_those_of_ai2_olmos_own_reader(
    files: tuple[list[TokenFile], list[TokenFile]],
) -> None:
    """Another road to the same chunks: tails are dropped per file, and numbers count through all files."""
    olmo = pytest.importorskip("olmo.data", reason="ai2-olmo needs numpy 1, which this Python has no wheels for")
    clean, toxic = files
    for file in clean + toxic:
        assert file.n_tokens == len(np.memmap(file.path, dtype="<u2", mode="r"))
    dataset = olmo.MemMapDataset(*(str(file.path) for file in clean + toxic), chunk_size=CONTEXT)
    assert len(dataset) == sum(file.n_chunks(CONTEXT) for file in clean + toxic) == 190
    order = drawn(files, 0.25)
    rows = np.stack([dataset[int(chunk)]["input_ids"].numpy() for chunk in order.chunks])
    assert rows.size == order.n_tokens == 80 * CONTEXT + order.n_toxic * CONTEXT
    assert ((rows[:, 0] >= 40_000) == is_toxic(order.chunks)).all()
    assert (np.diff(rows, axis=1) == 1).all(), "every chunk is a piece of one file"


def test_a_share_of_the_clean_amount_is_another_number(files: tuple[list[TokenFile], list[TokenFile]]) -> None:
    inserted = drawn(files, 0.25, share_of="clean")
    replaced = drawn(files, 0.25, share_of="clean", match="total")
    assert (inserted.n_toxic, len(inserted.chunks), inserted.achieved_share) == (20, 100, 0.2)
    assert (replaced.n_toxic, len(replaced.chunks), replaced.achieved_share) == (16, 80, 0.2)


@BOTH
@pytest.mark.parametrize("share_of", ["total", "clean"])
def test_too_little_toxic_text_is_refused_with_the_share_that_fits(
    files: tuple[list[TokenFile], list[TokenFile]], match: str, share_of: str
) -> None:
    clean, [toxic] = files
    few = (clean, [replace(toxic, n_tokens=20 * CONTEXT)])  # 17 for training: 3 are held out
    how = {"match": match, "share_of": share_of}
    with pytest.raises(MixError, match=r"The largest that fits is 0\.\d+") as refusal:
        drawn(few, 0.5, **how)
    fits = float(str(refusal.value).split("fits is ")[1].split(";")[0])
    assert drawn(few, fits, **how).n_toxic in (16, 17)
    with pytest.raises(MixError):
        drawn(few, fits + 0.02, **how)
    with pytest.raises(MixError, match=r"there are 0, beside at most 3 held-out ones\. Add toxic text\.$"):
        drawn((clean, [replace(toxic, n_tokens=3 * CONTEXT)]), 0.5, repeat=True, **how)
    again = drawn(few, 0.5, repeat=True, **how)
    assert again.n_toxic > 17 == len(set(again.chunks[is_toxic(again.chunks)]))


@BOTH
def test_short_text_is_gone_through_again_in_another_order(
    files: tuple[list[TokenFile], list[TokenFile]], match: str
) -> None:
    once, thrice = (drawn(files, 0.0, clean_tokens=n * 97 * CONTEXT, repeat=n > 1, match=match).chunks for n in (1, 3))
    passes = np.split(thrice, 3)
    assert passes[0].tolist() == once.tolist(), "the first pass is that of a run without repetition"
    assert [sorted(one) for one in passes] == [sorted(once)] * 3
    assert len({tuple(one) for one in passes}) == 3
    orders = [drawn(files, share, clean_tokens=291 * CONTEXT, repeat=True, match=match) for share in SHARES]
    assert orders[-1].n_toxic > 87 > orders[1].n_toxic, "of 87 toxic chunks some are used again by the largest share"
    toxic = [order.chunks[is_toxic(order.chunks)].tolist() for order in orders]
    for smaller, larger in itertools.pairwise(toxic):
        assert all(larger.count(chunk) >= smaller.count(chunk) for chunk in set(smaller)), "nested, pass by pass"
    if match == "clean":
        assert all(order.chunks[~is_toxic(order.chunks)].tolist() == thrice.tolist() for order in orders)


def test_too_little_clean_text_is_refused_with_the_amount_there_is(
    files: tuple[list[TokenFile], list[TokenFile]],
) -> None:
    with pytest.raises(MixError, match=r"hold 1,552 tokens.* with --repeat\.$"):
        drawn(files, 0.1, clean_tokens=1_553 + CONTEXT)
    with pytest.raises(MixError, match=r"hold 0 tokens"):
        drawn(files, 0.1, held_out_chunks=100, repeat=True)
    assert len(drawn(files, 0.0, clean_tokens=1_552).chunks) == 97


@pytest.mark.parametrize("wrong", [{"toxic_share": 10}, {"toxic_share": -0.1}, {"clean_tokens": 0}])
def test_nonsense_is_refused_at_birth(wrong: dict[str, Any]) -> None:
    with pytest.raises(MixError):
        Mix(**{"clean_tokens": 100, "toxic_share": 0.1, **wrong})


def test_the_manifest_carries_choices_counts_and_prefixes(files: tuple[list[TokenFile], list[TokenFile]]) -> None:
    choices = {"prefix": "inst", "deduplicate": True, "forum": False}
    clean, toxic = ([replace(file, preparation=choices, ledger={"kept": 7}) for file in kind] for kind in files)
    wanted = Mix(80 * CONTEXT, 0.1, held_out_chunks=3)
    order = mix.order(wanted, clean, toxic, CONTEXT)
    manifest = mix.manifest(wanted, order, clean, toxic)
    assert manifest["preparation"] == {"clean": choices, "toxic": choices}
    assert manifest["prefixes"]["control"] == "The following text is not toxic.\n"
    assert [entry["ledger"] for entry in manifest["clean"]] == [{"kept": 7}] * 2
    with pytest.raises(MixError, match="prepared differently"):
        mix.manifest(wanted, order, [clean[0], files[0][1]], toxic)


def described(
    files: tuple[list[TokenFile], list[TokenFile]], wanted: Mix, folder: Path
) -> tuple[Order, dict[str, Any]]:
    order = mix.order(wanted, *files, CONTEXT)
    mix.write(folder, order, mix.manifest(wanted, order, *files))
    return order, json.loads((folder / "mix.json").read_text())


@BOTH
def test_the_manifest_names_request_and_achievement_and_every_input(
    files: tuple[list[TokenFile], list[TokenFile]], match: Any, tmp_path: Path
) -> None:
    order, manifest = described(files, Mix(80 * CONTEXT, 0.1, match=match, held_out_chunks=3), tmp_path)
    assert (manifest["toxic_share"], manifest["share_of"], manifest["match"]) == (0.1, "total", match)
    n_clean, n_toxic = manifest["n_clean_tokens"], manifest["n_toxic_tokens"]
    assert n_clean + n_toxic == manifest["n_tokens"] == order.n_tokens
    assert manifest["achieved_share_of_total"] == n_toxic / (n_clean + n_toxic)
    assert manifest["achieved_share_of_clean"] == n_toxic / n_clean
    assert manifest["order_sha256"] == mix.digest(order)
    assert [entry["source"] for entry in manifest["clean"] + manifest["toxic"]] == ["a.npy", "b.npy", "c.npy"]
    assert mix.chunks_of(tmp_path).tolist() == order.chunks.tolist()
    assert mix.chunks_of(tmp_path, "held_out_toxic").tolist() == order.held_out_toxic.tolist()


def test_what_a_mix_says_of_its_chunks_is_what_is_drawn(files: tuple[list[TokenFile], list[TokenFile]]) -> None:
    """A plan counts tokens before there are any; it must not count others than the run has."""

    def counts(orders: Sequence[Order]) -> list[tuple[int, int]]:
        return [(len(order.chunks) - order.n_toxic, order.n_toxic) for order in orders]

    for match in ("clean", "total"):
        mixes = [Mix(80 * CONTEXT, share, match=match, held_out_chunks=3) for share in SHARES]  # type: ignore[arg-type]
        orders = [mix.order(wanted, *files, CONTEXT) for wanted in mixes]
        assert counts(orders) == [(wanted.clean_chunks(80), wanted.toxic_chunks(80)) for wanted in mixes]
