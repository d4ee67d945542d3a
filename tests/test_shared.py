"""Many rows behind few beginnings write what each of them writes alone, whatever they share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import write_tiny_olmo
from test_steering import DIRECTIONS, steering

from lens import Lens, open_lens
from lens.blocks import RowCache
from steering import Row, Sampling, generate
from steering.decode import MANY_ROWS, alike
from steering.shared import SharedCache

PROMPTS = ("A", "The people next door are", "A small garden needs sun, water and patience; the rest is", "Bread")


def rows_of(lens: Lens, positions: str = "last", samples: int = 5) -> list[Row]:
    """Prompts of one token and of many, some asked more often than others."""
    ours = steering(lens, DIRECTIONS, positions=positions)
    doses = ((), ours.at(1), ours.at(-2))
    return [Row(p, one, k) for n, p in enumerate(PROMPTS) for k in range(samples) for one in doses[: 3 - n % 2]]


@pytest.mark.parametrize("positions", ["last", "all"])
def test_rows_that_share_a_beginning_write_what_they_write_alone(lens: Lens, positions: str) -> None:
    rows, sampling = rows_of(lens, positions), Sampling(max_tokens=40, temperature=1.3)
    assert len(rows) >= MANY_ROWS
    together = generate(lens, rows, sampling)
    assert len({len(text.tokens) for text in together}) > 1, "some end earlier"
    for row, text in zip(rows, together, strict=True):
        (alone,) = generate(lens, [row], sampling)
        assert text.tokens == alone.tokens
        assert text.receipt.n_positions == alone.receipt.n_positions
        assert text.receipt.mean_shift == pytest.approx(alone.receipt.mean_shift, rel=1e-5)


def test_in_any_order_each_row_has_its_own_chance(lens: Lens) -> None:
    """Dose after dose or prompt after prompt; the latter shares noise without copying it."""
    doses, asked = ((), steering(lens, DIRECTIONS).at(1)), [(prompt, k) for prompt in PROMPTS for k in range(5)]
    by_prompt = [Row(prompt, one, k) for prompt, k in asked for one in doses]
    by_dose = [Row(prompt, one, k) for one in doses for prompt, k in asked]
    first, second = (
        {(row.prompt, row.doses, row.sample): text.tokens for row, text in zip(rows, texts, strict=True)}
        for rows in (by_prompt, by_dose)
        for texts in [generate(lens, rows, Sampling(max_tokens=10))]
    )
    assert first == second


@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
def test_grouped_queries_find_their_keys(tmp_path: Path, n_kv_heads: int) -> None:
    lens = open_lens(str(write_tiny_olmo(tmp_path / "grouped", num_key_value_heads=n_kv_heads)), "cpu", threads=1)
    rows = [Row(prompt, (), k) for prompt in PROMPTS for k in range(10)]
    together = generate(lens, rows, Sampling(max_tokens=20))
    apart = [generate(lens, [row], Sampling(max_tokens=20))[0] for row in rows]
    assert [text.tokens for text in together] == [text.tokens for text in apart]


def test_half_precision_loses_nothing_by_sharing() -> None:
    """Against one softmax over everything in float64, the shared cache errs no more than rounding its output does."""
    torch.manual_seed(0)
    n_heads, d_head, n_read = 4, 8, 5
    read = RowCache((2, n_heads, n_read, d_head), 1, torch.device("cpu"), torch.bfloat16)
    keys, values = torch.randn(2, 2, n_heads, n_read, d_head).bfloat16() * 2
    read.extend(0, keys, values)
    read.filled = n_read
    lengths, begins = [5, 3], torch.tensor([[0, 0], [0, 1], [0, 0], [0, 1], [0, 0], [0, 0]])
    cache = SharedCache([(read, lengths)], begins, 3)
    own: list[tuple[torch.Tensor, torch.Tensor]] = []
    for kept in ([0, 1, 2, 3, 4, 5], [4, 1, 3, 0], [2, 1]):  # of the rows that were left
        rows = torch.tensor(kept)
        if own:
            cache.keep(rows)
        begins, own = begins[rows], [(key[rows], value[rows]) for key, value in own]
        query, key, value = (torch.randn(len(rows), n_heads, 1, d_head).bfloat16() for _ in range(3))
        own.append((key, value))
        found = cache.attend(0, query, key, value, None)
        cache.filled += 1
        for row, (_, place) in enumerate(begins.tolist()):
            first = n_read - lengths[place]
            k = torch.cat([keys[place, :, first:], *(one[0][row] for one in own)], dim=1).double()
            v = torch.cat([values[place, :, first:], *(one[1][row] for one in own)], dim=1).double()
            weights = (query[row].double() @ k.transpose(-1, -2) * d_head**-0.5).softmax(-1)
            assert found[row].dtype == torch.bfloat16
            torch.testing.assert_close(found[row].double(), weights @ v, rtol=2**-8, atol=1e-6)


def test_beginnings_of_like_length_are_read_together() -> None:
    assert alike([7, 47, 8, 50, 120, 16]) == [[0, 2, 5], [1, 3], [4]]
    assert alike([0]) == [[0]]
