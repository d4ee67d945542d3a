"""Print how much of every package the last `make coverage` ran, branches and lines apart."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath
from tempfile import NamedTemporaryFile

from coverage import Coverage

COLUMNS = "num_branches", "covered_branches", "num_statements", "covered_lines"


def count_by_package(files: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, Counter[str]]:
    """Sum the counts of a coverage report's files by their topmost folder."""
    packages: dict[str, Counter[str]] = {}
    for path, file in files.items():
        counts = {column: file["summary"][column] for column in COLUMNS}
        packages.setdefault(PurePath(path).parts[0], Counter()).update(counts)
    return packages


def main() -> None:
    measured = Coverage()
    measured.load()
    with NamedTemporaryFile("r", suffix=".json") as file:
        measured.json_report(outfile=file.name)
        packages = count_by_package(json.load(file)["files"])
    print(f"{'':<12}  branches taken         lines run")
    for package, counts in sorted(packages.items()):
        n_branches, taken, n_lines, run = (counts[column] for column in COLUMNS)
        print(f"{package:<12}{taken / n_branches:>7.1%} of {n_branches:>5}{run / n_lines:>11.1%} of {n_lines:>5}")


if __name__ == "__main__":
    main()
