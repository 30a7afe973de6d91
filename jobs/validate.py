"""`emu validate`: every problem of a corpus with its shard, key and byte, and `--fix` for files that no record names.

Not here: the checks and the sweep (`schemas.validate`), which say what they find and what to do about it.
"""

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from jobs.cli import DONE, FAILED
from jobs.terminal import console, count, print_json, shown
from schemas.corpus import Corpus
from schemas.errors import UserError
from schemas.problem import Problem, Severity
from schemas.validate import sweep
from schemas.validate import validate as problems_of

_COLOURS = {Severity.ERROR: "bold red", Severity.ORPHAN: "yellow", Severity.NOTE: "cyan"}


def validate(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="Folder of the corpus.")],
    column: Annotated[str | None, typer.Option(help="Only this column, such as samples.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Sizes, counts, keys and layout only; reads no tar, hashes nothing.")
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="First delete files that no record names, or can name.")] = False,
    abandoned_after: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="With --fix, and while nobody builds: also files of unfinished units that are older.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")] = False,
) -> None:
    """Check every promise of a corpus, and say what is wrong where.

    Ends with 0 if nothing is broken, 1 if something is, 2 if there is no corpus to check. Repairs nothing that holds data: a
    damaged shard comes back from a copy.
    """
    if abandoned_after is not None and not fix:
        raise UserError("--abandoned-after says which files --fix may delete; give both, or neither")
    opened = Corpus.open(corpus)
    out = console()
    deleted = sweep(opened, abandoned_after_seconds=abandoned_after) if fix else []
    counts, listed = Counter[Severity](), []
    for problem in problems_of(opened, column=column, quick=quick):
        counts[problem.severity] += 1
        if as_json:
            listed.append({name: value for name, value in asdict(problem).items() if value is not None})
        else:
            _print(problem, out)
    if as_json:
        print_json(_summary(opened, counts) | {"problems": listed, "deleted": deleted})
    else:
        for name in deleted:
            out.print(f"deleted: {shown(name)}", markup=False)
        out.print(_verdict(opened, counts, quick=quick), markup=False)
    raise typer.Exit(FAILED if counts[Severity.ERROR] else DONE)


def _print(problem: Problem, out: Console) -> None:
    severity, _, rest = str(problem).partition(": ")
    out.print(f"[{_COLOURS[problem.severity]}]{severity}[/]: ", end="")
    out.print(shown(rest), markup=False)


def _summary(corpus: Corpus, counts: Counter[Severity]) -> dict[str, Any]:
    return {
        "corpus": corpus.url,
        "holds": not counts[Severity.ERROR],
        "errors": counts[Severity.ERROR],
        "orphans": counts[Severity.ORPHAN],
        "notes": counts[Severity.NOTE],
    }


def _verdict(corpus: Corpus, counts: Counter[Severity], *, quick: bool) -> str:
    totals = corpus.totals()
    planned = len(corpus.plan())
    kept = f"{count(totals.counts.samples)} samples, {count(totals.counts.images)} images"
    held = f"{count(totals.units)} of {count(planned)} planned units, {kept}"
    asked = "quick check" if quick else "every promise of the format"
    if counts[Severity.ERROR]:
        return f"{shown(corpus.url)}: {count(counts[Severity.ERROR])} errors ({asked}; {held})"
    orphans = counts[Severity.ORPHAN]
    advice = f"; {count(orphans)} files that no record names, see --fix" if orphans else ""
    return f"{shown(corpus.url)}: holds ({asked}; {held}){advice}"
