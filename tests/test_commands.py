"""Every panel has a command that says the same."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lens import Checkpoint
from probes.__main__ import draw, fit, show, tokens
from steering.__main__ import generate
from steering.options import Machine


@pytest.fixture(scope="module")
def fitted(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny checkpoint with probes on the built-in texts, fitted by the command."""
    folder = tmp_path_factory.mktemp("commands") / "tiny"
    shutil.copytree(tiny_checkpoint.folder, folder)
    fit((str(folder),), device="cpu")
    return str(folder)


def test_what_fit_saved_show_prints_with_majority_and_null_band(fitted: str, capsys: pytest.CaptureFixture) -> None:
    show((fitted,))
    said = capsys.readouterr().out
    assert all(words in said for words in ("larger class  0.5", "null band", "best head", "best layer", "L"))


def test_a_map_is_drawn_in_every_format_with_its_origin(fitted: str, tmp_path: Path) -> None:
    mark = Checkpoint.open(Path(fitted)).fingerprint
    for kind in ("png", "svg", "csv", "json"):
        draw((fitted,), tmp_path / f"map.{kind}", probes="builtin")
    assert mark in json.loads(Image.open(tmp_path / "map.png").text["hormesis"])["checkpoints"].values()
    assert all(mark in (tmp_path / f"map.{kind}").read_text() for kind in ("svg", "csv", "json"))
    draw((fitted,), tmp_path / "heads.svg", probes="builtin", histogram=True)
    with pytest.raises(ValueError, match=r"should end in \.png"):
        draw((fitted,), tmp_path / "map.gif", probes="builtin")
    with pytest.raises(ValueError, match="got 3"):
        draw((fitted,) * 3, tmp_path / "map.png", probes="builtin")


def test_tokens_are_counted_with_another_lexicon_and_masked_unless_asked(
    fitted: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tokens((fitted,), probes="builtin", device="cpu")
    words = [
        word
        for word in capsys.readouterr().out.splitlines()[-1].split()
        if word.isascii() and word.isalpha() and len(word) > 1
    ]
    (tmp_path / "words.txt").write_text("\n".join(words))
    tokens((fitted,), probes="builtin", lexicon=tmp_path / "words.txt", device="cpu")
    hidden = capsys.readouterr().out
    tokens((fitted,), probes="builtin", lexicon=tmp_path / "words.txt", unmasked=True, device="cpu")
    shown = capsys.readouterr().out
    assert words[0] in shown.split()
    assert words[0] not in hidden.split()
    assert words[0][0] + "*" * (len(words[0]) - 1) in hidden
    assert "0 of 50 in the lexicon" not in shown
    tokens((fitted,), probes="builtin", head="L1H2", device="cpu")
    assert "L1H2" in capsys.readouterr().out


def test_steered_text_is_masked_unless_asked_and_json_never(tiny_folder: Path, capsys: pytest.CaptureFixture) -> None:
    def written(**how: bool) -> str:
        generate(str(tiny_folder), ("The stupid people",), sigmas=(0.0,), max_tokens=1, machine=Machine("cpu"), **how)
        return capsys.readouterr().out

    hidden = written()
    assert "The s***** people" in hidden
    assert "stupid" not in hidden
    assert "The stupid people" in written(unmasked=True)
    assert json.loads(written(as_json=True))["prompt"] == "The stupid people"
