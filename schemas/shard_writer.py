"""Write one unit as one shard of a column, so that it exists whole or not at all.

`commit()` is the protocol. Files carry their content hash in their names, so two attempts never overwrite each other; the record,
created only if absent, says which attempt counts. A crash before it leaves orphans that no reader looks at and `validate --fix`
sweeps. Not here: which units are missing (plan), why rows fell (ledger), when to try again (runner).
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from schemas.corpus import Corpus, part_stem, rejects_name
from schemas.errors import AccountingError, CorpusError, DuplicateKeyError, VerifyError
from schemas.index import Index, IndexRow, index_bytes
from schemas.record import Content, Counts, Part, PublishedFile, Record, RunInfo, json_type, merge_types
from schemas.rejects import Level, Reject, count_reasons, write_rejects
from schemas.sample import Sample
from schemas.tar import END_OF_TAR, pack_sample, verify_sample

MAX_PART_BYTES = 2 << 30
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Spooled:
    """A sample in the spool: where its tar blocks lie, and its index row counted from their start."""

    offset: int
    bytes: int
    row: IndexRow


@dataclass(frozen=True, slots=True)
class _Assembled:
    """A part on local disk, not yet published."""

    tar: Path
    index: Path
    tar_sha256: str
    index_sha256: str
    content_sha256: str
    samples: int
    images: int


class ShardWriter:
    """Spools samples as they finish, in any order. Leaving the `with` block without `commit()` publishes nothing."""

    def __init__(
        self, corpus: Corpus, *, column: str, unit: int, recipe_hash: str, max_part_bytes: int = MAX_PART_BYTES
    ) -> None:
        self._corpus = corpus
        self._column = column
        self._unit = unit
        self._recipe_hash = recipe_hash
        self._max_part_bytes = max_part_bytes
        self._spooled: dict[str, _Spooled] = {}
        self._spool_bytes = 0
        self._max_members = 0
        self._extensions: set[str] = set()
        self._attributes: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._folder = self._stack.enter_context(self._corpus.storage.scratch())
        self._spool: BinaryIO = self._stack.enter_context((self._folder / "spool").open("w+b"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write(self, sample: Sample, media: Sequence[bytes], *, row: int) -> None:
        """Spool one sample: row `row` of the unit, with the bytes of its media members in the order of `sample.members`.

        Safe from several threads. Raises `DuplicateKeyError` if the unit already holds its key.
        """
        blocks, index_row = pack_sample(sample, media, row=row)
        kinds = {name: json_type(value) for name, value in sample.attributes.items()}
        with self._lock:
            if sample.key in self._spooled:
                raise DuplicateKeyError(f"unit {self._unit} of {self._column}: key {sample.key} was written before")
            size = sum(self._spool.write(block) for block in blocks)
            self._spooled[sample.key] = _Spooled(self._spool_bytes, size, index_row)
            self._spool_bytes += size
            self._max_members = max(self._max_members, len(sample.members))
            self._extensions.update(member.rpartition(".")[2] for member in sample.members)
            self._attributes = merge_types(self._attributes, kinds)

    def commit(self, rejects: Sequence[Reject], *, rows: int, images_asked: int, run: RunInfo) -> Record:
        """Make the shard part of the corpus; return the record that does so, ours or that of the attempt that was first.

        Raises `AccountingError` unless rows = samples + rejected rows and images likewise, `VerifyError` if what is read
        back is not what was written; both name unit, key, found and expected.
        """
        counts = self._account(rejects, rows=rows, images_asked=images_asked)
        parts = self._assemble()
        self._verify(parts)
        rejects_file = self._write_rejects(rejects)
        content, files = self._describe(parts, rejects_file, counts=counts, reasons=count_reasons(rejects))
        return self._create_record(Record(content=content, run=run), files)

    def _account(self, rejects: Sequence[Reject], *, rows: int, images_asked: int) -> Counts:
        """Both ledgers, and every row exactly once: a total can be right by two errors that cancel."""
        kept = [spooled.row.row for spooled in self._spooled.values()]
        dropped = [reject.row for reject in rejects if reject.level is Level.ROW]
        counts = Counts(
            rows=rows,
            samples=len(kept),
            rejected_rows=len(dropped),
            images_asked=images_asked,
            images=sum(len(spooled.row.images) for spooled in self._spooled.values()),
            rejected_images=len(rejects) - len(dropped),
            text_chars=sum(spooled.row.text_chars for spooled in self._spooled.values()),
        )
        imbalance = counts.imbalance()
        if imbalance is None and sorted(kept + dropped) != list(range(rows)):
            twice = sorted(row for row, times in Counter(kept + dropped).items() if times > 1)
            imbalance = f"rows {twice[:5]} are accounted for twice" if twice else f"rows lie outside 0…{rows - 1}"
        if imbalance is not None:
            raise AccountingError(
                f"unit {self._unit} of {self._column}: {imbalance}; nothing was committed. This is a bug in a step or a source"
            )
        return counts

    def _assemble(self) -> list[_Assembled]:
        """Copy the spool into tars in row order, each with its index, none above the limit unless one sample alone is."""
        self._spool.flush()
        parts: list[_Assembled] = []
        for group in self._groups():
            parts.append(self._assemble_part(group, number=len(parts)))
        return parts

    def _groups(self) -> Iterator[list[_Spooled]]:
        group: list[_Spooled] = []
        size = len(END_OF_TAR)
        for spooled in sorted(self._spooled.values(), key=lambda item: item.row.row):
            if group and size + spooled.bytes > self._max_part_bytes:
                yield group
                group, size = [], len(END_OF_TAR)
            group.append(spooled)
            size += spooled.bytes
        if group:
            yield group

    def _assemble_part(self, group: list[_Spooled], *, number: int) -> _Assembled:
        tar, index = self._folder / f"{number:02d}.tar", self._folder / f"{number:02d}.arrow"
        digest = hashlib.sha256()
        rows: list[IndexRow] = []
        offset = 0
        with tar.open("wb") as out:
            for spooled in group:
                rows.append(spooled.row.moved(offset))
                for chunk in _chunks(self._spool, spooled):
                    out.write(chunk)
                    digest.update(chunk)
                offset += spooled.bytes
            out.write(END_OF_TAR)
            digest.update(END_OF_TAR)
        data = index_bytes(rows, column=self._column, unit=self._unit, part=number)
        index.write_bytes(data)
        whole = digest.copy()
        whole.update(data)
        return _Assembled(
            tar=tar,
            index=index,
            tar_sha256=digest.hexdigest(),
            index_sha256=hashlib.sha256(data).hexdigest(),
            content_sha256=whole.hexdigest(),
            samples=len(rows),
            images=sum(len(row.images) for row in rows),
        )

    def _verify(self, parts: list[_Assembled]) -> None:
        """Reopen what was written: every offset of the index must find its member, whole."""
        for part in parts:
            rows = Index.parse(part.index.read_bytes(), name=part.index.name).rows()
            with part.tar.open("rb") as tar:
                for row in rows:
                    problem = verify_sample(tar, row)
                    if problem is not None:
                        raise VerifyError(
                            f"unit {self._unit} of {self._column}, key {row.key}: {problem}; nothing was committed. "
                            f"Check the disk under {self._folder}"
                        )
                tar.seek(0)
                found = hashlib.file_digest(tar, "sha256").hexdigest()
            if found != part.tar_sha256:
                # A changed letter of a text leaves headers, JSON and pictures as they must be.
                raise VerifyError(
                    f"unit {self._unit} of {self._column}, {part.tar.name}: the file has sha256 {found}, "
                    f"{part.tar_sha256} was written; nothing was committed. Check the disk under {self._folder}"
                )

    def _write_rejects(self, rejects: Sequence[Reject]) -> Path | None:
        if not rejects:
            return None
        path = self._folder / "rejects.parquet"
        write_rejects(path, rejects)
        return path

    def _describe(
        self, parts: list[_Assembled], rejects: Path | None, *, counts: Counts, reasons: dict[str, dict[str, int]]
    ) -> tuple[Content, dict[str, Path]]:
        """What the record will say, and which local file goes under which name."""
        files: dict[str, Path] = {}

        def vouch(name: str, path: Path, sha256: str) -> PublishedFile:
            files[name] = path
            return PublishedFile(name, path.stat().st_size, sha256)

        named: list[Part] = []
        for number, part in enumerate(parts):
            stem = part_stem(self._column, self._unit, number, part.content_sha256)
            data = vouch(f"{stem}.tar", part.tar, part.tar_sha256)
            index = vouch(f"{stem}.arrow", part.index, part.index_sha256)
            named.append(Part(data, index, samples=part.samples, images=part.images))
        rejected: PublishedFile | None = None
        if rejects is not None:
            sha256 = hashlib.sha256(rejects.read_bytes()).hexdigest()
            rejected = vouch(rejects_name(self._column, self._unit, sha256), rejects, sha256)
        content = Content(
            column=self._column,
            unit=self._unit,
            recipe_hash=self._recipe_hash,
            counts=counts,
            parts=tuple(named),
            rejects=rejected,
            reasons=reasons,
            max_members=self._max_members,
            extensions=tuple(sorted(self._extensions)),
            attributes=self._attributes,
        )
        return content, files

    def _create_record(self, record: Record, files: dict[str, Path]) -> Record:
        """Publish, then commit, from a draft that a sweep would have taken before any of the files."""
        storage = self._corpus.storage
        draft = self._folder / "record.json"
        draft.write_bytes(record.to_json())
        try:
            for name, path in files.items():
                storage.publish(path, name)
            record = self._corpus.create_record(record, draft=draft)
        except FileNotFoundError as error:
            raise CorpusError(
                f"unit {self._unit} of {self._column}: {error.filename} is gone, swept as abandoned while this attempt "
                f"slept; nothing was committed. Build the unit again"
            ) from error
        # Files of an older attempt, equal to ours, may have been swept when we had only just found them: put them back.
        for name in {file.name for file in record.content.files} & files.keys():
            if storage.size(name) is None:
                storage.publish(files[name], name)
        return record


def _chunks(spool: BinaryIO, spooled: _Spooled) -> Iterator[bytes]:
    spool.seek(spooled.offset)
    left = spooled.bytes
    while left:
        chunk = spool.read(min(left, _COPY_BYTES))
        if not chunk:
            raise VerifyError(f"key {spooled.row.key}: the spool ends {left} bytes early; nothing was committed")
        left -= len(chunk)
        yield chunk
