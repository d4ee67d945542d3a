"""The page without a browser: what it refuses, and that it shows what the packages computed."""

from __future__ import annotations

import html
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import gradio as gr
import httpx
import pytest
import uvicorn
from gradio_client import Client
from gradio_client.exceptions import AppError

import app
import steering.__main__
from lens.bench import Bench
from lens.panel import in_a_sentence
from lens.validate import Refused, number, one_of, whole
from probes import TextSet, builtin
from probes.views import set_name
from steering import Plan, fit
from steering.asked import MOST_SEED
from steering.panel import next_seed
from steering.recent import Recent
from steering.runs import Runs
from tests.test_architecture import ROOT

GIVEN = {"masked": True, "a": "tiny-a", "b": "", "prompt": "The people next door are", "method": "iti", "strength": 8,
         "kind": "mass-mean", "probes": "builtin", "heads": "", "layers": "", "where": None, "gate": 0,
         "temperature": 1, "top_p": 0.9, "length": 12, "seed": 0}  # fmt: skip


@pytest.fixture(scope="module")
def client(bench: Bench) -> Iterator[Client]:
    """The page as the network sees it."""
    mine = app.listen("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(app.web(app.build(bench)), log_level="critical", timeout_graceful_shutdown=1)
    )
    thread = Thread(target=server.run, kwargs={"sockets": [mine]}, daemon=True)
    thread.start()
    yield Client(f"http://127.0.0.1:{mine.getsockname()[1]}", verbose=False, httpx_kwargs={"timeout": 120})
    server.should_exit = True
    thread.join(timeout=30)
    mine.close()


def generate(client: Client, **changes: object) -> list[str]:
    """The two texts, plain and steered, without their prompt, as the page shows them at the end."""
    shown, _, _ = client.predict(**{**GIVEN, **changes}, api_name="/generate")
    return texts(shown)


def texts(shown: str) -> list[str]:
    found = re.findall(r'<span class="same">(.*?)</span><span class="own">(.*?)</span>', shown, flags=re.DOTALL)
    return [html.unescape(same + own) for same, own in found]


SETTINGS = [
    {"kind": "probe-weight", "heads": 2, "strength": 6},
    {"heads": "L2H3, l0h1", "gate": 0.4, "strength": 16},
    {"method": "caa", "layers": "1 2", "strength": 1.5},
    {"method": "mean-act", "strength": 0.8},
    {"method": "ablate", "where": "heads", "kind": "random", "seed": 5, "strength": 1},
]
"""A method each, with what acts on it."""


@pytest.fixture(scope="module")
def fitted(bench: Bench) -> None:
    """Mean-AcT reads the texts once more, and they are no file here."""
    with bench.pool.lens(bench.checkpoint("tiny-a")) as lens:
        fit(Plan("mean-act", probes="builtin"), lens, TextSet("builtin", builtin().texts[:120]))


@pytest.mark.usefixtures("fitted")
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.get("method", "iti"))
def test_at_strength_zero_both_texts_are_the_plain_models(client: Client, settings: dict[str, object]) -> None:
    plain, steered = generate(client, **{**settings, "strength": 0})
    assert plain == steered != ""
    _, steered = generate(client, **settings)
    assert steered != plain


def test_the_same_seed_gives_the_same_words_and_strength_changes_only_the_steered_text(client: Client) -> None:
    weak, strong = generate(client, strength=4), generate(client, strength=16)
    assert weak[0] == strong[0]
    assert weak[1] != strong[1]


def test_every_input_of_the_api_has_a_default_and_its_own_example_runs(client: Client) -> None:
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/generate"]
    assert all(one["parameter_has_default"] for one in described["parameters"])
    shown, _, command = client.predict(prompt="The garden", a="tiny-a", probes="builtin", api_name="/generate")
    assert "The garden" in html.unescape(command)
    assert len(texts(shown)) == 2
    example = {
        one["parameter_name"]: one["parameter_default"] if one["parameter_has_default"] else one["example_input"]
        for one in described["parameters"]
    }
    shown, _, _ = client.predict(**{**example, "a": "tiny-a", "probes": "builtin"}, api_name="/generate")
    assert len(texts(shown)) == 2


def test_a_session_keeps_numbers_and_words_and_nothing_else(bench: Bench) -> None:
    page = app.build(bench)
    states = [block for block in page.blocks.values() if isinstance(block, gr.State)]
    assert [type(state.value) for state in states] == [int, int, str]  # two tickets, and the head that is open
    kept = {state._id for state in states}
    writers = {call.fn.__name__ for call in page.fns.values() if kept & {block._id for block in call.outputs}}
    assert writers == {"ask", "calibrated", "open_head", "show"}


def test_what_a_visitor_saw_is_kept_for_a_few_and_forgotten_with_the_page() -> None:
    recent: Recent[str] = Recent(most=2)
    for session in ("a", "b", "a", "c"):
        recent.keep(session, f"seen by {session}")
    assert [recent.get(session) for session in "abc"] == ["seen by a", None, "seen by c"]
    recent.forget("a")
    assert recent.get("a") is None


def test_another_seed_is_the_next_one() -> None:
    assert [next_seed(seed) for seed in (0, 7, MOST_SEED, None, -3, "x")] == [1, 8, 0, 0, 0, 0]


def test_an_empty_field_is_called_empty() -> None:
    for value in (None, ""):
        with pytest.raises(Refused, match="The seed should be a number from 0 to 9; it is empty"):
            whole(value, "the seed", 0, 9)
        with pytest.raises(Refused, match="The method should be one of a, b; it is empty"):
            one_of(value, "the method", ["a", "b"])


def test_two_checkpoints_are_shown_side_by_side(client: Client) -> None:
    both = generate(client, b="tiny-b")
    assert both == [*generate(client), *generate(client, a="tiny-b")]


@pytest.mark.usefixtures("fitted")
@pytest.mark.parametrize("settings", [*SETTINGS, {"prompt": "--door"}], ids=lambda given: given.get("method", "iti"))
def test_the_copied_command_writes_the_words_of_the_page(
    client: Client,
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
) -> None:
    monkeypatch.chdir(bench.folder.parent)  # the page says no more of the folder than its name
    given = {"prompt": 'The people\'s "door" $HOME', "temperature": 0.8, "seed": 3, **settings}
    prompt = str(given["prompt"])
    shown, _, command = client.predict(**{**GIVEN, **given, "masked": False}, api_name="/generate")
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "steering", "generate"]
    sys.argv, argv = ["python -m steering", *words[3:]], sys.argv
    try:
        steering.__main__.main()
    finally:
        sys.argv = argv
    written_there = capsys.readouterr().out
    assert all(clean(prompt + text) in clean(written_there) for text in texts(shown))


def clean(text: str) -> str:
    """Without control characters, which the terminal does not get to see."""
    return "".join(sign for sign in text if sign.isprintable() and sign != "\ufffd")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"a": "tiny-c"}, "Did you mean 'tiny-b'"),
        ({"a": "../catalogue/tiny-a"}, "There is no checkpoint"),
        ({"a": "broken<b>"}, "tokenizer.json is missing"),
        ({"a": ["tiny-a"]}, "The checkpoint should be one line"),
        ({"a": "bare"}, "python -m probes fit"),
        ({"prompt": "  "}, "The prompt is empty"),
        ({"prompt": None}, "The prompt should be a text"),
        ({"prompt": "word " * 200}, "reads at most 64|at most 64 together"),
        ({"prompt": "x" * 5000}, "at most 4,000 characters"),
        ({"strength": 1e30}, "The strength should be a number from 0 to 100"),
        ({"strength": "strong"}, "The strength should be a number from 0 to 100"),
        ({"kind": "best"}, "The direction should be one of mass-mean, probe-weight, random"),
        ({"probes": "../../probes/builtin"}, "A probe set is named with letters"),
        ({"method": "best"}, "The method should be one of iti, caa"),
        ({"method": "act"}, "The strength should be a number from 0 to 1"),
        ({"method": "prompting", "strength": 0.5}, "The strength should be a whole number"),
        ({"method": "prefix", "strength": 1}, "was not trained with prefixes"),
        ({"method": "act", "strength": 1}, "python -m steering fit .* --texts FILE.* Or choose the built-in probes"),
        ({"method": "caa", "strength": 1, "heads": 3}, "heads has no meaning for CAA"),
        ({"method": "leace", "strength": 1, "kind": "random"}, "kind has no meaning for LEACE"),
        ({"method": "prompting", "strength": 1, "gate": 0.5}, "gate has no meaning for Prompting"),
        ({"method": "ablate", "strength": 1, "where": "mlp"}, "The place should be one of residual, heads"),
        ({"heads": -3}, "The number of heads should be a number from 1"),
        ({"heads": "0"}, "The number of heads should be a number from 1"),
        ({"heads": 13}, "has 12 heads"),
        ({"heads": "L0H0 L9H9"}, "has no head L9H9"),
        ({"heads": "the left one"}, "names no head"),
        ({"heads": "L0H0 " * 500}, "The list of heads should be one line of at most"),
        ({"layers": "1"}, "layers has no meaning for ITI"),
        ({"method": "caa", "strength": 1, "layers": "two"}, "Layers are numbers from 0"),
        ({"method": "caa", "strength": 1, "layers": "3"}, "has no layer 3"),
        ({"gate": 1.5}, "The gate's threshold should be a number from 0 to 1"),
        ({"gate": None}, "The gate's threshold should be a number from 0 to 1"),
        ({"temperature": -1}, "The temperature should be a number from 0 to 2"),
        ({"length": 10**9}, "The length should be a number from 1 to 200"),
        ({"length": 64}, "at most 63; got 64"),
        ({"length": 2.5}, "should be a whole number"),
        ({"seed": 2**40}, "The seed should be a number from 0 to"),
    ],
)
def test_nonsense_from_the_network_is_refused_with_a_sentence(
    client: Client, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(AppError) as refused:
        generate(client, **changes)
    assert re.search(sentence, html.unescape(str(refused.value)))


@pytest.mark.parametrize("name", ["strength", "temperature", "top_p", "length", "seed", "heads", "gate"])
def test_not_a_number_is_refused_on_the_wire_too(client: Client, name: str) -> None:
    """Our own client refuses to send NaN; Python's JSON reader at the other end would take it."""
    body = json.dumps({"data": list({**GIVEN, name: float("nan")}.values())})
    call = f"{client.src}gradio_api/call/generate"
    event = httpx.post(call, content=body, headers={"content-type": "application/json"}).json()["event_id"]
    said = httpx.get(f"{call}/{event}", timeout=30).text
    assert "event: error" in said
    assert "should be a number from" in said


def test_an_unknown_checkpoint_gets_the_near_miss_and_the_list(bench: Bench) -> None:
    with pytest.raises(LookupError, match=r"Did you mean 'tiny-b'\? It holds: bare, tiny-a, tiny-b"):
        bench.checkpoint("tny-b")


@pytest.mark.parametrize("name", ["../catalogue/tiny-a", "/etc", ".", "tiny-a/", "tiny-a\n", 7, "x" * 300])
def test_a_checkpoint_is_named_and_never_reached_by_a_path(bench: Bench, name: object) -> None:
    with pytest.raises((LookupError, ValueError)):
        bench.checkpoint(name)


@pytest.mark.parametrize("name", ["../builtin", ".hidden", "a/b", "", "a\nb", None])
def test_a_probe_set_is_named_and_never_reached_by_a_path(name: object) -> None:
    with pytest.raises(Refused):
        set_name(name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 17, "8", None, True, [8], 10**400])
def test_a_number_outside_its_bounds_is_refused(value: object) -> None:
    with pytest.raises(Refused, match="from 0 to 16"):
        number(value, "the strength", 0, 16)
    with pytest.raises(Refused):
        whole(2.5, "the length", 1, 9)


def test_errors_become_sentences_and_bugs_stay_bugs() -> None:
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(gr.Error) as shown:
        in_a_sentence(fail)(ValueError("no <b>such</b> thing"))
    assert shown.value.message == "no &lt;b&gt;such&lt;/b&gt; thing"
    for bug in (KeyError("x"), IndexError("x"), TypeError("x"), RuntimeError("x")):
        with pytest.raises(type(bug)):
            in_a_sentence(fail)(bug)


def test_the_page_names_what_is_broken_and_why(bench: Bench) -> None:
    said = app._status(bench)
    assert "3 checkpoints" in said
    assert "1 unavailable" in said
    assert "broken&lt;b&gt;" in said
    assert "tokenizer.json is missing" in said
    assert "<b>:" not in said


def test_an_empty_folder_still_gives_a_page(tmp_path: Path) -> None:
    assert app.build(Bench(tmp_path)) is not None
    with pytest.raises(Refused, match="python -m training run"):
        Bench(tmp_path).checkpoint(None)


def test_a_new_run_stops_the_one_before_it_and_overtaken_runs_never_begin() -> None:
    runs = Runs()
    first = runs.begin("me", runs.ask("me"))
    other = runs.begin("you", runs.ask("you"))
    second, third = runs.ask("me"), runs.ask("me")
    assert first is not None
    assert first.is_set()
    assert other is not None
    assert not other.is_set()
    assert runs.begin("me", second) is None
    last = runs.begin("me", third)
    assert last is not None
    assert not last.is_set()
    runs.stop("me")
    assert last.is_set()
    runs.forget("you")
    assert other.is_set()


def test_a_taken_port_is_said_and_another_one_offered() -> None:
    with app.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(app.PortTaken, match=rf"Port {port} is taken.*--port (\d+)") as said:
            app.listen("127.0.0.1", port)
    offered = int(re.findall(r"--port (\d+)", str(said.value))[0])
    app.listen("127.0.0.1", offered).close()
    with pytest.raises(OSError, match=r"Cannot listen on 203\.0\.113\.1"):
        app.listen("203.0.113.1", offered)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", "192.168.1.7", "class.example", "127.1"])
def test_others_are_let_in_behind_a_login_or_knowingly(host: str) -> None:
    with pytest.raises(ValueError, match=r"--auth user:password, or add --i-know"):
        app.Settings(host=host)
    assert app.Settings(host=host, auth="anna:secret").login == ("anna", "secret")
    assert app.Settings(host=host, i_know=True).login is None


@pytest.mark.parametrize("host", ["", " ", "127.0.0.1:80", "http://localhost", "[::1]", "a b", "\n"])
def test_a_host_that_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="--host is an address of this machine"):
        app.Settings(host=host, i_know=True)
    with pytest.raises(ValueError, match="--hostname is a name without"):
        app.Settings(hostname=(host,))


@pytest.mark.parametrize("options", [["--host", ""], ["--host", "0.0.0.0"]])
def test_the_command_refuses_to_open_to_others_unasked(options: list[str]) -> None:
    ended = subprocess.run([sys.executable, "app.py", *options], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ended.returncode != 0
    assert "--host" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


def test_the_address_can_be_opened_as_it_is_printed() -> None:
    assert app.Settings(host="::1").url == "http://[::1]:7860"
    assert app.Settings().url == "http://127.0.0.1:7860"


@pytest.mark.parametrize("changes", [{"port": 0}, {"port": 70000}, {"auth": "anna"}, {"auth": ":x"}])
def test_settings_that_cannot_work_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"port|--auth"):
        app.Settings(**changes)  # type: ignore[arg-type]
