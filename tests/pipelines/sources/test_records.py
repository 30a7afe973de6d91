"""Where records begin and end: as the stdlib's csv reader says, wherever blocks are cut, and one odd quote costs one line."""

import csv
import io
import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.sources import records
from pipelines.sources.records import LineSplitter, QuotedSplitter, Splitter, read_blocks, split_fields

CELL = st.text(st.characters(blacklist_categories=("Cs",)), max_size=8) | st.text(alphabet='a",\r\n\t\0é', max_size=12)
GARBAGE = st.lists(st.sampled_from([b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"a", b"bc"]), max_size=60).map(b"".join)


def found(data: bytes, splitter: Splitter, *, block_bytes: int = 1 << 20) -> list[tuple[int, bytes, str | None]]:
    """Every record: its offset, its bytes, and why it is refused."""
    stream = io.BytesIO(data)
    return [
        (block.offset + start, block.data[start:stop], block.records.broken.get(number))
        for block in read_blocks(stream.read, splitter, offset=0, block_bytes=block_bytes)
        for number, (start, stop) in enumerate(zip(block.records.starts, block.records.stops, strict=True))
    ]


def values(data: bytes, splitter: Splitter) -> list[bytes]:
    return [record for _, record, _ in found(data, splitter)]


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=12),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    delimiter=st.sampled_from([",", "\t"]),
    block_bytes=st.integers(1, 64),
)
def test_records_of_the_stdlib_writer_are_found_and_read_back(
    rows: list[list[str]], quoting: int, delimiter: str, block_bytes: int
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=quoting, delimiter=delimiter).writerows(rows)

    records_found = found(out.getvalue().encode(), QuotedSplitter(delimiter, width=2), block_bytes=block_bytes)

    assert [word for _, _, word in records_found] == [None] * len(rows)
    assert [split_fields(record.decode(), delimiter) for _, record, _ in records_found] == rows


@settings(max_examples=500, deadline=None)
@given(data=GARBAGE, block_bytes=st.integers(1, 40), width=st.integers(1, 3))
def test_garbage_is_split_alike_wherever_blocks_are_cut(data: bytes, block_bytes: int, width: int) -> None:
    splitter = QuotedSplitter(",", width)

    whole = found(data, splitter)

    assert found(data, splitter, block_bytes=block_bytes) == whole
    assert sum(len(record.replace(b"\n", b"").replace(b"\r", b"")) for _, record, _ in whole) == len(
        data.replace(b"\n", b"").replace(b"\r", b"")
    ), "no byte but line ends is left out"


@settings(max_examples=300, deadline=None)
@given(data=GARBAGE, width=st.integers(1, 3), cut=st.integers(0, 40), length=st.integers(1, 20))
def test_a_unit_that_is_read_alone_finds_what_planning_found(data: bytes, width: int, cut: int, length: int) -> None:
    splitter = QuotedSplitter(",", width)
    whole = found(data, splitter)
    unit = whole[cut : cut + length]
    if unit:
        end = whole[cut + length][0] if cut + length < len(whole) else len(data)

        alone = found(data[unit[0][0] : end], splitter)

        assert [(offset + unit[0][0], record, word) for offset, record, word in alone] == unit


@settings(max_examples=500, deadline=None)
@given(data=GARBAGE)
@example(data=b'""\r')
@example(data=b'a,"b"')
def test_the_scan_finds_what_matching_every_record_finds(data: bytes) -> None:
    class Matching(QuotedSplitter):
        def _are_whole(self, lines: records._Lines) -> npt.NDArray[np.bool_]:
            return np.zeros(len(lines.starts), bool)

    assert found(data, QuotedSplitter(",", 2)) == found(data, Matching(",", 2))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\rb\n", [b"a\rb"]),
        (b"a\r", [b"a\r"]),
        (b"\0\n\0\0", [b"\0", b"\0\0"]),
    ],
)
def test_lines_end_at_lf_and_crlf_and_empty_ones_are_no_records(data: bytes, expected: list[bytes]) -> None:
    assert values(data, LineSplitter()) == expected
    assert values(data, QuotedSplitter(",", 1)) == expected


@pytest.mark.parametrize(
    "bad", [b'u1,"never closed\n', b'u1,"closed" too early\n', b'u1,"two" quotes" more\n'], ids=["open", "early", "odd"]
)
@pytest.mark.parametrize("after", [b'u2,fine\nu3,"quoted, fine"\n', b'u2,5" nails\nu3,"quoted, fine"\n'])
def test_one_odd_quote_costs_its_line_and_no_other(bad: bytes, after: bytes) -> None:
    rest = [(record, None) for record in after.splitlines()]

    assert [(record, word) for _, record, word in found(b"u0,ok\n" + bad + after, QuotedSplitter(",", 2))] == [
        (b"u0,ok", None),
        (bad.rstrip(b"\n"), "quotes"),
        *rest,
    ]


def test_a_quote_that_closes_many_lines_later_into_too_many_fields_costs_its_line() -> None:
    lines = [b'u1,"open', b"u2,b", b'u3,c",d', b"u4,e"]

    assert found(b"\n".join(lines), QuotedSplitter(",", 2)) == [
        (0, lines[0], "quotes"),
        (9, lines[1], None),
        (14, lines[2], None),
        (22, lines[3], None),
    ]


def test_an_open_quote_swallows_no_more_than_the_most_lines_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_LINES", 5)
    good = b'u,"' + b"\n".join([b"x"] * 5) + b'"\n'
    long = b'u,"' + b"\n".join([b"x,y"] * 6) + b'"\n'

    assert [word for _, _, word in found(good * 2, QuotedSplitter(",", 2))] == [None, None]
    assert [word for _, _, word in found(long, QuotedSplitter(",", 2))] == ["quotes"] + [None] * 5


@pytest.mark.parametrize("splitter", [LineSplitter(), QuotedSplitter(",", 2)])
@pytest.mark.parametrize("block_bytes", [7, 64, 1 << 20])
def test_a_line_beyond_the_limit_is_refused_and_passed_over(
    splitter: Splitter, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 100)
    data = b"a,b\n" + b"x" * 300 + b"\nc,d\n" + b"y" * 99 + b"\ne,f"

    ends = [(offset, word) for offset, _, word in found(data, splitter, block_bytes=block_bytes)]

    assert ends == [(0, None), (4, "too_long"), (305, None), (309, None), (409, None)]
    assert found(b"z" * 5000, splitter, block_bytes=block_bytes)[0][2] == "too_long"


@pytest.mark.parametrize(
    "line", [b'u,"open\n', b'u,"a" b\n', b'u,5" nail\n', b'u,"""\n', b'u,""b\n', b'u,"a\nb"\n', b'",\n', b'u,"",""\n']
)
def test_no_pattern_of_quotes_makes_reading_slow(line: bytes) -> None:
    def seconds(count: int) -> float:
        started = time.process_time()
        found(line * count, QuotedSplitter(",", 2))
        return time.process_time() - started

    assert seconds(80_000) < 2.0
