"""What a run looks like while it goes on: rates over a window, time left, and lines that a log can hold."""

import io

import pytest
from rich.console import Console

from jobs.progress import Pace, _display, _PlainLines, seconds_left
from jobs.terminal import bars
from pipelines.build import Progress
from pipelines.run import Status
from schemas.record import Counts, Totals


def status(*, seconds: float, rows: int, in_hand: int = 0, planned: int | None = 1000) -> Status:
    """A run that has committed `rows` rows, four fifths of them kept, and has `in_hand` more of a unit in hand."""
    counts = Counts(rows=rows, samples=rows * 4 // 5, rejected_rows=rows - rows * 4 // 5)
    totals = Totals(units=1, counts=counts, reasons={"row": {"http.404": counts.rejected_rows}} if rows else {})
    progress = Progress(opened=in_hand, closed=in_hand, samples=in_hand - 1, reasons={"dns": 1}) if in_hand else None
    return Status(
        units_planned=5,
        units_committed=2,
        rows_planned=planned,
        totals=totals,
        in_hand={} if progress is None else {3: progress},
        seconds=seconds,
    )


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    assert pace.rows_per_second(status(seconds=0, rows=0)) == 0
    assert pace.rows_per_second(status(seconds=10, rows=1000)) == 100
    rates = [pace.rows_per_second(status(seconds=10 + s, rows=1000 + s)) for s in range(1, 61)]
    assert rates[-1] == pytest.approx(1)  # the fast start is out of sight


def test_a_unit_that_is_lost_gives_no_negative_rate() -> None:
    pace = Pace()
    pace.rows_per_second(status(seconds=0, rows=100, in_hand=50))
    assert pace.rows_per_second(status(seconds=1, rows=100)) == 0


@pytest.mark.parametrize(
    ("planned", "rate", "left"), [(1000, 10.0, 90.0), (1000, 0.0, None), (None, 10.0, None), (50, 10.0, 0.0)]
)
def test_time_left(planned: int | None, rate: float, left: float | None) -> None:
    assert seconds_left(status(seconds=1, rows=60, in_hand=40, planned=planned), rate) == left


def test_a_log_gets_one_line_for_each_period() -> None:
    sink = io.StringIO()
    lines = _PlainLines(Console(file=sink, width=400), every_seconds=0)
    lines(status(seconds=0, rows=0))
    lines(status(seconds=10, rows=100, in_hand=10))
    first, second = sink.getvalue().splitlines()
    assert "units 2/5 · 0 rows · 0 rows/s · kept –" in first
    assert "units 2/5 · 110 rows · 11 rows/s · kept 80.9 % · about 81 s left" in second
    assert second.endswith("rejected: http.404 20, dns 1")

    silent = io.StringIO()
    _PlainLines(Console(file=silent, width=400), every_seconds=3600)(status(seconds=0, rows=0))
    assert silent.getvalue() == ""


def test_a_terminal_shows_the_same() -> None:
    sink = io.StringIO()
    Console(file=sink, width=120).print(_display(status(seconds=1, rows=100, in_hand=10), Pace()))
    for words in ("units 2/5", "110 rows", "http.404", "dns", "Ctrl-C stops"):
        assert words in sink.getvalue()
    Console(file=sink, width=40).print(_display(status(seconds=1, rows=0, planned=None), Pace()))


def test_bars_keep_their_sum_when_some_are_others() -> None:
    sink = io.StringIO()
    counts = {f"r{n}": n for n in range(1, 11)}
    Console(file=sink, width=120).print(bars(counts, whole=55, most=4))
    lines = [line.split() for line in sink.getvalue().splitlines()]
    assert [line[0] for line in lines] == ["r10", "r9", "r8", "7"]
    assert sum(int(line[1] if line[0] != "7" else line[2]) for line in lines) == 55
    assert max(len(line[-1]) for line in lines) == 30
