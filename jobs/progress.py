"""What a run looks like while it goes on: a live display on a terminal, a plain line every ten seconds in a log.

Both say the same: units done, rows and their rate, the share that is kept, the time left, and why rows fall. All of it goes to
stderr; results have stdout to themselves. Not here: the summary at the end (`summary`).
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from jobs.terminal import bars, count, duration, error_console, share
from pipelines.run import Status

PLAIN_SECONDS = 10.0
_WINDOW_SECONDS = 30.0
_MOST_REASONS = 6


@contextmanager
def progress(*, plain_seconds: float = PLAIN_SECONDS) -> Iterator[Callable[[Status], None]]:
    """What `run` is to call with its status now and then."""
    console = error_console()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            pace = Pace()
            yield lambda status: live.update(_display(status, pace))
    else:
        yield _PlainLines(console, every_seconds=plain_seconds)


@dataclass(slots=True)
class Pace:
    """Rows a second over the last half minute: an average over the whole run would hide that a network went away."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def rows_per_second(self, status: Status) -> float:
        """The rate now; 0 until there are two looks at it."""
        self._seen.append((status.seconds, status.rows_closed))
        while len(self._seen) > 2 and status.seconds - self._seen[0][0] > _WINDOW_SECONDS:
            self._seen.popleft()
        seconds, closed = self._seen[0]
        elapsed = status.seconds - seconds
        # A unit that is lost with its worker takes its rows back.
        return max(0.0, (status.rows_closed - closed) / elapsed) if elapsed > 0 else 0.0


def seconds_left(status: Status, rows_per_second: float) -> float | None:
    """At this rate; None while nobody can tell."""
    if status.rows_planned is None or rows_per_second <= 0:
        return None
    return max(0, status.rows_planned - status.rows_closed) / rows_per_second


class _PlainLines:
    def __init__(self, console: Console, *, every_seconds: float) -> None:
        self._console = console
        self._every_seconds = every_seconds
        self._pace = Pace()
        self._next = time.monotonic() + every_seconds

    def __call__(self, status: Status) -> None:
        rate = self._pace.rows_per_second(status)
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every_seconds
        reasons = [f"{name} {count(number)}" for name, number in list(status.reasons.items())[:3]]
        rejected = f" · rejected: {', '.join(reasons)}" if reasons else ""
        self._console.print(f"{time.strftime('%H:%M:%S')} {_line(status, rate)}{rejected}", markup=False)


def _line(status: Status, rate: float) -> str:
    left = seconds_left(status, rate)
    parts = [
        f"units {count(status.units_committed)}/{count(status.units_planned)}",
        f"{count(status.rows_closed)} rows",
        f"{rate:,.0f} rows/s",
        f"kept {share(status.samples, status.rows_closed)}",
        "" if left is None else f"about {duration(left)} left",
    ]
    return " · ".join(part for part in parts if part)


def _display(status: Status, pace: Pace) -> Group:
    rate = pace.rows_per_second(status)
    bar = ProgressBar(total=status.rows_planned, completed=status.rows_closed, width=60)
    line = Text(_line(status, rate))
    reasons = bars(status.reasons, whole=status.rows_closed, most=_MOST_REASONS)
    hint = Text("Ctrl-C stops; the same command goes on", style="dim")
    return Group(line, bar, reasons, hint) if status.reasons else Group(line, bar, hint)
