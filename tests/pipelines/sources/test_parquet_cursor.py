"""Neighbouring ranges of one large row group go on where the last one ended; any other order gives the same rows."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources import parquet
from pipelines.sources.parquet import ParquetFile, inspect
from schemas.errors import UserError
from schemas.reasons import Reason, Refusal


@pytest.fixture(autouse=True)
def _no_cursor() -> Iterator[None]:
    parquet._kept.cursor = None
    yield
    parquet._kept.cursor = None


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """First rows for which a file had to be opened anew."""
    found: list[int] = []
    original = parquet._Cursor.__init__

    def counted(self: parquet._Cursor, file: ParquetFile, first: int, columns: tuple[str, ...]) -> None:
        found.append(first)
        original(self, file, first, columns)

    monkeypatch.setattr(parquet._Cursor, "__init__", counted)
    return found


def numbered(path: Path, rows: int, group: int) -> ParquetFile:
    pq.write_table(pa.table({"n": range(rows), "m": range(rows)}), path, row_group_size=group)
    return inspect(str(path))


def read(file: ParquetFile, first: int, count: int, column: str = "n") -> list[int]:
    return [row[column] for row in file.rows_of(first, count, columns=(column,))]


def test_units_in_order_open_a_file_once(tmp_path: Path, openings: list[int]) -> None:
    file = numbered(tmp_path / "a.parquet", 20_000, 7_000)

    rows = [n for first in range(0, 20_000, 500) for n in read(file, first, 500)]

    assert rows == list(range(20_000))
    assert openings == [0]


def test_skipping_forward_within_a_group_goes_on_and_beyond_it_opens_anew(tmp_path: Path, openings: list[int]) -> None:
    file = numbered(tmp_path / "a.parquet", 20_000, 10_000)

    assert read(file, 100, 10) == list(range(100, 110))
    assert read(file, 5_000, 10) == list(range(5_000, 5_010))
    assert read(file, 15_000, 10) == list(range(15_000, 15_010))
    assert read(file, 14_000, 10) == list(range(14_000, 14_010))
    assert openings == [100, 15_000, 14_000]


@settings(max_examples=60, deadline=None)
@given(
    ranges=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 60), st.sampled_from("nm")), max_size=8),
    group=st.integers(1, 120),
)
def test_any_order_of_ranges_gives_their_rows(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[tuple[int, int, str]], group: int
) -> None:
    file = numbered(tmp_path_factory.mktemp("t") / "a.parquet", 120, group)

    for first, count, column in ranges:
        assert read(file, first, count, column) == list(range(120))[first : first + count]


def test_two_ranges_read_by_turns_do_not_disturb_each_other(tmp_path: Path) -> None:
    file = numbered(tmp_path / "a.parquet", 9_000, 9_000)
    one, two = file.rows_of(0, 4_000, columns=("n",)), file.rows_of(4_000, 4_000, columns=("n",))

    pairs = [(a["n"], b["n"]) for a, b in zip(one, two, strict=True)]

    assert pairs == [(i, i + 4_000) for i in range(4_000)]
    assert read(file, 8_000, 10) == list(range(8_000, 8_010))


def test_threads_have_cursors_of_their_own(tmp_path: Path) -> None:
    file = numbered(tmp_path / "a.parquet", 20_000, 20_000)
    found: dict[int, list[int]] = {}

    def work(part: int) -> None:
        firsts = range(part * 1_000, 20_000, 4_000)
        found[part] = [n for first in firsts for n in read(file, first, 1_000)]

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(n for part in found.values() for n in part) == list(range(20_000))


def test_no_file_stays_open_after_its_end_an_error_a_break_or_the_thread(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    file = numbered(path, 5_000, 5_000)

    def is_open() -> bool:
        return any(item.path == str(path) for item in psutil.Process().open_files())

    read(file, 0, 1_000)
    assert is_open(), "kept for the next range"
    read(file, 1_000, 4_000)
    assert not is_open()

    rows = file.rows_of(0, 5_000, columns=("n",))
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert not is_open()

    thread = threading.Thread(target=read, args=(file, 0, 10))
    thread.start()
    thread.join()
    assert not is_open()


def test_a_cursor_of_a_file_that_was_replaced_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert read(numbered(path, 3_000, 3_000), 0, 10) == list(range(10))
    path.unlink()
    pq.write_table(pa.table({"n": range(1_000, 4_000)}), path)

    assert read(inspect(str(path)), 10, 2) == [1_010, 1_011]


def test_text_that_is_no_utf_8_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    raw = pa.array([b"caf\xc3\xa9", b"caf\xe9", b"x"] * 5, pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    pq.write_table(pa.table({"t": text}), path)

    rows = list(inspect(str(path)).rows_of(0, 15, columns=("t",)))

    assert rows == [{"t": "café"}, Refusal(Reason.SOURCE_MALFORMED, "encoding"), {"t": "x"}] * 5


def test_an_error_half_way_names_file_and_rows_and_keeps_nothing(tmp_path: Path) -> None:
    file = numbered(tmp_path / "a.parquet", 5_000, 5_000)
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(100))

    with pytest.raises(UserError, match=r"a\.parquet: rows 10 to 14 cannot be read"):
        read(file, 10, 5)
    assert parquet._kept.cursor is None
