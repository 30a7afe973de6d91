"""Shards that others made of pictures and texts: found, known again by their fingerprint, and read row by row in flat memory.

    X.tar, X.parquet beside it or not      a WebDataset tar; the rows of its metadata, or its samples, are the rows
    X.parquet with a column of pictures    bytes, a list of bytes, or Hugging Face's {bytes, path}
    X.parquet and a folder X               files named by key
    a folder of pictures                   the same without metadata

Where there is metadata, each of its rows is a row here, with its picture by key or without one; rows that img2dataset counted in
`X_stats.json` and lost stand behind them. A fingerprint covers the tar or folder and the table.
Not here: members of one key (`foreign_rows`), what a row becomes (`img2dataset`).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pipelines.sources import parquet
from pipelines.sources.files import base_name, find_files, is_remote, open_binary, stat
from pipelines.sources.foreign_rows import (
    PICTURE_ENDINGS,
    FolderPile,
    ForeignRow,
    Limits,
    TarPile,
    joined_rows,
    listing,
)
from pipelines.sources.parquet import ParquetFile
from schemas.errors import UserError

_ENDINGS = (".tar", ".parquet")
_KEY = "key"
_BATCH_BYTES = 32 << 20  # of pictures that are in memory as Arrow has them
_MAX_BATCH_ROWS = 256
_HASHED_BYTES = 1 << 16
_MAX_STATS_BYTES = 1 << 20


class Shard(Protocol):
    """One shard: `path` is what a plan names. rows: None where only reading tells. schema: of its metadata, if there is some."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def rows(self) -> int | None: ...  # noqa: D102
    @property
    def schema(self) -> pa.Schema | None: ...  # noqa: D102

    def read(self, limits: Limits) -> Iterator[ForeignRow]:
        """Every row in order. Raises `UserError` if what is there cannot be what was meant."""


def find_shards(paths: Sequence[str], *, pictures: Sequence[str]) -> list[str]:
    """Paths of shards for files, folders and patterns; `pictures` names the columns that may hold some. Raises `UserError`."""
    folders = [path for path in paths if _is_picture_folder(path)]
    others = [path for path in paths if path not in folders]
    files = find_files(others, endings=_ENDINGS) if others or not folders else []
    found = {_shard_of_table(file, pictures) if file.endswith(".parquet") else file for file in files}
    for folder in folders:
        absolute = _absolute(folder)
        table = _table_beside(absolute)
        found.add(absolute if table is None else table.path)
    return sorted(found)


def open_shard(path: str, *, pictures: Sequence[str]) -> Shard:
    """The shard at a path that `find_shards` gave. Raises `FileNotFoundError` if it is gone, `UserError` if it is none."""
    if path.endswith(".tar"):
        table = _table_beside(path.removesuffix(".tar"))
        size, tag = stat(path)
        return TarShard(path, _joined(f"{size}-{tag}-{_ends_hash(path, size, tag)}", table), table)
    if not path.endswith(".parquet"):
        return FolderShard(path, _folder_print(path), path, None)
    own = parquet.inspect(path)
    column = picture_column(own.schema, pictures)
    if column is not None:
        return PictureTable(path, own.fingerprint, own.rows, own.schema, column)
    folder = path.removesuffix(".parquet")
    table = _with_keys(own)
    return FolderShard(path, _joined(_folder_print(folder), table), folder, table)


def picture_column(schema: pa.Schema, names: Sequence[str]) -> str | None:
    """The column of a table that holds pictures: one of `names`, of bytes, lists of bytes, or Hugging Face's struct."""
    return next((name for name in names if name in schema.names and _is_bytes(schema.field(name).type)), None)


@dataclass(frozen=True, slots=True)
class TarShard:
    """A WebDataset tar, with the table beside it if there is one."""

    path: str
    fingerprint: str
    table: ParquetFile | None

    @property
    def rows(self) -> int | None:
        """See `Shard`."""
        return None if self.table is None else _rows_counted(self.table)

    @property
    def schema(self) -> pa.Schema | None:
        """See `Shard`."""
        return None if self.table is None else self.table.schema

    def read(self, limits: Limits) -> Iterator[ForeignRow]:
        """See `Shard.read`."""
        with open_binary(self.path) as file:
            pile = TarPile(file, path=self.path, limits=limits)
            if self.table is None:
                yield from pile.rows()
            else:
                names = (self.path, self.table.path)
                yield from joined_rows(_facts(self.table), pile, expected=_rows_counted(self.table), names=names)


@dataclass(frozen=True, slots=True)
class FolderShard:
    """A folder of files, with the table beside it if there is one; without, samples come in the order of their keys."""

    path: str
    fingerprint: str
    folder: str
    table: ParquetFile | None

    @property
    def rows(self) -> int | None:
        """See `Shard`."""
        return None if self.table is None else _rows_counted(self.table)

    @property
    def schema(self) -> pa.Schema | None:
        """See `Shard`."""
        return None if self.table is None else self.table.schema

    def read(self, limits: Limits) -> Iterator[ForeignRow]:
        """See `Shard.read`."""
        pile = FolderPile(self.folder, limits=limits)
        if self.table is None:
            yield from pile.rows()
        else:
            names = (self.folder, self.table.path)
            yield from joined_rows(_facts(self.table), pile, expected=_rows_counted(self.table), names=names)


@dataclass(frozen=True, slots=True)
class PictureTable:
    """A table that holds the pictures themselves, in `column`."""

    path: str
    fingerprint: str
    rows: int | None
    schema: pa.Schema | None
    column: str

    def read(self, limits: Limits) -> Iterator[ForeignRow]:
        """See `Shard.read`."""
        try:
            with open_binary(self.path) as file, pq.ParquetFile(file, buffer_size=1 << 20) as table:
                for batch in table.iter_batches(batch_size=_batch_rows(table.metadata), use_threads=False):
                    yield from (self._row(facts, limits) for facts in _values(batch))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise UserError(f"{self.path} cannot be read ({error}); the file is damaged: fetch it again") from None

    def _row(self, facts: dict[str, Any] | None, limits: Limits) -> ForeignRow:
        if facts is None:
            return ForeignRow(lack="encoding")
        held = facts.pop(self.column)
        items = held if isinstance(held, list) else [held]
        found = [item.get("bytes") if isinstance(item, dict) else item for item in items]
        pictures = tuple(picture for picture in found if picture is not None)
        key = str(facts.get(_KEY) or "")
        if any(len(picture) > limits.picture_bytes for picture in pictures):
            return ForeignRow(key, facts, too_large="picture")
        is_whole = len(pictures) == len(items) > 0
        return ForeignRow(key, facts, pictures=pictures if is_whole else (), lack="" if is_whole else "no_picture")


def _shard_of_table(path: str, pictures: Sequence[str]) -> str:
    """The shard that a table belongs to: its own, that of the tar beside it, or that of the folder beside it."""
    schema = parquet.inspect(path).schema
    stem = path.removesuffix(".parquet")
    if picture_column(schema, pictures) is not None:
        return path
    if _exists(f"{stem}.tar"):
        return f"{stem}.tar"
    if _is_folder(stem):
        return path
    raise UserError(
        f"{path}: no picture belongs to it: no column of bytes is called {', '.join(pictures)}, and neither {base_name(stem)}.tar "
        f"nor a folder {base_name(stem)} stands beside it. If it is metadata to fetch by, use emu build; a column of another "
        f"name is named by --set 'source.pictures=[NAME]'"
    )


def _table_beside(stem: str) -> ParquetFile | None:
    path = f"{stem}.parquet"
    if not _exists(path):
        return None
    try:
        table = parquet.inspect(path)
    except UserError as error:
        raise UserError(
            f"{error}. If img2dataset was stopped before this shard was finished, move the shard away, "
            f"or the table alone to import the pictures without it"
        ) from None
    return _with_keys(table)


def _with_keys(table: ParquetFile) -> ParquetFile:
    if _KEY not in table.schema.names:
        raise UserError(
            f"{table.path} has no column {_KEY!r}, so nobody can tell which of its rows belongs to which picture; "
            f"move it away to import the pictures without it"
        )
    return table


def _rows_counted(table: ParquetFile) -> int:
    """Rows of the table, or more of them if img2dataset counted more: what it could not write, it lost."""
    path = table.path.removesuffix(".parquet") + "_stats.json"
    try:
        with open_binary(path) as file:
            counted = json.loads(file.read(_MAX_STATS_BYTES)).get("count")
    except FileNotFoundError:
        return table.rows
    except (ValueError, AttributeError, RecursionError):
        raise UserError(f"{path} is not what img2dataset writes; remove it, or fetch the shard again") from None
    is_count = isinstance(counted, int) and 0 <= counted - table.rows <= 10_000_000
    return counted if is_count else table.rows


def _facts(table: ParquetFile) -> Iterator[Any]:
    return table.rows_of(0, table.rows, columns=tuple(table.schema.names))


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows that make a batch of a bearable size, by the size of its row groups."""
    total: int = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    num_rows: int = metadata.num_rows
    return max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES * num_rows // max(1, total)))


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | None]:
    """Rows of a batch; None for one whose text is no UTF-8, which parquet does not check."""
    try:
        rows: list[dict[str, Any] | None] = batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        return [row for i in range(batch.num_rows) for row in _values(batch.slice(i, 1))]
    return rows


def _is_bytes(type: pa.DataType) -> bool:
    types = pa.types
    if types.is_list(type) or types.is_large_list(type):
        return _is_bytes(type.value_type)
    if types.is_struct(type):
        place = type.get_field_index("bytes")
        return place >= 0 and _is_bytes(type.field(place).type)
    return bool(types.is_binary(type) or types.is_large_binary(type))


def _is_picture_folder(path: str) -> bool:
    """Whether pictures lie in it, and no shard that `find_files` would see."""
    if not _is_folder(_absolute(path)):
        return False
    names = [name for name, _ in listing(_absolute(path))]
    return not any(n.endswith(_ENDINGS) for n in names) and any(
        n.lower().rpartition(".")[2] in PICTURE_ENDINGS for n in names
    )


def _absolute(path: str) -> str:
    return path.rstrip("/") if is_remote(path) else str(Path(path).expanduser().absolute())


def _is_folder(path: str) -> bool:
    if not is_remote(path):
        return Path(path).is_dir()
    system, name = fsspec.core.url_to_fs(path)
    return bool(system.isdir(name))


def _exists(path: str) -> bool:
    try:
        stat(path)
    except FileNotFoundError:
        return False
    return True


def _joined(fingerprint: str, table: ParquetFile | None) -> str:
    """The fingerprint of two things that belong together."""
    if table is None:
        return fingerprint
    (size, tag, content), (more, other_tag, other) = fingerprint.split("-"), table.fingerprint.split("-")
    tags, contents = (xxhash.xxh3_64_hexdigest(f"{a} {b}".encode()) for a, b in ((tag, other_tag), (content, other)))
    return f"{int(size) + int(more)}-{tags}-{contents}"


@lru_cache(maxsize=1 << 16)
def _ends_hash(path: str, size: int, tag: str) -> str:
    """Of the first and the last bytes; `tag` tells an overwritten file of one size from the old one."""
    with open_binary(path) as file:
        hashed = xxhash.xxh3_64(file.read(_HASHED_BYTES))
        file.seek(max(0, size - _HASHED_BYTES))
        hashed.update(file.read(_HASHED_BYTES))
        return hashed.hexdigest()


def _folder_print(folder: str) -> str:
    """Of a folder: bytes in all, its own modification time where it has one, and a hash of names and sizes."""
    files = sorted((base_name(name), size) for name, size in listing(folder))
    tag = "0" if is_remote(folder) else str(Path(folder).stat().st_mtime_ns)
    return f"{sum(size for _, size in files)}-{tag}-{xxhash.xxh3_64_hexdigest(repr(files).encode())}"
