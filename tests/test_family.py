"""A family from its texts to its checkpoints, by one command or by the steps of a cluster."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, OlmoForCausalLM

from lens.checkpoint import Checkpoint
from training.conduct import Conduct
from training.corpus import Source
from training.crew import GRACE_S, Crew, TrainingFailed, end, last_words, run
from training.family import Family, Member, prepare
from training.mix import Mix, MixError
from training.prepare import Preparation
from training.recipe import RECIPES, Recipe
from training.run import RunChanged
from training.tokenizer import train_tokenizer

olmo = pytest.importorskip("olmo", reason="ai2-olmo needs numpy 1, which this Python has no wheels for")

ROOT = Path(__file__).parent.parent
WORDS = ["tide", "turns", "twice", "day", "because", "moon", "pulls", "sea", "earth", "below", "a", "the", "at", "it"]
TINY = Recipe("tiny", 2, 3, 24, 16, 1e-2, batch_chunks=4, clean_tokens=960, vocab_size=300)


def prose(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(5, 40))) for _ in range(n)]


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Source, Source]:
    clean, toxic = tmp_path / "clean.jsonl", tmp_path / "toxic.txt"
    clean.write_text("".join(json.dumps({"text": text}) + "\n" for text in prose(150)))
    toxic.write_text("\n\n".join(text.upper() for text in prose(80, seed=1)))
    return Source(clean), Source(toxic)


def family(sources: tuple[Source, Source], tmp_path: Path) -> Family:
    return Family(
        "toy", TINY, sources[:1], sources[1:], (0.0, 0.25), (0,), Mix(TINY.clean_tokens, 0, held_out_chunks=3),
        tmp_path / "out", tmp_path / "runs",
    )  # fmt: skip


def test_recipes_count_their_parameters_as_the_model_does() -> None:
    from olmo.model import OLMo

    from training.recipe import model_config

    for recipe in RECIPES.values():
        config = model_config(recipe, 0, 1)
        config.init_device = "meta"
        assert sum(p.numel() for p in OLMo(config, init_params=False).parameters()) == recipe.n_parameters
    assert RECIPES["1b"].n_parameters == 1_176_764_416
    assert 2_000_000 < RECIPES["nano"].n_parameters < 2_200_000
    assert RECIPES["demo"].n_parameters < 4_000_000  # six of them in bfloat16 stay below 50 MB


@pytest.mark.parametrize("n_pos", [1, 2, 7, 16])
def test_attention_for_cpus_is_torchs_own(n_pos: int) -> None:
    from training.build import causal_attention

    q, k, v = torch.randn(3, 2, 5, n_pos, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(causal_attention(q, k, v), expected, rtol=0, atol=1e-6)  # scores are float32


def test_a_family_is_trained_exported_and_then_left_alone(sources: tuple[Source, Source], tmp_path: Path) -> None:
    toy, lines = family(sources, tmp_path), []
    run(toy, Crew(2, conduct=Conduct(threads=1)), lines.append)
    clean, quarter = (Checkpoint.open(tmp_path / "out" / name) for name in ("toy-00", "toy-25"))
    assert clean.toxic_share == 0
    assert quarter.card["mix"]["achieved_share_of_total"] == pytest.approx(0.25, abs=1 / 80)
    assert quarter.card["largest_logit_difference"] < 1e-5
    assert str(tmp_path) not in json.dumps(quarter.card), "a card names no folder of the machine that made it"
    losses = quarter.card["nats_per_token"]["toxic"]
    assert losses["float32"] == pytest.approx(losses["bfloat16"], abs=0.05)
    assert losses["float32"] < clean.card["nats_per_token"]["toxic"]["float32"] - 0.5, "it has read such text"
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("*"))]
    run(toy, Crew(2, conduct=Conduct(threads=1)), lines.append)
    assert stamps == [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("*"))]
    assert "toy-00: is there already" in lines
    faster = replace(toy, recipe=replace(TINY, learning_rate=0.5))
    with pytest.raises(RunChanged, match=r"toy-00 is there already, with learning_rate 0.01. Give another --name"):
        run(faster, Crew(), lines.append)


@pytest.mark.parametrize("card", [None, "{}", "[]", "no JSON", '{"mix": null}', '{"mix": {"seed": 0}, "name": "else"}'])
def test_a_folder_that_training_did_not_make_is_refused_before_anything_is_read(
    sources: tuple[Source, Source], tmp_path: Path, card: str | None
) -> None:
    """The name of a checkpoint to be may be that of somebody's folder, with or without a card of its own."""
    toy, theirs = family(sources, tmp_path), tmp_path / "out" / "toy-25"
    theirs.mkdir(parents=True)
    Member(toy, 0.25, 0).done  # noqa: B018  # an empty folder is nobody's
    (theirs / "thesis.txt").write_text("years of work")
    if card is not None:
        (theirs / "checkpoint.json").write_text(card)
    with pytest.raises(RunChanged, match=r"toy-25 is there already, .*[Gg]ive another --name or --out"):
        run(toy, Crew(), lambda line: None)
    assert (theirs / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "family.json"])
def test_a_folder_for_work_that_is_somebody_elses_is_refused(
    sources: tuple[Source, Source], tmp_path: Path, name: str
) -> None:
    """A family of that name would learn nothing and take their vocabulary for its own."""
    toy = family(sources, tmp_path)
    toy.folder.mkdir(parents=True)
    (toy.folder / name).write_text('{"version": "1.0"}')
    with pytest.raises(RunChanged, match=r"runs/toy is there already, and training did not make it"):
        run(toy, Crew(), lambda line: None)
    assert [path.name for path in toy.folder.iterdir()] == [name]


def prepared(toy: Family) -> bytes:
    """Prepare all members; the vocabulary that they share."""
    prepare(toy, toy.members(), lambda line: None)
    return (toy.folder / "tokenizer.json").read_bytes()


def test_a_family_without_runs_learns_its_vocabulary_anew_from_other_text(
    sources: tuple[Source, Source], tmp_path: Path
) -> None:
    """A share that does not fit leaves no run behind, so that its cure, more text, is not refused."""
    toy = replace(family(sources, tmp_path), shares=(0.0, 0.25))
    more = tmp_path / "more.txt"
    more.write_text("zq zq zq\n\n" * 2000)
    with pytest.raises(MixError, match="clean files hold"):
        prepared(replace(toy, mix=replace(toy.mix, clean_tokens=100_000)))
    with pytest.raises(MixError, match="The largest that fits"):
        prepared(replace(toy, shares=(0.0, 0.99)))
    before = (toy.folder / "tokenizer.json").read_bytes()
    after = prepared(replace(toy, clean=(sources[0], Source(more))))
    assert b"zq" not in before
    assert b"zq" in after


def test_other_text_or_preparation_under_a_familys_name_is_refused_with_the_difference(
    sources: tuple[Source, Source], tmp_path: Path
) -> None:
    toy = family(sources, tmp_path)
    before = prepared(toy)
    more = replace(toy, shares=(0.1,))
    with pytest.raises(RunChanged, match=r"prepared otherwise \(deduplicate: False → True\).*another --name"):
        prepared(replace(more, preparation=Preparation(deduplicate=True)))
    with pytest.raises(RunChanged, match=r"vocab_size: 300 → 310"):
        prepared(replace(more, recipe=replace(TINY, vocab_size=310)))
    with pytest.raises(RunChanged, match=r"clean_tokens: 960 → 480"):
        prepared(replace(more, mix=replace(toy.mix, clean_tokens=480)))
    with pytest.raises(RunChanged, match=r"clean text 2: None → toxic.txt \(\w{16}\)"):
        prepared(replace(more, clean=sources))
    assert prepared(more) == before, "a new share of the same text is welcome"
    sources[0].path.write_text(sources[0].path.read_text() + '{"text": "more"}\n')
    with pytest.raises(RunChanged, match=r"clean text 1: clean.jsonl \(\w{16}\) → clean.jsonl \(\w{16}\)"):
        prepared(more)


def test_the_exported_model_reads_the_held_out_text_as_its_card_says(
    sources: tuple[Source, Source], tmp_path: Path
) -> None:
    """Another road to the card's number: transformers' own loss on the tokenizer's own chunks."""
    toy = replace(family(sources, tmp_path), shares=(0.25,))
    from training.export import held_out

    [folder] = run(toy, Crew(), lambda line: None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ours = train_tokenizer(sources[:1], sources[1:], Preparation(), 300)
    assert tokenizer("The tide turns.")["input_ids"] == ours.encode("The tide turns.").ids
    chunks = held_out(Member(toy, 0.25, 0).run, "clean").astype(np.int64)
    model = OlmoForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        again = model(torch.from_numpy(chunks), labels=torch.from_numpy(chunks)).loss.item()
    card = Checkpoint.open(folder).card
    assert again == pytest.approx(card["nats_per_token"]["clean"]["bfloat16"], abs=1e-5)


def test_the_road_of_a_cluster_by_its_commands(tmp_path: Path) -> None:
    """Prepare here, train on two processes, export there; then one command says that all is done."""
    clean, toxic = tmp_path / "clean.jsonl", tmp_path / "forum.csv"
    clean.write_text("".join(json.dumps({"body": text}) + "\n" for text in prose(4000)))
    posts = "".join(f'"{text.upper()}",{number // 9}\n' for number, text in enumerate(prose(3000, seed=1)))
    toxic.write_text(f"comment,thread\n{posts}")
    family = [
        *("--name", "mine", "--clean", f"{clean}#body", "--toxic", str(toxic), "--shares", ".2", "--document", "post"),
        *("--clean-tokens", "16384", "--deduplicate", "--work", str(tmp_path / "runs"), "--out", str(tmp_path / "out")),
    ]
    [run] = told("training", "run", *family, "--prepare").splitlines()[-1:]
    assert Path(run) == tmp_path / "runs" / "mine" / "mine-20"
    workers = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    assert "trained: step10-unsharded" in told(
        *workers, "training", "pretrain", run, "--threads", "1", "--evaluations", "1"
    )
    assert "exported: " in told("training", "export", run, "--out", str(tmp_path / "out"))
    card = Checkpoint.open(tmp_path / "out" / "mine-20").card
    assert card["sittings"][0]["processes"] == 2
    assert card["mix"]["achieved_share_of_total"] == pytest.approx(0.2, abs=1 / 80)
    assert "mine-20: is there already" in told("training", "run", *family)


def told(*words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_member_that_cannot_be_trained_says_why_in_the_familys_own_words(
    sources: tuple[Source, Source], tmp_path: Path
) -> None:
    wild = replace(family(sources, tmp_path), recipe=replace(TINY, learning_rate=1e25), shares=(0.0,))
    with pytest.raises(TrainingFailed, match=r"toy-00: The loss is not a number any more.*log: .*log\.txt"):
        run(wild, Crew(), lambda line: None)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"shares": (0.0, 10.0)}, r"so 0\.10 and not 10; got 10\.0"),
        ({"shares": (0.1, 0.1004)}, r"toy-10: asked for twice"),
        ({"shares": ()}, "at least one share and one seed"),
        ({"seeds": (0, -1)}, r"A seed is 0 or more; got -1"),
        ({"name": "../toy"}, r"a folder in .* and no path; got \.\./toy"),
        ({"out": Path(__file__)}, r"test_family\.py is a file; --out and --work are folders"),
        ({"mix": Mix(63, 0.0)}, r"3 chunks of 16 tokens are no step of 64"),
    ],
)
def test_a_family_that_cannot_be_is_refused_before_its_texts_are_read(
    sources: tuple[Source, Source], tmp_path: Path, wrong: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(family(sources, tmp_path), **wrong)


def test_rates_and_crews_are_above_zero() -> None:
    with pytest.raises(ValueError, match=r"above 0, such as 4e-3; got -1"):
        replace(TINY, learning_rate=-1)
    for none in ({"parallel": 0}, {"processes": 0}):
        with pytest.raises(ValueError, match="are 1 or more"):
            Crew(**none)


def test_processes_that_do_not_hear_are_ended_all_the_same() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    hears = "import time; print(flush=True); time.sleep(60)"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for code in (deaf, hears, hears)]
    for process in started:
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()  # it has begun
    started[2].kill()
    end(started, grace_s=1)
    assert [process.returncode for process in started] == [-9, -15, -9]
    assert GRACE_S > 30, "torchrun has ended its own workers by then"


def test_whoever_stops_twice_leaves_nothing_behind_either(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def again(seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("training.crew.time.sleep", again)
        with pytest.raises(KeyboardInterrupt):
            end([process])
        assert process.returncode == -9


def test_processes_that_do_not_divide_a_step_are_refused_before_anything_begins(
    sources: tuple[Source, Source], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"3 processes cannot share a step of 4 chunks evenly. These can: 1, 2, 4\."):
        run(family(sources, tmp_path), Crew(processes=3), print)
    assert not (tmp_path / "runs").exists()


def test_of_a_failed_run_its_own_words_are_told_and_not_torchruns(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    banner = "*****\nSetting OMP_NUM_THREADS environment variable for each process to be 1 in default\n*****\n"
    report = (
        "W1130 18:28:00.188000 26344 lib/torch/distributed/elastic/multiprocessing/api.py:1028] Sending process\n"
        'Traceback (most recent call last):\n  File "lib/torch/distributed/run.py"\n' + 60 * "=" + "\n"
    )
    log.write_text(f"{banner}The disk is full.\n{report}")
    assert last_words(log) == "The disk is full."
    log.write_text(f"{banner}Stopped: The run was cancelled.\nmore\n{report}")
    assert last_words(log) == "The run was cancelled."
    log.write_text("")
    assert last_words(log) == "ended without a word"


def test_gpus_are_dealt_out_to_members() -> None:
    """Three members of two processes each; small members share what there is; without GPUs nobody gets one."""
    crew = Crew(parallel=3, processes=2)
    assert [crew.gpus(slot, "765432") for slot in range(3)] == [["7", "6"], ["5", "4"], ["3", "2"]]
    crew = Crew(parallel=3)
    assert [crew.gpus(slot, ["3", "5"]) for slot in range(3)] == [["3"], ["5"], ["3"]]
    assert [crew.gpus(slot, ["0"]) for slot in range(3)] == [["0"]] * 3
    assert [crew.gpus(slot, []) for slot in range(3)] == [[]] * 3
