"""What our files import is what requirements.txt asks for."""

import re
from importlib.metadata import packages_distributions
from pathlib import Path
from sys import stdlib_module_names

from test_architecture import ROOT, imports

REQUIREMENTS = (ROOT / "requirements.txt").read_text()
OURS = {path.stem for folder in (ROOT, ROOT / "tests") for path in folder.iterdir()}
PEERS = {"nnsight", "pyvene"}  # benchmarks/peer.py runs in an environment of its own
NOT_INSTALLED_EVERYWHERE = {"olmo": ["ai2-olmo"]}  # from Python 3.13 on


def spell(name: str) -> str:
    """A distribution's name in the one spelling that pip compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_declared(requirements: str) -> dict[str, str]:
    """Each distribution that is asked for, and the reason beside it."""
    lines = re.findall(r"^([\w.-]+)[^#\n]*#?(.*)$", requirements, re.MULTILINE)
    return {spell(name): reason.strip() for name, reason in lines}


def find_imported(paths: list[Path]) -> dict[str, set[str]]:
    """Each library of others that these files import, with the distributions that bring it."""
    names = {name for path in paths for name in imports(path.read_text())} - OURS - PEERS - stdlib_module_names
    brought = NOT_INSTALLED_EVERYWHERE | packages_distributions()
    return {name: {spell(one) for one in brought.get(name, [name])} for name in names}


FILES = [path for path in ROOT.rglob("*.py") if not path.relative_to(ROOT).parts[0].startswith(".")]


def test_every_library_that_is_imported_is_asked_for() -> None:
    declared, imported = find_declared(REQUIREMENTS), find_imported(FILES)
    assert {"torch", "scipy", "wandb"} <= set(imported)  # at the top of a file, and inside a function
    assert {name for name, brought in imported.items() if not brought & set(declared)} == set()


def test_a_library_that_nothing_imports_has_a_reason_beside_it() -> None:
    brought = set().union(*find_imported(FILES).values())
    tools = {"ruff", "mypy"}  # make test
    unused = {name: reason for name, reason in find_declared(REQUIREMENTS).items() if name not in brought | tools}
    assert {name for name, reason in unused.items() if not reason} == set()
    assert {"torchmetrics", "pyarrow"} <= set(unused)


def test_an_import_that_is_not_asked_for_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    from click.core import Command\n    import yaml")
    assert find_imported([tmp_path / "a.py"]) == {"click": {"click"}, "yaml": {"pyyaml"}}
    assert find_declared("# What\na_B==1\n\nc>=2; python_version < '3'  # why\n") == {"a-b": "", "c": "why"}
