"""What the README shows is there and works."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from conftest import write_tiny_olmo

from evaluation.shelf import Shelf
from lens import Checkpoint, open_lens
from probes import ProbeSet, TextSet, builtin, probe_checkpoint

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "checkpoints" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [line.strip() for line in README.splitlines() if line.strip().startswith("python -m")]


def test_every_entry_of_the_tree_is_there_and_none_is_missing() -> None:
    shown = set(re.findall(r"^\| `([\w./]+)` \|", README, re.MULTILINE))
    assert all((ROOT / name).exists() for name in shown)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {name.split("/")[0] + "/" for name in tracked if "/" in name and not name.startswith(".")}
    assert folders <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_picture_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_has_only_options_that_exist(command: str) -> None:
    """Each is asked for its help; every option that the README uses must be in it."""
    words = shlex.split(command)
    asked = subprocess.run(
        [sys.executable, *words[1:4], "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for option in (word for word in words if word.startswith("--")):
        assert option in asked.stdout, option


def test_the_steering_commands_of_the_readme_write_every_strength() -> None:
    sigmas, nats = [command for command in COMMANDS if "steering generate" in command]
    for command, words in (
        (sigmas, ("— plain —", "— 4 sigmas —", "— 8 sigmas —", "— 12 sigmas —", "at 12: 8 edits in")),
        (nats, ("— plain —", "— LEACE at 0.", "8 edits in 8 layers")),
    ):
        asked = [sys.executable, *shlex.split(command)[1:], "--max-tokens", "5"]
        written = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert [word for word in words if word not in written] == []


def test_the_baking_command_of_the_readme_writes_a_checkpoint(tmp_path: Path) -> None:
    [command] = [command for command in COMMANDS if "steering bake" in command]
    words = shlex.split(command)
    out = words.index("--out") + 1
    words[out] = str(tmp_path / words[out])
    subprocess.run([sys.executable, *words[1:]], cwd=ROOT, check=True)
    assert Checkpoint.open(Path(words[out])).card["name"]


def test_the_probing_command_of_the_readme_fits_a_file_of_ones_own(tmp_path: Path) -> None:
    [command] = [command for command in COMMANDS if "probes fit" in command]
    words = shlex.split(command)
    folder, classes = words[words.index("fit") + 1], words[words.index("--classes") + 1 :][:2]
    shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("probes"))
    with (tmp_path / words[words.index("--texts") + 1]).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label", "group"])
        table.writerows([f"Kindly accept {n} letters.", classes[0], f"month {n % 3}"] for n in range(30))
        table.writerows([f"gimme {n} of those", classes[1], f"month {n % 3}"] for n in range(20))
    subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    found = ProbeSet.load(Checkpoint.open(tmp_path / folder), "my")
    assert found.classes == tuple(classes)
    assert (found.n_toxic, found.n_train + found.n_test) == (30, 50)


def test_the_measuring_commands_of_the_readme_go_from_checkpoints_to_what_the_tab_opens(tmp_path: Path) -> None:
    """On tiny checkpoints in the place of the demo's."""
    sweep, compare = [shlex.split(command) for command in COMMANDS if "evaluation" in command]
    for seed, name in enumerate(("demo-00", "demo-10")):
        folder = write_tiny_olmo(tmp_path / "checkpoints" / name, seed)
        (folder / "checkpoint.json").write_text(json.dumps({"family": "demo", "toxic_share": seed / 10, "seed": 0}))
        probe_checkpoint(open_lens(str(folder), "cpu", threads=1), TextSet("toxigen", builtin().texts[:120]))
    for words in (sweep, compare):
        asked = [sys.executable, *words[1:]]
        subprocess.run(asked, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    shown = Shelf(tmp_path / "results")["results/shown"]
    plans = words_behind(sweep, "--plans")
    assert {cell.key for cell in shown.cells} == {
        f"{name}/{plan}/builtin" for name in words_behind(sweep, "--checkpoints") for plan in plans
    }
    assert all(cell.cost for cell in shown.cells)
    assert {one.checkpoint for one in shown.probes} == set(words_behind(compare, "--checkpoints"))


def words_behind(command: list[str], option: str) -> list[str]:
    """What follows an option, up to the next."""
    behind = command[command.index(option) + 1 :]
    return list(takewhile(lambda word: not word.startswith("--"), behind))


def test_the_python_of_the_readme_runs() -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    written = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(written.stdout.strip().splitlines()) >= 2
