"""What a run came to, in words and as JSON: both ledgers, the reasons, where it lies, what failed, and how to go on."""

import shlex
import sys
from pathlib import PurePath, PurePosixPath
from typing import Any

from rich.console import Console

from jobs.ledgers import ledgers, print_reasons
from jobs.terminal import count, duration, listed, rows, shown
from pipelines.feed import Failure
from pipelines.run import RunResult
from schemas.plan import Unit

_MOST_FAILURES = 10


def print_summary(result: RunResult, *, console: Console) -> None:
    """Say how the run ended."""
    totals = result.totals
    if not result.built.units and not result.pending:
        console.print(f"Nothing is left to build: all {count(result.units_planned)} units are committed.")
    else:
        built = result.built.counts
        console.print(
            f"Built {count(result.built.units)} units in {duration(result.seconds)}: "
            f"{count(built.samples)} samples from {count(built.rows)} rows."
        )
    console.print(rows([("corpus", shown(result.corpus.url)), *ledgers(totals)]))
    print_reasons(totals, console=console)
    for failure in result.failures[:_MOST_FAILURES]:
        console.print(f"failed: {told(failure)}", markup=False)
    if result.failures[_MOST_FAILURES:]:
        console.print(f"failed: {len(result.failures) - _MOST_FAILURES} more units")
    if result.pending:
        console.print(
            f"{count(result.pending)} of {count(result.units_planned)} units are pending; "
            f"nothing that is committed is lost. Go on with the same command:\n  {same_command()}",
            markup=False,
        )


def summary_json(result: RunResult) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "corpus": result.corpus.url,
        "name": result.corpus.manifest.name,
        "units_planned": result.units_planned,
        "units_built": result.built.units,
        "units_pending": result.pending,
        "stopped": result.stopped,
        "seconds": round(result.seconds, 3),
        "totals": result.totals.to_dict(),
        "built": result.built.to_dict(),
        "failures": [
            {"unit": f.unit.ordinal, "source": f.unit.source, "attempts": f.attempts, "cause": f.cause}
            for f in result.failures
        ],
    }


def told(failure: Failure) -> str:
    """A unit that was given up: which rows of which file, how often it was tried, and why."""
    times = "once" if failure.attempts == 1 else f"{failure.attempts} times"
    return shown(f"unit {failure.unit.ordinal} ({_place(failure.unit)}), tried {times}: {failure.cause}")


def same_command() -> str:
    """What was typed, for typing it again."""
    return shlex.join([PurePath(sys.argv[0]).name, *sys.argv[1:]])


def _place(unit: Unit) -> str:
    name = PurePosixPath(unit.source).name
    if unit.keys is not None:
        return f"retry of {listed(unit.keys, most=3)}"
    if unit.rows is None:
        return name
    return f"{name}, rows {count(unit.first_row)} to {count(unit.first_row + unit.rows - 1)}"
