"""A model that was changed after it was opened is noticed before anything is computed with copies of old weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import write_tiny_olmo
from torch import nn

from evaluation.likelihood import Line, log_likelihoods
from lens import ChangedWeights, Lens, gather, nearest_tokens, open_lens
from lens.weights import Seal
from steering import Row, Sampling, cost, generate

SAMPLING = Sampling(max_tokens=4)
Change = Callable[[Lens], object]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("changed")
    return write_tiny_olmo(folder / "tiny", clip_qkv=4.0), write_tiny_olmo(folder / "other", seed=1, clip_qkv=4.0)


@pytest.fixture
def lens(folders: tuple[Path, Path]) -> Lens:
    return open_lens(str(folders[0]), "cpu", "float32", threads=1)


def write(lens: Lens) -> tuple[int, ...]:
    (text,) = generate(lens, [Row("The people next door are")], SAMPLING)
    return text.tokens


def mlp(lens: Lens) -> nn.Module:
    return lens.model.model.layers[1].mlp


def in_place(lens: Lens) -> None:
    with torch.no_grad():
        mlp(lens).down_proj.weight.add_(1e-3)


def one_number(lens: Lens) -> None:
    with torch.no_grad():
        mlp(lens).down_proj.weight[7, 3] += 1e-3


def one_head(lens: Lens) -> None:
    lens.model.model.layers[2].self_attn.o_proj.weight.data[:, 6:12] = 0


def two_rows_swapped(lens: Lens) -> None:
    weight = lens.model.model.layers[0].self_attn.q_proj.weight.data
    weight[[3, 9]] = weight[[9, 3]]


def trained(lens: Lens) -> None:
    lens.model.requires_grad_(True)
    optimizer = torch.optim.SGD(lens.model.parameters(), lr=1e-3)
    lens.model(torch.tensor([[3, 4, 5]]), labels=torch.tensor([[3, 4, 5]])).loss.backward()
    optimizer.step()


def other_weights(lens: Lens, assign: bool = False) -> None:
    other = open_lens(str(lens.checkpoint.folder.parent / "other"), "cpu", "float32").model
    lens.model.load_state_dict(other.state_dict(), assign=assign)


class LowRank(nn.Module):
    """As adapters wrap a layer."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.left, self.right = (
            nn.Parameter(torch.ones(base.out_features, 1)),
            nn.Parameter(torch.ones(1, base.in_features)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.right.T @ self.left.T


def adapted(lens: Lens) -> None:
    attention = lens.model.model.layers[0].self_attn
    attention.v_proj = LowRank(attention.v_proj)


CHANGES: dict[str, Change] = {
    "in place": in_place,
    "one number in place": one_number,
    "through data": lambda lens: mlp(lens).up_proj.weight.data.mul_(1.01),
    "a sign": lambda lens: mlp(lens).gate_proj.weight.data.neg_(),
    "new data": lambda lens: setattr(mlp(lens).down_proj.weight, "data", torch.zeros(24, 40)),
    "a row through data": lambda lens: mlp(lens).up_proj.weight.data[17].zero_(),
    "a column through data": lambda lens: mlp(lens).down_proj.weight.data[:, 39].zero_(),
    "a token through data": lambda lens: lens.model.model.embed_tokens.weight.data[250].zero_(),
    "a head through data": one_head,
    "two rows through data": two_rows_swapped,
    "copied": lambda lens: mlp(lens).up_proj.weight.data.copy_(mlp(lens).gate_proj.weight),
    "trained": trained,
    "loaded": other_weights,
    "loaded and assigned": lambda lens: other_weights(lens, assign=True),
    "another format": lambda lens: lens.model.to(torch.bfloat16),
    "half": lambda lens: lens.model.half(),
    "a new parameter": lambda lens: setattr(mlp(lens).up_proj, "weight", nn.Parameter(torch.zeros(40, 24))),
    "a module": lambda lens: setattr(mlp(lens), "down_proj", nn.Linear(40, 24, bias=False)),
    "a module without weights": lambda lens: setattr(mlp(lens), "act_fn", nn.ReLU()),
    "a module taken out": lambda lens: setattr(lens.model.model.layers[1], "mlp", nn.Identity()),
    "layers taken out": lambda lens: setattr(lens.model.model, "layers", lens.model.model.layers[:2]),
    "a bias": lambda lens: setattr(mlp(lens).down_proj, "bias", nn.Parameter(torch.ones(24))),
    "an adapter": adapted,
    "an unembedding of its own": lambda lens: setattr(lens.model.lm_head, "weight", nn.Parameter(torch.ones(301, 24))),
    "the rotary table": lambda lens: lens.model.model.rotary_emb.inv_freq.mul_(0.5),
    "the config": lambda lens: setattr(lens.model.config, "clip_qkv", None),
    "the whole model": lambda lens: setattr(lens, "model", copy.deepcopy(lens.model)),
}


@pytest.mark.parametrize("used", [False, True], ids=["just opened", "in use"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_model_is_refused_with_what_to_do(lens: Lens, change: Change, used: bool) -> None:
    if used:
        write(lens)
        lens.logits(torch.tensor([[3, 4]]))  # builds the bridge, which shares the weights
        assert write(lens)
    change(lens)
    with pytest.raises(
        ChangedWeights, match=r"of tiny was changed after it was opened \(.+\).*save_pretrained.*again\."
    ):
        write(lens)


PATHS: dict[str, Change] = {
    "generation": write,
    "the reference path": lambda lens: lens.logits(torch.tensor([[3, 4]])),
    "the plain model": lambda lens: lens.plain_logits(torch.tensor([[3, 4]])),
    "activations": lambda lens: gather(lens, ["The people", "A garden"], [True, False], ["", ""]),
    "cost": lambda lens: cost(lens, [()], "The people next door are kind. " * 9, window=16),
    "likelihood": lambda lens: log_likelihoods(lens, [Line(tuple(lens.encode("The people")), (5,))]),
    "nearest tokens": lambda lens: nearest_tokens(lens, torch.ones(24), 3),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_whatever_computes_asks_first(lens: Lens, path: Change) -> None:
    path(lens)
    mlp(lens).down_proj.weight.data.mul_(2)
    with pytest.raises(ChangedWeights):
        path(lens)


def test_a_change_that_was_taken_back_is_none(lens: Lens, folders: tuple[Path, Path]) -> None:
    before = write(lens)
    weight = mlp(lens).down_proj.weight
    whole = weight.clone()
    with torch.no_grad():
        weight.zero_()
        weight.copy_(whole)
    assert write(lens) == before
    weight.data.zero_()
    weight.data.copy_(whole)
    assert write(lens) == before
    lens.model.load_state_dict(open_lens(str(folders[0]), "cpu", "float32").model.state_dict())
    assert write(lens) == before
    with torch.no_grad():
        weight[0, 0] += 1
    with pytest.raises(ChangedWeights, match="down_proj"):
        write(lens)


def test_what_changes_no_number_is_no_change(lens: Lens) -> None:
    before = write(lens)
    lens.model.requires_grad_(True)
    lens.model.train().eval()
    lens.model.config.use_cache = False
    lens.model.register_forward_hook(lambda module, inputs, output: None)
    lens.plain_logits(torch.tensor([[3, 4]]))
    lens.logits(torch.tensor([[3, 4]]))
    assert write(lens) == before


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 5), (6, 4), (4, 6), (301, 24), (24, 301), (2, 3, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_sample_holds_a_number_of_every_row_and_column(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    class Alone(nn.Module):
        config = None

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(shape, dtype=dtype))

    model = Alone()
    seal, rows = Seal(model), model.weight.data.view(-1, shape[-1])
    assert seal.change(model) is None
    for change in (*rows, *rows.T):
        with changed(change):
            assert seal.change(model) == "weight"
        assert seal.change(model) is None


@contextmanager
def changed(numbers: torch.Tensor) -> Iterator[None]:
    """Other numbers for a while, written past torch's count."""
    numbers.mul_(2)
    yield
    numbers.div_(2)
