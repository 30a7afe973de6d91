"""What every benchmark ends with: a table for people, a line of goals for machines, and, on `--save`, a page in `results/`.

Timings are ratios within one run: the peers and we take turns (`rounds`), and each number is the median of its rounds, with the
lowest and highest beside it. Not here: how a command's use is counted (`usage`), what is raced.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PEERS_PYTHON = Path(os.environ.get("PEERS_PYTHON", ROOT / ".venv-peers/bin/python"))
EMU = Path(sys.executable).with_name("emu")


@dataclass(frozen=True, slots=True)
class Goal:
    """What was to be reached. value: None where it could not be measured, which `why_not` explains and which holds nothing."""

    name: str
    value: float | None
    unit: str
    goal: float
    better: str
    why_not: str = ""

    @property
    def holds(self) -> bool:
        """Whether it was reached."""
        if self.value is None:
            return False
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal

    def as_json(self) -> dict[str, object]:
        """Its entry in the closing line."""
        value = None if self.value is None else round(self.value, 4)
        plain: dict[str, object] = {
            "name": self.name,
            "value": value,
            "unit": self.unit,
            "goal": self.goal,
            "better": self.better,
        }
        return plain | {"holds": self.holds}


@dataclass(slots=True)
class Report:
    """What a benchmark found. tables: a title, and rows of cells under a head. notes: what a reader must know to believe it."""

    benchmark: str
    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def finish(self, *, save: bool) -> None:
        """Print everything, the goals last; write `results/NAME.md` if asked to."""
        text = self._text()
        print(text, flush=True)
        closing = {
            "benchmark": self.benchmark,
            "machine": machine(),
            "goals": [goal.as_json() for goal in self.goals],
        }
        if save:
            RESULTS.mkdir(exist_ok=True)
            page = f"# {self.benchmark}\n\n{self._circumstances()}\n\n{text}\n\n```json\n{json.dumps(closing, indent=1)}\n```\n"
            (RESULTS / f"{self.benchmark}.md").write_text(page)
        print(json.dumps(closing), flush=True)

    def _text(self) -> str:
        parts = [f"## {title}\n\n{_table(cells)}" for title, cells in self.tables]
        head = ["goal", "found", "wanted", ""]
        parts.append(f"## Goals\n\n{_table([head, *map(_goal_cells, self.goals)])}")
        if self.notes:
            parts.append("\n".join(f"* {note}" for note in self.notes))
        return "\n\n".join(parts)

    def _circumstances(self) -> str:
        words = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(shlex.quote, sys.argv[1:])])
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        facts = ", ".join(f"{name} {value}" for name, value in machine().items())
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"`{words}`, {today}. Machine: {facts}. Versions: {versions}."


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a small size, to see that all works; its numbers mean little"
    )
    parser.add_argument("--rounds", type=int, help="how often the contestants take turns")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/NAME.md")
    parser.add_argument("--folder", type=Path, help="where work is put; a temporary folder if not given")
    return parser


def take_turns(
    rounds: int, contestants: Mapping[str, Callable[[], Mapping[str, float]]]
) -> dict[str, dict[str, list[float]]]:
    """Run every contestant once a round, in turn; each gives numbers by name. The order is reversed in every other round."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in contestants}
    for number in range(rounds):
        order = list(contestants) if number % 2 == 0 else list(contestants)[::-1]
        for name in order:
            numbers = contestants[name]()
            told = ", ".join(f"{what} {value:.4g}" for what, value in numbers.items())
            print(f"round {number + 1} of {rounds}, {name}: {told}", file=sys.stderr, flush=True)
            for what, value in numbers.items():
                found[name].setdefault(what, []).append(value)
    return found


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return float(statistics.median(values))


def shown(values: Sequence[float], *, digits: int = 2) -> str:
    """The median, and the range where there is one."""
    text = f"{median(values):,.{digits}f}"
    if len(values) == 1 or max(values) == min(values):
        return text
    return f"{text} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def machine() -> dict[str, object]:
    """What it ran on, without saying which one it is."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_gb),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def versions_of(python: Path | None, packages: Sequence[str]) -> dict[str, str]:
    """Versions of packages in the venv of `python`, ours if None; those that are not there say so."""
    script = (
        "import importlib.metadata as m, json, sys\n"
        "def v(n):\n  try: return m.version(n)\n  except m.PackageNotFoundError: return 'absent'\n"
        "print(json.dumps({n: v(n) for n in sys.argv[1:]}))"
    )
    done = subprocess.run(
        [python or sys.executable, "-c", script, *packages], capture_output=True, check=True, text=True
    )
    return dict(json.loads(done.stdout))


def peers_missing(*modules: str) -> str | None:
    """Why the peers cannot run, or None."""
    if not PEERS_PYTHON.exists():
        return "the peers' venv is not there: run it by `make bench`"
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run([PEERS_PYTHON, "-c", script, *modules], capture_output=True, check=False, text=True)
    return None if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    """A folder for the run's files, removed at its end; one that was given stays."""
    import tempfile

    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        yield Path(folder)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table that reads well as text, too; the first row is the head, and numbers stand to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = [f":{'-' * (widths[0] - 1)}", *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(rows[0]), f"| {' | '.join(rule)} |", *(line(row) for row in rows[1:])])


def _goal_cells(goal: Goal) -> list[str]:
    sign = "≥" if goal.better == "higher" else "≤"
    found = f"{goal.value:,.3g} {goal.unit}" if goal.value is not None else f"not measured: {goal.why_not}"
    return [goal.name, found, f"{sign} {goal.goal:,g} {goal.unit}", "holds" if goal.holds else "MISSED"]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
