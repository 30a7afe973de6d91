"""Distributions as a terminal shows them: histograms with edges that people would choose, bars to an eighth of a cell.

Counts stand beside every bar, so nothing has to be guessed from its length. Not here: counting (`tally`), text from the web and
whole pages (`jobs.terminal`, `whole`).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.look.lines import clipped, shown_line
from jobs.look.tally import Spread
from jobs.terminal import count, share

MOST_BINS = 9
TWO_COLUMNS_FROM = 96
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LADDERS: tuple[tuple[float, ...], ...] = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
_BAR_STYLE = "cyan"


@dataclass(frozen=True, slots=True)
class Bin:
    """Values from `low` up to, not including, `high`; None where there is no bound."""

    low: int | None
    high: int | None
    number: int


def bins(spread: Spread, *, most: int = MOST_BINS) -> list[Bin]:
    """At most so many bins: a value each where there are few, else even steps or a ladder, with the extremes in open ends."""
    values = sorted(spread.counts.items())
    if len(values) <= most:
        return [Bin(value, value + 1, number) for value, number in values]
    low, high = spread.quantile(0.01), spread.quantile(0.99)
    edges = _even(low, high, most) if high < 8 * max(1, low) else _ladder(low, high, most)
    numbers = [0] * (len(edges) + 1)
    for value, number in values:
        numbers[sum(edge <= value for edge in edges)] += number
    bounds = [None, *edges, None]
    found = [Bin(bounds[at], bounds[at + 1], number) for at, number in enumerate(numbers)]
    return [made for made in found if made.number or None not in (made.low, made.high)]


def histogram(title: str, spread: Spread, *, words: Callable[[float], str], cells: int) -> RenderableType:
    """A title with median and range, and a bar for each bin; `cells` is the length of the longest bar."""
    head = Text(title, style="bold")
    if not spread.counts:
        return _stack(head, Text("  none", style="dim"))
    middle, low, high = (words(spread.quantile(fraction)) for fraction in (0.5, 0.05, 0.95))
    middles = Text(f"  median {middle} · 90 % in {low} – {high}", style="dim")
    rows = [(_label(made, words), made.number) for made in bins(spread)]
    return _stack(head, middles, _bar_table(rows, whole=len(spread), cells=cells))


def top(
    title: str, rows: Sequence[tuple[str, int]], *, whole: int, cells: int, others: int = 0, note: str = ""
) -> RenderableType:
    """Names with counts and bars, in the order given; `others` is the sum of what is not listed."""
    shown_rows = [(shown_line(name), number) for name, number in rows]
    if others:
        shown_rows.append(("others", others))
    return _stack(
        Text(title, style="bold").append(note, style="not bold dim"), _bar_table(shown_rows, whole=whole, cells=cells)
    )


def success(
    title: str, rows: Iterable[tuple[str, int, int]], *, cells: int, others: tuple[int, int] = (0, 0), note: str = ""
) -> RenderableType:
    """Names with what was kept of what was asked: kept, asked, share, and a bar whose whole length is all that was asked."""
    table = Table.grid(padding=(0, 2))
    listed = [(shown_line(name), kept, lost) for name, kept, lost in rows]
    if sum(others):
        listed.append(("others", *others))
    for name, kept, lost in listed:
        asked = kept + lost
        filled = bar(kept / asked if asked else 0, cells)
        track = Text(filled, style=_BAR_STYLE).append("·" * (cells - len(filled)), style="dim")
        numbers = f"{count(kept)} of {count(asked)}"
        table.add_row(
            Text("  " + clipped(name, 40)),
            Text(numbers, justify="right"),
            Text(share(kept, asked), justify="right"),
            track,
        )
    return _stack(Text(title, style="bold").append(note, style="not bold dim"), table)


def columns(parts: Sequence[RenderableType], *, on: Console) -> RenderableType:
    """Side by side in pairs where the terminal is wide enough, else one under the other."""
    if not on.is_terminal or on.width < TWO_COLUMNS_FROM:
        return _stack(*(part for pair in parts for part in (pair, Text())))
    grid = Table.grid(padding=(0, 4), expand=False)
    for left, right in zip(parts[::2], [*parts[1::2], Text()][: len(parts[::2])], strict=False):
        grid.add_row(left, right)
        grid.add_row("", "")
    return grid


def bar_cells(on: Console) -> int:
    """Length of the longest bar, so that two charts fit side by side."""
    return 12 if not on.is_terminal or on.width >= TWO_COLUMNS_FROM else max(6, min(12, on.width - 50))


def bar(fraction: float, cells: int) -> str:
    """A bar of that share of so many cells; what is not nothing shows."""
    eighths = round(8 * cells * fraction)
    full, rest = divmod(max(eighths, 1 if fraction > 0 else 0), 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def _stack(*parts: RenderableType) -> Table:
    table = Table.grid()
    for part in parts:
        table.add_row(part)
    return table


def _bar_table(rows: Sequence[tuple[str, int]], *, whole: int, cells: int) -> Table:
    table = Table.grid(padding=(0, 2))
    largest = max((number for _, number in rows), default=1) or 1
    for label, number in rows:
        table.add_row(
            Text("  " + clipped(label, 34)),
            Text(count(number), justify="right"),
            Text(share(number, whole), justify="right", style="dim"),
            Text(bar(number / largest, cells), style=_BAR_STYLE),
        )
    return table


def _label(made: Bin, words: Callable[[float], str]) -> str:
    if made.low is None:
        return f"< {words(made.high or 0)}"
    if made.high is None:
        return f"≥ {words(made.low)}"
    if made.high == made.low + 1:
        return words(made.low)
    return f"{words(made.low)} – {words(made.high)}"


def _even(low: int, high: int, most: int) -> list[int]:
    """Edges a round step apart, from below `low` to above `high`."""
    least = max(1.0, (high - low) / (most - 2))
    power = 10 ** math.floor(math.log10(least))
    step = max(1, round(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)))
    return list(range(low // step * step, high + step, step))[: most + 1]


def _ladder(low: int, high: int, most: int) -> list[int]:
    """Round edges by growing steps: the finest ladder that needs few enough."""
    edges: list[int] = []
    for ladder in _LADDERS:
        powers = range(len(str(max(1, high))) + 1)
        rungs = sorted({round(factor * 10**power) for power in powers for factor in ladder})
        first = max((at for at, rung in enumerate(rungs) if rung <= low), default=0)
        last = next(at for at, rung in enumerate(rungs) if rung > high)
        edges = rungs[first : last + 1]
        if len(edges) <= most:
            return edges
    return edges[:: -(-len(edges) // most)]
