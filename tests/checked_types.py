"""Check the annotations of all our modules at run time, shapes of tensors too; conftest imports this before them.

Where a test hands over what the annotations forbid, to see it refused, it is marked `wrong_types`.
"""

from pathlib import Path

from jaxtyping import install_import_hook

ROOT = Path(__file__).parent.parent
PACKAGES = ("api", "lens", "probes", "steering", "evaluation", "training", "benchmarks")
FILES = [ROOT / "app.py", *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
# Gradio asks whether a callback is a generator function, and one that is checked no longer looks so.
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES if "panel" not in path.name]

# PEP 484's tower: an int is good where a float is asked, as mypy has it.
install_import_hook(MODULES, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
