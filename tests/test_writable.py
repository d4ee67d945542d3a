"""What cannot be written is refused before the work; root may write anywhere, so a file stands in the way here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import evaluation.__main__
import lens.__main__
import probes.__main__
import steering.__main__
import training.__main__
from evaluation.cache import BrokenCache, ScoreCache, default_cache
from lens.files import NotWritable, check_file, check_folder
from lens.opening import locate


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file"


@pytest.mark.parametrize("below", [".", "new", "new/newer"])
def test_a_folder_is_writable_or_can_be_made(tmp_path: Path, file: Path, below: str) -> None:
    check_folder(tmp_path / below)
    check_file(tmp_path / below / "result.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for check, name in ((check_folder, below), (check_file, f"{below}/result.png")):
        with pytest.raises(
            NotWritable, match=r"file.* cannot be written to: Not a directory\. Choose another folder\."
        ):
            check(file / name)


def test_folders_of_the_system_links_to_nothing_and_names_too_long_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder in (Path("/proc/results"), tmp_path / "link", tmp_path / ("x" * 300) / "deeper"):
        with pytest.raises(NotWritable, match="cannot be written to"):
            check_folder(folder)
    with pytest.raises(NotWritable, match="is a folder"):
        check_file(tmp_path)


def ending(main, *words: object) -> str:
    """The sentence that a command ends with."""
    sys.argv, argv = ["command", *map(str, words)], sys.argv
    try:
        with pytest.raises(SystemExit) as ended:
            main.main()
    finally:
        sys.argv = argv
    return str(ended.value.code)


COMMANDS = {
    "probes map": (probes.__main__, "map", "demo-10", "--out", "{}.png"),
    "steering bake": (steering.__main__, "bake", "demo-10", "--sigmas", 8, "--out", "{}"),
    "sweep": (evaluation.__main__, "sweep", "--checkpoints", "demo-10", "--plans", "none", "--out", "{}"),
    "compare": (evaluation.__main__, "compare", "results", "--out", "{}"),
    "reproduce": (evaluation.__main__, "reproduce", "results", "--out", "{}.md"),
    "reproduce's extract": (evaluation.__main__, "reproduce", "results", "--extract-to", "{}.json"),
    "agree": (evaluation.__main__, "agree", "builtin", "column:a", "--texts", "a", "--out", "{}"),
    "ability": (evaluation.__main__, "ability", "demo-10", "--out", "{}"),
    "transfer": (evaluation.__main__, "transfer", "demo-10", "--out", "{}"),
    "fit-scorer": (evaluation.__main__, "fit-scorer", "--rtp", "a", "--scored-comments", "b", "--out", "{}.st"),
    "fit-scorer's page": (
        evaluation.__main__, "fit-scorer", "--rtp", "a", "--scored-comments", "b", "--out", "c", "--markdown", "{}.md",
    ),
    "training run --out": (training.__main__, "run", "--clean", "a.txt", "--toxic", "b.txt", "--out", "{}"),
    "training run --work": (training.__main__, "run", "--clean", "a.txt", "--toxic", "b.txt", "--work", "{}"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_asks_first_whether_its_result_can_be_written(
    name: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else the command names is not there, or empty, so that whatever it did first would fail otherwise."""
    monkeypatch.chdir(file.parent)
    for empty in ("a.txt", "b.txt"):
        (file.parent / empty).touch()
    main, *words = COMMANDS[name]
    said = ending(main, *(str(word).format(file / "result") for word in words))
    assert "cannot be written to: Not a directory. Choose another folder." in said


@pytest.mark.parametrize("verb", ["probes", "steering"])
def test_a_checkpoint_that_cannot_keep_a_fit_is_refused_before_its_texts_are_read(
    verb: str, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    for part in tiny_folder.iterdir():
        (folder / part.name).symlink_to(part)
    (folder / verb).write_text("in the way")
    words = ["fit", folder, "--texts", "nowhere.csv"]
    if verb == "probes":
        assert "tiny/probes cannot be written to: Not a directory" in ending(probes.__main__, *words)
    else:
        said = ending(steering.__main__, *words, "--method", "leace")
        assert said == f"{folder} cannot be written, so no fit can be kept there. Copy it first."


MACHINES = {
    "check": (lens.__main__, "check", "--device", "cuda:99"),
    "probes fit": (probes.__main__, "fit", "--device", "cuda:99"),
    "probes tokens": (probes.__main__, "tokens", "--device", "cuda:99"),
    "generate": (steering.__main__, "generate", "nowhere", "--device", "cuda:99"),
    "calibrate": (steering.__main__, "calibrate", "nowhere", "--device", "cuda:99"),
    "fit": (steering.__main__, "fit", "nowhere", "--device", "cuda:99"),
    "bake": (steering.__main__, "bake", "nowhere", "--out", "new", "--sigmas", 1, "--device", "cuda:99"),
    "sweep": (evaluation.__main__, "sweep", "--checkpoints", "nowhere", "--plans", "none", "--out", "new", "--device",
              "cuda:99"),
    "ability": (evaluation.__main__, "ability", "nowhere", "--device", "cuda:99"),
    "transfer": (evaluation.__main__, "transfer", "nowhere", "--device", "cuda:99"),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_a_device_that_is_not_here_is_refused_before_anything_is_opened(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    main, *words = MACHINES[name]
    assert "There is no device 'cuda:99' for torch here. Choose auto or one of: " in ending(main, *words)
    if "--threads" not in words and name != "probes tokens":
        assert "threads is a number of CPU threads from 1" in ending(main, *words[:-2], "--threads", 0)


def test_scores_and_downloads_that_cannot_be_kept_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokenCache, match=r"Scores cannot be kept in .*: Not a directory\. .* \(--cache none\)\."):
        ScoreCache(file / "cache" / "scores.sqlite", "a", "1")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: Path("~nobody-of-that-name").expanduser()))
    with pytest.raises(BrokenCache, match="There is no home folder to keep scores in"):
        default_cache()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(file / "hub"))
    with pytest.raises(NotWritable, match=r"hub \(HF_HOME\), cannot be written to: Not a directory"):
        locate("nobody/nothing")
