"""Files that no record names, and `validate --fix`, which deletes those that no record can ever name.

A unit that has a record keeps it for ever, so its other files are of attempts that lost, and may go at once. A unit
without one may be in the making: its files go only when asked for, when old by the storage's own clock, and when no launcher lives.
Should an attempt commit at that very moment, it puts its files back (`ShardWriter.commit`). Only names that this format gives are
ever deleted. Not here: what a file must hold (`check_unit`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from schemas.claims import LAUNCHERS, LIVE_SECONDS, live_launchers, storage_clock
from schemas.corpus import Corpus, check_column, read_segment, record_name, segment_of
from schemas.errors import CorpusError, UserError
from schemas.record import Record
from schemas.storage import SCRATCH, Entry, Storage

ABANDONED_SECONDS = 86_400.0

_NOT_DATA = frozenset({"plan", "records", "rejects", "run", "views"})
_DATA_FILE = re.compile(r"([0-9]{8})-[0-9]{2,}-[0-9a-f]{8}\.(tar|arrow)")
_REJECTS_FILE = re.compile(r"([0-9]{8})-[0-9a-f]{8}\.parquet")


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A file of data or rejects that no record names. committed: its unit has a record, which names others."""

    entry: Entry
    column: str
    unit: int
    committed: bool


def unnamed_files(corpus: Corpus, *, column: str | None = None) -> Iterator[Unnamed]:
    """Every file that no record names, by folder and unit; none of a unit whose record cannot be read, for it may name any."""
    for folder, of_column in _data_folders(corpus.storage):
        if column in (None, of_column):
            yield from _unnamed_in(corpus, folder, of_column)


def sweep(corpus: Corpus, *, abandoned_after_seconds: float | None = None) -> list[str]:
    """Delete what no record names and none can name any more; return the names of the files deleted.

    abandoned_after_seconds: also files of units without a record, and what crashes left in `run/`, if older. Without it, `run/`
    is swept after a day and other files of uncommitted units are kept. Raises `UserError` if it is given while a launcher lives.
    """
    storage = corpus.storage
    if abandoned_after_seconds is not None:
        _stop_if_any_lives(corpus)
    now = storage_clock(storage)
    deleted = []
    for file in unnamed_files(corpus):
        old = abandoned_after_seconds is not None and _age(file.entry, now) > abandoned_after_seconds
        # Asked again: a commit may have come since the listing.
        if (file.committed or old) and not _is_protected(corpus, file):
            deleted.append(_delete(storage, file.entry.name))
    limit = ABANDONED_SECONDS if abandoned_after_seconds is None else abandoned_after_seconds
    return deleted + _sweep_run(storage, now=now, limit=limit)


def find_record(corpus: Corpus, column: str, unit: int) -> Record | None:
    """The unit's record from its file, else from the segment it was copied into: a lost record still protects its files."""
    record = corpus.record(column, unit)
    if record is not None:
        return record
    name = segment_of(column, unit)
    try:
        data = corpus.storage.read(name)
    except FileNotFoundError:
        return None
    copies = dict(read_segment(data, name=name))
    return Record.from_json(copies[unit], name=record_name(column, unit)) if unit in copies else None


def _stop_if_any_lives(corpus: Corpus) -> None:
    live = live_launchers(corpus.storage)
    if live:
        raise UserError(
            f"{corpus.url}: launcher {', '.join(live)} is at work, so files of uncommitted units may be its own; "
            f"stop it, wait {LIVE_SECONDS:.0f} s, and try again, or leave out --abandoned-after"
        )


def _data_folders(storage: Storage) -> Iterator[tuple[str, str]]:
    """Folder and column, for data and for rejects."""
    for root in ("", "rejects"):
        for folder in storage.folders(root):
            kind = folder.removeprefix("rejects/")
            if folder in _NOT_DATA or not _is_column(kind):
                continue
            yield folder, kind
            for inner in storage.folders(folder):
                if _is_column(inner.removeprefix("rejects/")):
                    yield inner, inner.removeprefix("rejects/")


def _is_column(name: str) -> bool:
    try:
        check_column(name)
    except UserError:
        return False
    return True


def _unnamed_in(corpus: Corpus, folder: str, column: str) -> Iterator[Unnamed]:
    pattern = _REJECTS_FILE if folder.startswith("rejects/") else _DATA_FILE
    files = (
        (int(match[1]), entry)
        for entry in corpus.storage.list(folder)
        if (match := pattern.fullmatch(entry.name.rsplit("/", 1)[-1]))
    )
    for unit, group in groupby(files, key=lambda file: file[0]):
        try:
            record = find_record(corpus, column, unit)
        except (CorpusError, OSError):
            continue  # `validate` reports the record; until it is restored, any of these may be named by it
        named = {file.name for file in record.content.files} if record else set()
        for _, entry in group:
            if entry.name not in named:
                yield Unnamed(entry, column, unit, committed=record is not None)


def _is_protected(corpus: Corpus, file: Unnamed) -> bool:
    try:
        record = find_record(corpus, file.column, file.unit)
    except (CorpusError, OSError):
        return True
    return record is not None and file.entry.name in {named.name for named in record.content.files}


def _sweep_run(storage: Storage, *, now: float, limit: float) -> list[str]:
    """Scratch that crashes left, and the files of launchers that died."""
    deleted = [_delete(storage, e.name) for e in storage.list(SCRATCH) if _age(e, now) > limit]
    for folder in storage.folders(SCRATCH):
        entries = list(_below(storage, folder))
        # By its youngest file: an attempt at a large unit may have begun long ago.
        if entries and all(_age(entry, now) > limit for entry in entries):
            deleted += [_delete(storage, entry.name) for entry in entries]
            storage.remove_empty_folder(folder)
    for entry in storage.list(LAUNCHERS):
        if _age(entry, now) > max(limit, LIVE_SECONDS):
            deleted.append(_delete(storage, entry.name))
    return deleted


def _below(storage: Storage, folder: str) -> Iterator[Entry]:
    yield from storage.list(folder)
    for inner in storage.folders(folder):
        yield from _below(storage, inner)


def _age(entry: Entry, now: float) -> float:
    return now - entry.modified_unix_seconds


def _delete(storage: Storage, name: str) -> str:
    try:
        storage.delete(name)
    except OSError as error:
        raise UserError(f"{storage.url}/{name}: cannot be deleted ({error.strerror}); ask its owner to sweep") from None
    return name
