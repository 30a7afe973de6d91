"""Folders that img2dataset or anyone with WebDataset tars left: three layouts, and the ledger that stands beside them.

    webdataset   00000.tar with KEY.jpg, KEY.txt, KEY.json       beside each: 00000.parquet, all rows with their status,
    files        00000/KEY.jpg, KEY.txt, KEY.json                and 00000_stats.json, how many rows ended how
    parquet      00000.parquet, with a column of pictures

Shards are visited in an order drawn from their names, so that the first few are a fair sample of the folder; of each the first
samples are read. Not here: one tar (`tars`), what members mean (`foreign`), making a corpus of it (`emu import`).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.look.foreign import is_picture, sample_of
from jobs.look.notes import Notes
from jobs.look.tally import TopCounts
from jobs.look.tars import open_tar
from schemas.errors import CorpusError, UserError
from schemas.sample import Sample
from schemas.shard_reader import StoredSample

SUCCESS = "success"
_BATCH_ROWS = 128
_LEDGER_COLUMNS = ("key", "url", "status", "error_message")


class Layout(StrEnum):
    """How samples lie in the folder."""

    WEBDATASET = "webdataset"
    FILES = "files"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class FolderShard:
    """One shard of a folder: where its samples are, and its ledger. Absent is what does not exist."""

    name: str
    data: Path
    ledger: Path | None
    stats: Path | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a ledger: `status` is `success` or how it failed, `message` what img2dataset noted then."""

    key: str
    url: str | None
    status: str
    message: str


@dataclass(slots=True)
class FolderTotals:
    """Sums over the stats of all shards. reasons: messages of failed rows. unfinished: shards without stats."""

    rows: int = 0
    samples: int = 0
    reasons: TopCounts = field(default_factory=lambda: TopCounts(1000))
    unfinished: int = 0


@dataclass(frozen=True, slots=True)
class Folder:
    """An opened folder; `shards` by name."""

    path: Path
    layout: Layout
    shards: tuple[FolderShard, ...]

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Find out what lies there. Raises `UserError` if nothing does that we can show."""
        try:
            names = {entry.name: entry for entry in path.iterdir()}
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        layout, found = _shards(names)
        if not found:
            advice = "; tfrecord output cannot be read" if any(n.endswith(".tfrecord") for n in names) else ""
            raise UserError(
                f"{path} is not a corpus (no corpus.json), and no folder of tars or img2dataset output: "
                f"expected *.tar, or NAME.parquet with a column of pictures, or NAME.parquet beside NAME/{advice}. "
                f"What a build would make of metadata, emu plan tells"
            )
        return cls(path, layout, tuple(_with_ledgers(path, names, found, layout)))

    def in_drawn_order(self) -> list[FolderShard]:
        """The shards by a hash of their names: any number of the first ones is a fair sample, the same every time."""
        return sorted(self.shards, key=lambda shard: hashlib.sha256(shard.name.encode()).digest())

    def totals(self, notes: Notes) -> FolderTotals:
        """Both sides of the ledger, from the stats of every shard."""
        totals = FolderTotals()
        for shard in self.shards:
            if shard.stats is None:
                totals.unfinished += 1
                continue
            try:
                stats = json.loads(shard.stats.read_bytes())
                totals.rows += int(stats["count"])
                totals.samples += int(stats["successes"])
                for message, number in dict(stats.get("status_dict", {})).items():
                    if message != SUCCESS:
                        totals.reasons.add(str(message)[:200], lost=int(number))
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                notes.add(
                    shard.stats.name, f"no stats of img2dataset ({type(error).__name__}); its rows are not counted"
                )
        return totals

    def samples(self, shard: FolderShard, notes: Notes, *, most: int | None) -> Iterator[tuple[Sample, dict[str, int]]]:
        """The first samples of a shard, with the sizes of their members in bytes."""
        for stored, sizes in islice(self._stored(shard, notes, with_media=False), most):
            yield stored.sample, sizes

    def find(self, key: str, notes: Notes) -> tuple[FolderShard, StoredSample] | None:
        """The first sample of a key; shards whose name the key begins with are asked first."""
        for shard in self._by_likelihood(key):
            for stored, _ in self._stored(shard, notes, with_media=True, key=key):
                return shard, stored
        return None

    def find_row(self, key: str, notes: Notes) -> tuple[FolderShard, Row] | None:
        """The first row of a key in the ledgers."""
        for shard in self._by_likelihood(key):
            for row in ledger_rows(shard, notes):
                if row.key == key:
                    return shard, row
        return None

    def _by_likelihood(self, key: str) -> list[FolderShard]:
        return sorted(self.shards, key=lambda shard: (not key.startswith(shard.name), shard.name))

    def _stored(
        self, shard: FolderShard, notes: Notes, *, with_media: bool, key: str | None = None
    ) -> Iterator[tuple[StoredSample, dict[str, int]]]:
        """Every sample of a shard, or those of one key; media only where asked for. What cannot be read is noted."""
        read = {Layout.WEBDATASET: _from_tar, Layout.FILES: _from_files, Layout.PARQUET: _from_parquet}[self.layout]
        try:
            yield from read(shard, notes, with_media, key)
        except (CorpusError, OSError, pa.ArrowException, ValueError) as error:
            notes.add(
                shard.data.name, f"cannot be read ({str(error).removeprefix(f'{shard.data}: ')}); it is passed over"
            )


def ledger_rows(shard: FolderShard, notes: Notes) -> Iterator[Row]:
    """Every row of a shard's ledger, a batch at a time; none where it has none."""
    if shard.ledger is None:
        return
    try:
        file = pq.ParquetFile(shard.ledger)
        columns = [name for name in _LEDGER_COLUMNS if name in file.schema_arrow.names]
        if "status" not in columns:
            return
        for batch in file.iter_batches(batch_size=10_000, columns=columns):
            for plain in batch.to_pylist():
                key, url = str(plain.get("key") or ""), plain.get("url")
                message = str(plain.get("error_message") or "")
                yield Row(key, None if url is None else str(url), str(plain["status"] or ""), message)
    except (OSError, pa.ArrowException, ValueError) as error:
        notes.add(shard.ledger.name, f"not a readable parquet file ({error}); its rows are passed over")


def ledger_schema(folder: Folder) -> dict[str, str]:
    """Column and type of the ledger of the first shard that has one that can be read."""
    for shard in folder.shards:
        if shard.ledger is not None:
            try:
                schema = pq.read_schema(shard.ledger)
            except (OSError, pa.ArrowException, ValueError):
                continue
            return {column.name: str(column.type) for column in schema}
    return {}


def _shards(names: dict[str, Path]) -> tuple[Layout, list[str]]:
    """The layout, and the names of what holds samples."""
    tars = sorted(name for name in names if name.endswith(".tar"))
    if tars:
        return Layout.WEBDATASET, tars
    tables = sorted(name for name in names if name.endswith(".parquet"))
    folders = [stem for stem in (name.removesuffix(".parquet") for name in tables) if stem in names]
    if folders:
        return Layout.FILES, folders
    return Layout.PARQUET, [name for name in tables if _picture_column(names[name]) is not None]


def _with_ledgers(path: Path, names: dict[str, Path], found: list[str], layout: Layout) -> Iterator[FolderShard]:
    for data in found:
        name = data if layout is Layout.FILES else data.rpartition(".")[0]
        ledger, stats = f"{name}.parquet", f"{name}_stats.json"
        yield FolderShard(
            name, path / data, path / ledger if ledger in names else None, path / stats if stats in names else None
        )


def _picture_column(path: Path) -> str | None:
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException, ValueError):
        return None
    binary = (column for column in schema if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type))
    return next((column.name for column in binary if is_picture(column.name)), None)


_Stored = Iterator[tuple[StoredSample, dict[str, int]]]


def _from_tar(shard: FolderShard, notes: Notes, with_media: bool, key: str | None) -> _Stored:
    with open_tar(shard.data, notes) as tar:
        for group in tar.groups():
            if key is None or group.key == key:
                yield (tar.stored(group) if with_media else StoredSample(tar.sample(group), {})), group.sizes


def _from_files(shard: FolderShard, notes: Notes, with_media: bool, key: str | None) -> _Stored:
    grouped: dict[str, dict[str, Path]] = {}
    for path in sorted(shard.data.iterdir()):
        stem, _, ending = path.name.partition(".")
        if ending and path.is_file() and (key is None or stem == key):
            grouped.setdefault(stem, {})[ending.lower()] = path
    for row, (stem, files) in enumerate(grouped.items()):
        sizes = {ending: path.stat().st_size for ending, path in files.items()}
        sample = sample_of(stem, sizes, partial(_read_of, files), file=shard.name, row=row, notes=notes)
        media = {name: path.read_bytes() for name, path in files.items()} if with_media else {}
        yield StoredSample(sample, media), sizes


def _read_of(files: Mapping[str, Path], name: str) -> bytes:
    return files[name].read_bytes()


def _from_parquet(shard: FolderShard, notes: Notes, with_media: bool, key: str | None) -> _Stored:
    column = _picture_column(shard.data)
    if column is None:
        raise CorpusError(f"{shard.data}: no column of pictures can be read from it")
    row = -1
    for batch in pq.ParquetFile(shard.data).iter_batches(batch_size=_BATCH_ROWS):
        for plain in batch.to_pylist():
            row += 1
            data = plain.pop(column)
            name = str(plain.get("key") or row)
            if data is None or (key is not None and name != key):
                continue
            text = plain.pop("txt", None)
            media = {column: data} | ({"txt": str(text).encode()} if text else {})
            sizes = {member: len(content) for member, content in media.items()}
            values: dict[str, Any] = {field: value for field, value in plain.items() if not isinstance(value, bytes)}
            sample = sample_of(
                name, sizes, media.__getitem__, file=shard.data.name, row=row, notes=notes, values=values
            )
            yield StoredSample(sample, media if with_media else {}), sizes
