"""What comes from the network is what a control can give, or it is refused in a sentence that can be shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lens.shown_paths import shown_folder, without_folders
from lens.validate import Refused, long_text, number, one_line, one_of, whole

HUGE = 10**6000
"""Python writes out no number of so many digits."""


@pytest.mark.parametrize(
    "value", ["a\nb", "a\x00", "a\x1b[2J", "\ud800", "a\u2028b", "a\x85", "a" * 201, None, ["a"], b"a"]
)
def test_a_line_is_one_line_of_seen_characters(value: object) -> None:
    with pytest.raises(Refused, match="The name should be one line") as refused:
        one_line(value, "the name")
    str(refused.value).encode()


@pytest.mark.parametrize("value", ["", "Ünï\u00a0cödé", "👩‍🔬", "a" * 200, "עברית"])
def test_letters_of_any_script_are_taken(value: str) -> None:
    assert one_line(value, "the name") == value
    assert long_text(f"{value}\n\t{value}", "the prompt", 1000) == f"{value}\n\t{value}"


@pytest.mark.parametrize("value", ["\ud83d", "a\x00b", "\x1b[31m", "\x7f", "x" * 21, None, 5])
def test_a_prompt_is_a_text_of_characters(value: object) -> None:
    with pytest.raises(Refused, match="The prompt") as refused:
        long_text(value, "the prompt", 20)
    str(refused.value).encode()


NO_NUMBERS = [HUGE, -HUGE, float("nan"), float("-inf"), "3", "\ud800", True, np.bool_(True), None, [3], {"a": 1}, 3j,
              np.float64("nan"), np.array([3.0, 4.0]), np.int64(-5), "9" * 10_000]  # fmt: skip


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_no_number_overflows_or_passes_for_one(value: object) -> None:
    for check in (number, whole):
        with pytest.raises(Refused, match="The seed should be a number from 0 to 16") as refused:
            check(value, "the seed", 0, 16)
        assert len(str(refused.value).encode()) < 150


def test_numbers_are_kept_whole_and_plain() -> None:
    assert whole(2**53 + 1, "the seed", 0, 2**60) == 2**53 + 1
    for value in (3, 3.0, np.int64(3), np.float32(3)):
        assert type(whole(value, "the seed", 0, 16)) is int
        assert type(number(value, "the seed", 0, 16)) is float
    with pytest.raises(Refused, match=r"whole number; got 2\.5"):
        whole(np.float64(2.5), "the seed", 0, 16)


@pytest.mark.parametrize("value", ["c", "\ud800", None, 1, ["a"], {"a": 1}, np.array(["a", "b"])])
def test_a_choice_is_one_of_its_list(value: object) -> None:
    with pytest.raises(Refused, match="The kind should be one of a, b") as refused:
        one_of(value, "the kind", ["a", "b"])
    str(refused.value).encode()


def test_the_page_says_no_more_of_a_folder_than_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my models"
    assert shown_folder(folder) == Path("my models")
    assert shown_folder(Path("checkpoints")) == Path("checkpoints")
    said = without_folders(f"{folder}/a/config.json is missing. See https://example.org/a/b/c.", folder)
    assert said == "my models/a/config.json is missing. See https://example.org/a/b/c."
    assert without_folders("'/srv/deep/models/a' and /etc/passwd; 3/4 of it") == "'models/a' and passwd; 3/4 of it"
    monkeypatch.chdir(tmp_path)
    assert shown_folder(folder) == Path("my models")
    assert without_folders(f"{tmp_path}/x.json") == "x.json"
