"""python -m evaluation transfer: how far probes recognise what they were not fitted to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import tyro

from evaluation.results import Results
from evaluation.transfer import Detection, compare, detect, some_of, two_styles
from evaluation.unit import Subject
from lens.files import check_folder
from lens.opening import locate
from lens.terminal import progress
from probes.probe import ProbeSet
from probes.store import BY_GROUP
from probes.text_files import kind_of_set, open_texts
from probes.texts import TextSet
from steering.options import Machine

MACHINE = Machine(threads=1)


def transfer(
    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT ...")],
    /,
    texts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXTS ...")] = ("builtin",),
    styles: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="FILE#FIELD FILE#FIELD")] = None,
    probes: str = "toxigen",
    rule: Literal["human>=2.5", "human>=3", "sum>5.5"] | None = None,
    classes: tuple[str, str] | None = None,
    limit: int = 4000,
    seed: int = 0,
    out: Path | None = None,
    machine: tyro.conf.OmitArgPrefixes[Machine] = MACHINE,
) -> None:
    """Test the stored probes of each checkpoint on texts that they never saw: their own set's, and other sets.

    The best head is chosen on other texts than it is tested on. Each checkpoint is compared with the first, text by
    text.

    Args:
        checkpoints: Folders, names in checkpoints/, or "org/name" on the Hugging Face hub.
        texts: builtin, or files: ToxiGen's, HateCheck's, ParaDetox's, or .jsonl, .csv or .tsv with text and label (and
            group, pair); .gz too. Of the set that the probes were fitted to, the held-out texts are judged.
        styles: Two files of harmless texts in two manners of writing; a probe that reads the concept alone cannot tell
            them apart.
        probes: The probe set to test.
        rule: What makes a ToxiGen text toxic. Default: human>=2.5.
        classes: The labels of a file of your own, positive class first.
        limit: About so many texts of each set but the probes' own, drawn by --seed.
        seed: Of the texts drawn.
        out: A folder of results to add to, a sweep's for instance.
        machine: What it is computed on.
    """
    machine.check()
    if out:
        check_folder(out)
    if not checkpoints:
        raise ValueError("Name at least one checkpoint, such as demo-10 or a folder.")
    sets = opened(texts, rule, classes)
    sets = [one if one.name == probes.removesuffix(BY_GROUP) else some_of(one, limit, seed) for one in sets]
    if styles:
        sets.append(two_styles(*styles, n=limit // 2, seed=seed))
    first: dict[str, Detection] = {}
    with ExitStack() as closing:
        results = closing.enter_context(Results(out)) if out else None
        for checkpoint in map(locate, checkpoints):
            subject = Subject.of(checkpoint, machine.dtype)
            lens, known = machine.open(str(checkpoint.folder)), ProbeSet.load(checkpoint, probes)
            for one in sets:
                found = detect(lens, known, one, reading)
                print(told(found, first.setdefault(one.digest, found)), flush=True)
                if results:
                    results.append([found.row(subject)])


def opened(texts: Sequence[str], rule: str | None, classes: tuple[str, str] | None) -> list[TextSet]:
    """The sets, of which a rule is for ToxiGen's and classes are for files of one's own; one of each is needed."""
    kinds = [kind_of_set(source) for source in texts]
    sets = [
        open_texts(
            source,
            rule if kind == "toxigen" or "toxigen" not in kinds else None,
            classes=classes if kind == "own" or "own" not in kinds else None,
        )
        for source, kind in zip(texts, kinds, strict=True)
    ]
    for one in sets:
        if one.remark:
            print(one.remark, file=sys.stderr)
    return sets


def told(found: Detection, first: Detection) -> str:
    """What the probes of a checkpoint recognise, and what they recognise more than those of the first one."""
    lines = [
        f"{found.checkpoint} on {found.test_set}, {' above '.join(found.classes)}: larger class {found.majority:.3f}",
        f"  best head     AUC {found.auc}; accuracy {found.accuracy} ({found.head})",
        f"  all heads     accuracy {found.mean_accuracy} (mean)",
    ]
    if found.pairs:
        lines.append(f"  pairs         {found.pairs} with the {found.classes[0]} one above")
    if found is not first:
        gain = compare(found, first)
        lines += [
            f"  minus {first.checkpoint}",
            f"    best head   AUC {gain.auc}; accuracy {gain.accuracy}",
            f"    all heads   accuracy {gain.mean_accuracy}",
        ]
    return "\n".join(lines)


def reading(done: int, total: int) -> None:
    progress(f"Reading, {done:,} of {total:,}\r")  # what is printed next begins here
