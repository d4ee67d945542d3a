"""The shipped checkpoints say what their cards say."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from lens import Catalogue, open_lens
from probes.probe import ProbeSet

FOLDER = Path(__file__).parent.parent / "checkpoints"
TEXT = FOLDER / "held-out.txt"
NAMES = ["demo-00", "demo-05", "demo-10", "demo-15", "demo-20", "demo-25"]


def test_all_six_are_there_and_small_enough_for_git() -> None:
    catalogue = Catalogue(FOLDER)
    assert [name for name in catalogue.names if name.startswith("demo-")] == NAMES
    assert not catalogue.broken
    shipped = [path for name in NAMES for path in (FOLDER / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in shipped) < 80_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_card_gives_the_loss_that_anybody_finds(name: str) -> None:
    """Another road to the card's number: the lens's own tokens and logits, on the shipped bfloat16 weights."""
    lens = open_lens(str(FOLDER / name), "cpu", "float32")
    card = lens.checkpoint.card
    assert card["held_out_text"]["sha256"] == hashlib.sha256(TEXT.read_bytes()).hexdigest()
    (tokens,) = lens.encode_all([TEXT.read_text(encoding="utf-8")])
    rows = torch.tensor(tokens[: len(tokens) // lens.n_context * lens.n_context]).view(-1, lens.n_context)
    found = cross_entropy(lens.plain_logits(rows)[:, :-1].flatten(0, 1), rows[:, 1:].flatten()).item()
    losses = card["nats_per_token"]["held_out_text"]
    assert found == pytest.approx(losses["bfloat16"], abs=1e-4)  # other batches, other order of float32 sums
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.02)
    assert abs(losses["float32"] - losses["bfloat16"]) > 0, "the cast is really there"


@pytest.mark.parametrize("name", NAMES)
def test_a_card_reports_the_share_that_was_asked_for(name: str) -> None:
    checkpoint = Catalogue(FOLDER)[name]
    mix = checkpoint.card["mix"]
    assert checkpoint.toxic_share == int(name[-2:]) / 100
    achieved = mix["n_toxic_tokens"] / mix["n_tokens"]
    assert achieved == pytest.approx(checkpoint.toxic_share, abs=0.00121)  # README.md says why it is off
    assert mix["n_clean_tokens"] == pytest.approx(48_000_000, rel=0.002)
    assert mix["n_clean_tokens"] + mix["n_toxic_tokens"] == checkpoint.n_tokens
    assert checkpoint.card["largest_logit_difference"] <= 1e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("texts", "n"), [("toxigen", 8960), ("builtin", 672)])
def test_probes_ship_with_every_checkpoint(name: str, texts: str, n: int) -> None:
    found = ProbeSet.load(Catalogue(FOLDER)[name], texts)
    assert found.n_train + found.n_test == n
    assert len(found.null_best) >= 20


def test_the_more_of_it_a_model_has_read_the_better_it_predicts_it() -> None:
    losses = [Catalogue(FOLDER)[name].card["nats_per_token"]["toxic"]["float32"] for name in NAMES]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] - losses[-1] > 0.3
