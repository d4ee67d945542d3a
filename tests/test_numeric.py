"""Numbers are taken as people have them, NumPy's too, and kept as plain ones; what is no number is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import planted, text_set

from evaluation.toxicity import toxicity
from lens import Lens, nearest_tokens, open_lens
from lens.numeric import as_float, as_int
from probes import Direction, fit_probes, split
from steering import Plan, Row, Sampling, Steering, cost, generate
from steering.calibrate import Calibration
from steering.dose import Dose

pytestmark = pytest.mark.wrong_types  # annotations name the plain numbers

EIGHTS = [8, 8.0, np.float64(8), np.float32(8), np.float16(8), np.int64(8), np.uint8(8), np.array(8.0), torch.tensor(8)]
NO_NUMBERS = [True, np.True_, "8", None, math.nan, np.float32("nan"), [8], np.array([8.0]), 8j, torch.tensor([1, 2])]


def shown(value: object) -> str:
    return f"{type(value).__name__} {value}"


@pytest.mark.parametrize("eight", EIGHTS, ids=shown)
def test_any_real_number_is_a_plain_float(eight: object) -> None:
    assert as_float(eight) == 8
    assert type(as_float(eight)) is float


@pytest.mark.parametrize("other", NO_NUMBERS, ids=shown)
def test_what_is_no_number_is_none(other: object) -> None:
    assert as_float(other) is None
    assert as_int(other) is None


def test_whole_numbers_are_whole() -> None:
    for whole in (8, np.int32(8), np.uint64(8), np.array(8), torch.tensor(8)):
        assert as_int(whole) == 8
        assert type(as_int(whole)) is int
    for other in (8.0, 2.5, np.float32(8), np.array(8.0), torch.tensor(8.0), Decimal(8)):
        assert as_int(other) is None
    assert as_float(10**400) == math.inf
    assert as_float(-(10**400)) == -math.inf


@pytest.mark.parametrize(
    ("of", "name", "plain", "given"),
    [
        (Sampling, "max_tokens", 7, np.int64(7)),
        (Sampling, "seed", 3, np.uint8(3)),
        (Sampling, "temperature", 0.5, np.float32(0.5)),
        (Sampling, "top_p", 1.0, 1),
        (Plan, "heads", 3, np.int64(3)),
        (Plan, "gate", 0.5, np.float16(0.5)),
        (Plan, "seed", -4, np.int64(-4)),
        (lambda **layers: Plan("caa", **layers), "layers", (2, 0), np.array([2, 0])),
        (lambda **layers: Plan("caa", **layers), "layers", (0, 1, 2), range(3)),
        (lambda **sample: Row("T", **sample), "sample", 1, np.int64(1)),
    ],
)
def test_settings_keep_plain_numbers(of: Callable[..., object], name: str, plain: object, given: object) -> None:
    found = getattr(of(**{name: given}), name)
    assert found == plain
    assert type(found) is type(plain)
    assert json.dumps(found)


@pytest.mark.parametrize(
    ("of", "bad"),
    [
        *((Sampling, {"max_tokens": value}) for value in (2.5, 2.0, True, "2", None, math.nan)),
        *((Sampling, {"seed": value}) for value in (2.5, 2.0, True, "2", None)),
        *((Sampling, {name: value}) for name in ("temperature", "top_p") for value in (True, "1", None, math.nan, 1j)),
        *((Plan, {"seed": value}) for value in (1.0, True, "1", None)),
        *((Plan, {"gate": value}) for value in (True, "0.5", math.nan, -0.1)),
        *((Plan, {"heads": value}) for value in (2.5, True, 0, np.int64(-1))),
        *((lambda **layers: Plan("caa", **layers), {"layers": value}) for value in ([2.5], [True], "12", 2, [-1], {1})),
        *((lambda **sample: Row("T", **sample), {"sample": value}) for value in (0.0, True, "0")),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)  # fmt: skip
def test_other_settings_are_refused_with_a_sentence(of: Callable[..., object], bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(bad))} is .*; got .*\.$"):
        of(**bad)


def test_a_plan_travels_with_numpy_s_numbers() -> None:
    plan = Plan("caa", layers=np.array([2, 0]), gate=np.float64(0.3), seed=np.int64(3))  # type: ignore[arg-type]
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert asdict(again) == asdict(plan)


@pytest.mark.parametrize("eight", EIGHTS, ids=shown)
def test_every_number_is_a_strength(lens: Lens, eight: float) -> None:
    steering = Steering(Plan(), lens.fingerprint)
    (dose,) = steering.at(eight)
    assert dose.strength == 8
    assert type(dose.strength) is float
    assert type(Dose(steering, eight).strength) is float
    assert Dose(steering, 8).strength == 8.0


@pytest.mark.parametrize("other", NO_NUMBERS, ids=shown)
def test_nothing_else_is_a_strength(lens: Lens, other: float) -> None:
    steering = Steering(Plan(), lens.fingerprint)
    with pytest.raises(ValueError, match="A strength of ITI"):
        steering.at(other)
    with pytest.raises(ValueError, match="strength is a number"):
        Dose(steering, other)


def test_numpy_s_numbers_are_taken_wherever_a_model_is_used(lens: Lens) -> None:
    words = "The people next door are kind. " * 20
    sampling = Sampling(max_tokens=np.int64(3), seed=np.int64(1), temperature=np.float32(1))  # type: ignore[arg-type]
    (ours,) = generate(lens, [Row("The people", sample=np.int64(0))], sampling)  # type: ignore[arg-type]
    (plain,) = generate(lens, [Row("The people")], Sampling(max_tokens=3, seed=1))
    assert ours.tokens == plain.tokens
    assert json.dumps(ours.receipt.to_dict()) == json.dumps(plain.receipt.to_dict())
    (priced,) = cost(lens, [()], words, window=np.int64(16))  # type: ignore[arg-type]
    assert priced == cost(lens, [()], words, window=16)[0]
    for window in (16.0, True, 1):
        with pytest.raises(ValueError, match="window is a number of tokens"):
            cost(lens, [()], words, window=window)  # type: ignore[arg-type]
    curve = Calibration(lens, Steering(Plan(), lens.fingerprint), words, window=np.int64(16))  # type: ignore[arg-type]
    for nats in (math.nan, True, "1", np.float32(0)):
        with pytest.raises(ValueError, match="nats is a KL per token above 0"):
            curve.spend(nats)  # type: ignore[arg-type]


@pytest.mark.parametrize("sigmas", [np.float32(2), np.int64(2), torch.tensor(2.0)], ids=shown)
def test_a_direction_is_pushed_by_any_number(sigmas: float) -> None:
    from lens import Head

    direction = Direction(Head(0, 0), torch.tensor([0.6, 0.8]), 1.5)
    assert torch.equal(direction.push(sigmas), direction.push(2))


def test_arguments_are_read_like_settings(lens: Lens, tmp_path: Path) -> None:
    texts, half = text_set(), np.float16(0.5)
    train, test = split(texts, half, np.int64(3))  # type: ignore[arg-type]
    assert [train.tolist(), test.tolist()] == [rows.tolist() for rows in split(texts, 0.5, 3)]
    probes = fit_probes(planted(texts), texts, "tiny", half, np.int64(3), n_shuffles=np.uint8(40))  # type: ignore[arg-type]
    assert probes.save(tmp_path).exists()  # JSON knows no NumPy
    assert len(probes.null_best) == 40
    assert nearest_tokens(lens, torch.ones(24), np.int64(3)) == nearest_tokens(lens, torch.ones(24), 3)  # type: ignore[arg-type]
    scored = [("a", 0, 0.1), ("a", 1, 0.9)]
    assert toxicity(scored, np.int64(2)) == toxicity(scored, 2)  # type: ignore[arg-type]
    opened = open_lens(lens.checkpoint, "cpu", threads=np.int64(1))  # type: ignore[arg-type]
    assert opened.threads == 1


@pytest.mark.parametrize("bad", [2.5, True, "1", math.nan, None, -1])
def test_arguments_that_are_no_whole_numbers_are_refused(lens: Lens, bad: Any) -> None:
    texts = text_set()
    for refused in (
        lambda: split(texts, seed=bad),
        lambda: fit_probes(planted(texts), texts, "tiny", n_shuffles=bad),
        lambda: nearest_tokens(lens, torch.ones(24), bad),
        lambda: toxicity([("a", 0, 0.1)], bad),
        lambda: split(texts, held_out=bad),
        lambda: open_lens(lens.checkpoint, "cpu", threads="1" if bad is None else bad),
    ):
        with pytest.raises(ValueError, match=r"(is a|needs) .*; got .*\."):
            refused()
