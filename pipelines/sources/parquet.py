"""One parquet file: its footer's facts, its fingerprint, and a range of its rows at flat memory.

The fingerprint's content is the hash of the footer. Reading never loads a row group whole: pages are decoded batch by batch
through a small buffer. A thread that reads neighbouring ranges goes on where it ended (`_Cursor`), for a row group can only be
decoded from its beginning: a million rows in one group would else be decoded a hundred times over for a hundred units.
"""

import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pipelines.sources.files import is_remote, open_binary, stat
from pipelines.sources.formats import Format
from schemas.errors import UserError
from schemas.plan import Unit
from schemas.reasons import Reason, Refusal

_BATCH_ROWS = 1024
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """What the footer says. A column's type is declared, so files can be compared by it (`typed`)."""

    path: str
    rows: int
    schema: pa.Schema
    fingerprint: str
    format: Format = Format.PARQUET
    typed: bool = True
    notes: tuple[str, ...] = ()

    def units(self, *, first_ordinal: int, rows_per_unit: int) -> Iterator[Unit]:
        """Units of `rows_per_unit` rows, the last with what is left."""
        for number, first in enumerate(range(0, self.rows, rows_per_unit)):
            rows = min(rows_per_unit, self.rows - first)
            yield Unit(first_ordinal + number, self.path, self.fingerprint, first, rows)

    def unit_rows(self, unit: Unit, *, columns: tuple[str, ...]) -> Iterator[dict[str, Any] | Refusal]:
        """The rows of a unit as `rows_of` gives them."""
        return self.rows_of(unit.first_row, unit.rows or 0, columns=columns)

    def rows_of(self, first: int, count: int, *, columns: tuple[str, ...]) -> Iterator[dict[str, Any] | Refusal]:
        """Rows `first` … `first + count - 1` as dicts of those columns that the file has; `source.malformed` for broken text."""
        try:
            with _cursor(self, first, tuple(name for name in columns if name in self.schema.names)) as cursor:
                yield from cursor.rows(first, count)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise UserError(
                f"{self.path}: rows {first} to {first + count - 1} cannot be read ({error}); the file is damaged: fetch it again"
            ) from None


def inspect(path: str) -> ParquetFile:
    """The facts of a file, read from its footer. Raises `UserError` if it is no parquet file, `FileNotFoundError` if it is gone."""
    size, tag = stat(path)
    return _inspect(path, size, tag)


@lru_cache(maxsize=4096)
def _inspect(path: str, size: int, tag: str) -> ParquetFile:
    if size == 0:
        raise UserError(f"{path} is empty (0 bytes); fetch it again, or take it out of the input")
    try:
        with _opened(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
            return ParquetFile(path, metadata.num_rows, schema, f"{size}-{tag}-{_footer_hash(path, size)}")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{path} is not a readable parquet file ({error}); fetch it again") from None


class _Cursor:
    """An open file and a place in it, which moves forward only. next_row: of the file, where it stands."""

    def __init__(self, file: ParquetFile, first: int, columns: tuple[str, ...]) -> None:
        self.reads = (file.path, file.fingerprint, columns)
        with ExitStack() as stack:
            self._file = stack.enter_context(_opened(file.path))
            groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.metadata.num_row_groups)]
            self._starts: list[int] = list(accumulate(groups, initial=0))
            self.next_row = self._group_start(first)
            self._batches = self._file.iter_batches(
                batch_size=_BATCH_ROWS,
                row_groups=list(range(self._starts.index(self.next_row), len(groups))),
                columns=list(columns),
                use_threads=False,
            )
            self._batch: pa.RecordBatch | None = None
            self._open_files = stack.pop_all()

    @property
    def at_end(self) -> bool:
        """Whether the file has no more rows."""
        return bool(self.next_row >= self._starts[-1])

    def can_serve(self, file: ParquetFile, first: int, columns: tuple[str, ...]) -> bool:
        """Whether going on from here is less work than opening the file anew."""
        same = self.reads == (file.path, file.fingerprint, columns)
        return same and self._group_start(first) <= self.next_row <= first

    def rows(self, first: int, count: int) -> Iterator[dict[str, Any] | Refusal]:
        """Rows `first` … `first + count - 1`, or up to the end of the file."""
        self._skip_to(first)
        while count > 0 and (batch := self._take(count)) is not None:
            count -= batch.num_rows
            yield from _values(batch)

    def close(self) -> None:
        """Let go of the file."""
        self._batch = None
        self._open_files.close()

    def _skip_to(self, row: int) -> None:
        while self.next_row < row and self._take(row - self.next_row) is not None:
            pass

    def _take(self, most: int) -> pa.RecordBatch | None:
        """The next rows, `most` at most and one at least; None at the end."""
        while self._batch is None or self._batch.num_rows == 0:
            self._batch = next(self._batches, None)
            if self._batch is None:
                return None
        taken, self._batch = self._batch.slice(0, most), self._batch.slice(most)
        self.next_row += taken.num_rows
        return taken

    def _group_start(self, row: int) -> int:
        """The first row of the row group that holds `row`; empty groups hold none."""
        return self._starts[max(0, bisect_right(self._starts, row) - 1)]


_kept = threading.local()


@contextmanager
def _cursor(file: ParquetFile, first: int, columns: tuple[str, ...]) -> Iterator[_Cursor]:
    """This thread's cursor if it can go on, else a new one. It is kept for the next range unless reading failed or ended."""
    cursor: _Cursor | None = getattr(_kept, "cursor", None)
    _kept.cursor = None
    if cursor is not None and not cursor.can_serve(file, first, columns):
        cursor.close()
        cursor = None
    cursor = cursor or _Cursor(file, first, columns)
    try:
        yield cursor
    except BaseException:  # given up half-way by whoever reads, too
        cursor.close()
        raise
    if cursor.at_end:
        cursor.close()
        return
    other: _Cursor | None = getattr(_kept, "cursor", None)
    if other is not None:  # two ranges were read by turns
        other.close()
    _kept.cursor = cursor


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | Refusal]:
    """Rows of a batch; a row whose text is no UTF-8, which parquet does not check, is refused alone."""
    try:
        rows: list[dict[str, Any] | Refusal] = batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [Refusal(Reason.SOURCE_MALFORMED, "encoding")]
        return [row for i in range(batch.num_rows) for row in _values(batch.slice(i, 1))]
    return rows


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    if not is_remote(path):
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES) as file:
            yield file
        return
    with open_binary(path) as remote, pq.ParquetFile(remote, buffer_size=_BUFFER_BYTES) as file:
        yield file


def _footer_hash(path: str, size: int) -> str:
    with open_binary(path) as file:
        file.seek(size - 8)
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        return xxhash.xxh3_64_hexdigest(file.read(length))
