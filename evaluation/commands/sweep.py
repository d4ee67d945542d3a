"""python -m evaluation sweep: checkpoints × plans × prompts × seeds, resumed where it was stopped."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import tyro

from evaluation.held_out import held_out
from evaluation.made_with import made_with
from evaluation.plans import read_plan
from evaluation.prompts import open_prompts
from evaluation.results import Results
from evaluation.scorer import Cached, missing_scores, open_scorer
from evaluation.services import SERVICES
from evaluation.sweep import Sweep, here, measure
from evaluation.toxicity import PRESETS
from evaluation.unit import Bench, Subject
from lens.files import check_folder
from lens.opening import locate
from lens.terminal import progress
from steering.options import Machine

MACHINE = Machine(threads=1)


def sweep(
    checkpoints: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CHECKPOINT ...")],
    plans: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PLAN ...")],
    out: Path,
    prompts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PROMPTS ...")] = ("builtin",),
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED ...")] = (0,),
    preset: Literal["paper", "rtp"] = "paper",
    probes: str | None = None,
    scorers: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SCORER ...")] = ("builtin",),
    text: str = "plain",
    ray: str | None = None,
    workers: int | None = None,
    machine: tyro.conf.OmitArgPrefixes[Machine] = MACHINE,
) -> None:
    """Write and score texts of every checkpoint under every plan, and measure what the plans cost.

    Stopped or killed, the same command goes on where it was.

    Args:
        checkpoints: Folders, names in checkpoints/, or "org/name" on the Hugging Face hub.
        plans: none, prompting, iti@8, caa@0.1nats, iti:heads=band,gate=0.5@8: a method with a strength in its own unit,
            or the strength that costs so many nats per token on --text.
        out: The folder of the results.
        prompts: builtin, rtp.jsonl:300, toxigen.tar.gz:300, or a file of your own: one a line, or JSON lines or a table
            (.csv, .tsv) with "prompt" or "text". Blanks at the ends of a prompt are left out.
        seeds: Of the words; every plan and checkpoint gets the same ones.
        preset: paper: one text per prompt. rtp: 25, as RealToxicityPrompts does. Both: 20 tokens, top-p 0.9.
        probes: The probe set of all plans that name none. Default: toxigen.
        scorers: builtin, openai, perspective, or a classifier by folder or hub id.
        text: What costs are measured on: plain (our prose), or a file such as wikitext2_test.txt.gz or c4.jsonl:200kB.
        ray: Spread the work: "local" over this machine's cores, or the address of a Ray cluster.
        workers: Of Ray, so many at once. Default: as many as there is room for.
        machine: What it is computed on; more threads are of use to models larger than the demo's.
    """
    if ray and (over_network := [spec for spec in scorers if spec in SERVICES]):
        raise ValueError(
            f"{over_network[0]} answers so many questions a second, and every worker would ask as many. Leave --ray "
            "away."
        )
    check_folder(out)
    if ray is None:
        machine.check()
    opened = {spec: scorer(spec) for spec in scorers}
    found = [locate(name) for name in checkpoints]
    prompt_sets = tuple(open_prompts(spec) for spec in prompts)
    for remarked in (found for found in prompt_sets if found.remark):
        print(f"{remarked.name}: {remarked.remark}", file=sys.stderr)
    asked = Sweep(
        tuple(Subject.of(one, machine.dtype) for one in found),
        tuple(read_plan(plan, probes) for plan in plans),
        prompt_sets,
        seeds,
        PRESETS[preset].sampling,
        PRESETS[preset].n_samples,
        tuple((spec, one.name, one.version) for spec, one in opened.items()),
        Path(text).name,
        held_out(text),
    )
    with ExitStack() as stack:
        results = stack.enter_context(Results(out))
        if ray is None:
            engine = here(Bench(machine.device, machine.threads, opened.__getitem__))
        else:
            from evaluation.spread import spread  # Ray takes half a second to import, and is an extra

            engine = stack.enter_context(spread(ray, workers, machine.device, machine.threads or 1, scorer))
        measure(asked, results, engine, progress, made_with(machine.device, machine.threads, ray))
        progress()
        for spec, one in opened.items():
            told_missing(spec, one, results)
        told_cut(results)
    print(f"{out}/rows.jsonl")


def told_missing(spec: str, scorer: Cached, results: Results) -> None:
    """Say how many texts have no score; why is known of those that this process scored in this run."""
    scores = [text["scores"][scorer.name] for row in results.rows("generation") for text in row["texts"]]
    if n_missing := scores.count(None):
        again = " The same sweep with another --out asks for them again." * (spec in SERVICES)
        print(f"{scorer.name}: {missing_scores(n_missing, len(scores), scorer.missing)}{again}", file=sys.stderr)


def told_cut(results: Results) -> None:
    """Say how much of the prompts did not fit into a model's context, before the texts to be written."""
    if n_words := sum({row["unit"]: row["cut"] for row in results.rows("generation")}.values()):
        print(
            f"{n_words:,} words at the beginnings of long prompts did not fit into the context of a model and were "
            "left out.",
            file=sys.stderr,
        )


def scorer(spec: str) -> Cached:
    """The built-in scorer is faster than the cache."""
    return open_scorer(spec, "none" if spec == "builtin" else None)
