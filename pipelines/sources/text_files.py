"""One text table (csv, tsv, jsonl, txt; compressed or not): its facts, its fingerprint, its units, and their rows at flat memory.

A plain file is passed over once when it is planned, which finds the byte range of every unit; a compressed one is one unit, as
only reading tells where its rows are. The fingerprint's content is the hash of the first and the last 64 KiB. Not here: columns and
first rows (`text_head`), where records end (`records`), what they hold (`text_rows`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise

import pyarrow as pa
import xxhash

from pipelines.sources.files import open_binary, stat
from pipelines.sources.formats import Compression, FileType, Format, file_type
from pipelines.sources.records import Splitter, read_blocks
from pipelines.sources.streams import opened
from pipelines.sources.text_head import read_head
from pipelines.sources.text_rows import Row, RowParser, TextSettings, splitter
from schemas.errors import UserError
from schemas.plan import Unit

_INDEX_BLOCK_BYTES = 4 << 20
_READ_BLOCK_BYTES = 1 << 20
_HASHED_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class TextFile:
    """What the head of the file says.

    names: of the columns, in order. schema: those with the types that the first rows have; not declared, so not compared (`typed`).
    data_offset: where the first row begins, in bytes after decompression.
    """

    path: str
    type: FileType
    settings: TextSettings
    fingerprint: str
    schema: pa.Schema
    names: tuple[str, ...]
    data_offset: int
    notes: tuple[str, ...] = ()
    typed: bool = False

    @property
    def format(self) -> Format:
        """How its rows are written."""
        return self.type.format

    def units(self, *, first_ordinal: int, rows_per_unit: int) -> Iterator[Unit]:
        """Units of `rows_per_unit` rows, found in one pass over a plain file; the whole of a compressed one, without reading it."""
        if self.type.compression is not Compression.NONE:
            yield Unit(first_ordinal, self.path, self.fingerprint, 0, None)
            return
        offsets, num_rows, end = self._index(rows_per_unit)
        for number, (offset, stop) in enumerate(pairwise([*offsets, end])):
            first = number * rows_per_unit
            rows = min(rows_per_unit, num_rows - first)
            yield Unit(first_ordinal + number, self.path, self.fingerprint, first, rows, offset, stop - offset)

    def unit_rows(self, unit: Unit, *, columns: tuple[str, ...]) -> Iterator[Row]:
        """The rows of a unit as dicts of those columns that the file has. Raises `UserError` if they cannot be read."""
        if unit.byte_offset is None:
            stop = None if unit.rows is None else unit.first_row + unit.rows
            yield from islice(self._rows(self.data_offset, None, columns), unit.first_row, stop)
            return
        found = 0
        for row in self._rows(unit.byte_offset, unit.byte_length, columns):
            found += 1
            yield row
        if found != unit.rows:
            raise UserError(
                f"{self.path}: unit {unit.ordinal} was planned with {unit.rows} rows from byte {unit.byte_offset} on, and has "
                f"{found} now: the file was changed in place; put the old one back, or build into a new folder"
            )

    def _rows(self, offset: int, length: int | None, columns: tuple[str, ...]) -> Iterator[Row]:
        parser = RowParser(self.format, self.settings, names=self.names, columns=columns)
        with opened(self.path, self.type.compression, offset=offset, length=length) as read:
            for block in read_blocks(read, self._splitter, offset=offset, block_bytes=_READ_BLOCK_BYTES):
                yield from parser.rows(block.data, block.records)

    def _index(self, rows_per_unit: int) -> tuple[list[int], int, int]:
        """Offsets of the first row of every unit, how many rows there are, and where they end, in bytes."""
        offsets: list[int] = []
        num_rows, end = 0, self.data_offset
        with opened(self.path, Compression.NONE, offset=self.data_offset) as read:
            for block in read_blocks(read, self._splitter, offset=self.data_offset, block_bytes=_INDEX_BLOCK_BYTES):
                starts = block.records.starts
                offsets.extend((block.offset + starts[-num_rows % rows_per_unit :: rows_per_unit]).tolist())
                num_rows += len(starts)
                end = block.offset + block.records.used
        if end != int(self.fingerprint.partition("-")[0]):
            raise UserError(f"{self.path} is being written to while it is planned; wait until it is finished")
        return offsets, num_rows, end

    @property
    def _splitter(self) -> Splitter:
        return splitter(self.format, self.settings, width=len(self.names))


def inspect(path: str, settings: TextSettings) -> TextFile:
    """The facts of a file, read from its head. Raises `UserError` if it cannot be read so, `FileNotFoundError` if it is gone."""
    size, tag = stat(path)
    return _inspect(path, size, tag, settings)


@lru_cache(maxsize=4096)
def _inspect(path: str, size: int, tag: str, settings: TextSettings) -> TextFile:
    type = file_type(path)
    head = read_head(path, type, settings)
    return TextFile(
        path=path,
        type=type,
        settings=settings,
        fingerprint=f"{size}-{tag}-{_ends_hash(path, size)}",
        schema=head.schema,
        names=head.names,
        data_offset=head.data_offset,
        notes=head.notes,
    )


def _ends_hash(path: str, size: int) -> str:
    with open_binary(path) as file:
        hashed = xxhash.xxh3_64(file.read(_HASHED_BYTES))
        file.seek(max(0, size - _HASHED_BYTES))
        hashed.update(file.read(_HASHED_BYTES))
        return hashed.hexdigest()
