"""Check one committed unit of one column: every file its record names, every byte of its tars, every number it gives.

The record is the claim; tars, indexes and rejects are the witnesses, and everything is counted again from them. Numbers are
compared only if all witnesses could be heard, so that a damaged file gives its own finding and not ten that follow from it.
Memory holds one index, one block of a tar and the row numbers of the unit. Not here: what lies between units (`validate`).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.corpus import SAMPLES, part_stem, record_name, rejects_name
from schemas.errors import DamagedSampleError
from schemas.index import Index, IndexRow
from schemas.plan import Unit
from schemas.problem import Checks, Problem, Severity, capped, guarded
from schemas.range_file import RangeFile
from schemas.reasons import Reason, Refusal
from schemas.record import Content, Part, PublishedFile, json_type, merge_types
from schemas.rejects import Level, read_rejects
from schemas.sample import make_key, split_key
from schemas.storage import Storage
from schemas.tar import BLOCK, END_OF_TAR, extent, parse_sample


@dataclass(slots=True)
class Tally:
    """What the witnesses of a unit say. whole: all of them could be read. keys: of a retry's samples, in order.

    documents: how many samples were parsed; none in a quick check.
    """

    rows: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    images: int = 0
    text_chars: int = 0
    max_members: int = 0
    extensions: set[str] = field(default_factory=set)
    documents: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    rejected_rows: list[int] = field(default_factory=list)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    whole: bool = True

    def add(self, row: IndexRow) -> None:
        """Count one sample by its index row."""
        self.rows.append(row.row)
        self.images += sum(image.valid for image in row.images)
        self.text_chars += row.text_chars
        self.max_members = max(self.max_members, len(row.members))
        self.extensions.update(member.name.rpartition(".")[2] for member in row.members)


class UnitCheck:
    """The checks of one record. `unit` is None where the plan cannot be read; `quick` reads no tar and hashes nothing."""

    def __init__(self, storage: Storage, content: Content, unit: Unit | None, *, quick: bool) -> None:
        self._storage = storage
        self._content = content
        self._unit = unit
        self._quick = quick
        self._tally = Tally()
        self._restore = (
            f"Restore the file from a copy; or delete it and {record_name(content.column, content.unit)}, "
            f"and `emu build` makes the unit again"
        )

    def run(self) -> Checks[Tally]:
        """Every problem of the unit; returns what was counted."""
        for number, part in enumerate(self._content.parts):
            yield from self._part(number, part)
        if self._content.rejects is not None:
            heard = yield from self._guarded(self._rejects(self._content.rejects), self._content.rejects.name)
            self._tally.whole = self._tally.whole and bool(heard)
        yield from self._balance()
        if self._tally.whole:
            yield from self._counts()
            yield from self._each_row_once()
        return self._tally

    # Parts

    def _part(self, number: int, part: Part) -> Checks[None]:
        if part.index is None:
            self._tally.whole = False  # an Arrow file of another column: its numbers are that column's affair
            yield from self._guarded(self._arrow(number, part.data), part.data.name)
            return
        yield from self._part_names(number, part.data, part.index)
        index = yield from self._guarded(self._index(number, part, part.index), part.index.name)
        heard = yield from self._guarded(self._tar(part, index), part.data.name)
        self._tally.whole = self._tally.whole and bool(heard)

    def _part_names(self, number: int, data: PublishedFile, index: PublishedFile) -> Iterator[Problem]:
        stem, start = data.name.removesuffix(".tar"), self._stem(number)
        if not re.fullmatch(re.escape(start) + "[0-9a-f]{8}", stem) or index.name != f"{stem}.arrow":
            found = (
                f"the record names {data.name} and {index.name} as part {number}, expected {start}HASH.tar and .arrow"
            )
            yield self._problem(found, file=data.name)

    def _arrow(self, number: int, data: PublishedFile) -> Checks[None]:
        expected = f"{self._stem(number)}{data.sha256[:8]}.arrow"
        if data.name != expected:
            yield self._problem(f"the record names it as part {number}, expected {expected}", file=data.name)
        there = yield from self._size(data)
        if there and not self._quick:
            yield from self._sha256(data, RangeFile(self._storage, data.name).sha256().hexdigest())

    def _index(self, number: int, part: Part, file: PublishedFile) -> Checks[tuple[Index, bytes] | None]:
        there = yield from self._size(file)
        if not there:
            return None
        data = self._storage.read(file.name)
        if not self._quick:
            yield from self._sha256(file, hashlib.sha256(data).hexdigest())
        index = Index.parse(data, name=file.name)
        expected = {"column": self._content.column, "unit": str(self._content.unit), "part": str(number)}
        if index.identity != expected:
            yield self._problem(f"its metadata says {index.identity}, expected {expected}", file=file.name)
        if len(index) != part.samples:
            yield self._problem(f"it lists {len(index)} samples, the record says {part.samples}", file=file.name)
        return index, data

    def _tar(self, part: Part, index: tuple[Index, bytes] | None) -> Checks[bool]:
        """True if the part's samples could be counted, which takes only the index."""
        there = yield from self._size(part.data)
        tar = RangeFile(self._storage, part.data.name) if there and not self._quick else None
        if index is not None:
            file = part.index.name if part.index else part.data.name
            yield from capped(self._samples(part, index[0], tar, file), file=part.data.name, unit=self._content.unit)
        if tar is not None:
            digest = tar.sha256()
            yield from self._sha256(part.data, digest.hexdigest())
            if index is not None and digest.hexdigest() == part.data.sha256:
                digest.update(index[1])
                yield from self._name_hash(part.data, digest.hexdigest())
        return index is not None

    def _name_hash(self, data: PublishedFile, content_sha256: str) -> Iterator[Problem]:
        if not data.name.endswith(f"-{content_sha256[:8]}.tar"):
            message = f"its name must end in the hash of tar and index, {content_sha256[:8]}"
            yield self._problem(message, file=data.name)

    # Samples of a part

    def _samples(self, part: Part, index: Index, tar: RangeFile | None, index_file: str) -> Iterator[Problem]:
        position, images = 0, 0
        for row in index.rows():
            yield from self._order(row, index_file)
            self._tally.add(row)
            if self._unit is not None and self._unit.keys is not None:
                self._tally.keys.append(row.key)
            images += sum(image.valid for image in row.images)
            finding = _disorder(row, part.data.bytes)
            if finding is not None:
                yield self._problem(finding, file=index_file, key=row.key)
                continue
            start, length = extent(row)
            if start != position:
                kind = "gap" if start > position else "overlap"
                message = f"the index puts this sample at byte {start}: {kind} of {abs(start - position)} bytes"
                yield self._problem(message, file=part.data.name, key=row.key, byte=position)
            position = start + length
            if tar is not None:
                yield from self._sample(part, row, tar)
        yield from self._end(part, tar, position)
        if images != part.images:
            yield self._problem(f"it holds {images} images, the record says {part.images}", file=part.data.name)

    def _order(self, row: IndexRow, file: str) -> Iterator[Problem]:
        if self._tally.rows and row.row <= self._tally.rows[-1]:
            message = f"row {row.row} comes after row {self._tally.rows[-1]}: samples lie in row order, each once"
            yield self._problem(message, file=file, key=row.key)
        yield from self._belongs(row.key, row.row, file)

    def _belongs(self, key: str, row: int, file: str) -> Iterator[Problem]:
        """A key names unit and row of origin; those of a retry are listed in the plan."""
        if self._unit is None:
            split_key(key)
            return
        keys = self._unit.keys
        expected: str | None = make_key(self._content.unit, row)
        if keys is not None:
            expected = keys[row] if 0 <= row < len(keys) else None
        if key != expected:
            yield self._problem(f"row {row} of the unit is planned as key {expected}", file=file, key=key)

    def _sample(self, part: Part, row: IndexRow, tar: RangeFile) -> Iterator[Problem]:
        try:
            sample = parse_sample(tar.read_at(*extent(row)), row, own_media=self._content.column == SAMPLES)
        except DamagedSampleError as error:
            yield self._problem(error.finding, file=part.data.name, key=row.key, byte=error.byte)
            return
        self._tally.documents += 1
        kinds = {name: json_type(value) for name, value in sample.attributes.items()}
        self._tally.attributes = merge_types(self._tally.attributes, kinds)

    def _end(self, part: Part, tar: RangeFile | None, position: int) -> Iterator[Problem]:
        if position + len(END_OF_TAR) != part.data.bytes:
            message = (
                f"the last sample ends at byte {position} of {part.data.bytes}, expected {len(END_OF_TAR)} bytes more"
            )
            yield self._problem(message, file=part.data.name, byte=position)
        elif tar is not None and tar.read_at(position, len(END_OF_TAR)) != END_OF_TAR:
            message = f"no end of tar here: {len(END_OF_TAR)} zero bytes are due"
            yield self._problem(message, file=part.data.name, byte=position)

    # Rejects

    def _rejects(self, file: PublishedFile) -> Checks[bool]:
        expected = rejects_name(self._content.column, self._content.unit, file.sha256)
        if file.name != expected:
            yield self._problem(f"the record names it as rejects, expected {expected}", file=file.name)
        there = yield from self._size(file)
        if not there:
            return False
        data = self._storage.read(file.name)
        if not self._quick:
            yield from self._sha256(file, hashlib.sha256(data).hexdigest())
        table = read_rejects(data, name=file.name)
        rows = (row for batch in table.to_batches(max_chunksize=1000) for row in batch.to_pylist())
        yield from capped(self._reject_rows(rows, file.name), file=file.name, unit=self._content.unit)
        return True

    def _reject_rows(self, rows: Iterator[dict[str, Any]], file: str) -> Iterator[Problem]:
        last: tuple[int, bool, int] | None = None
        for found in rows:
            key, is_image, image = found["key"], found["level"] == Level.IMAGE, found["image"]
            here = (found["row"], is_image, -1 if image is None else image)
            if last is not None and here <= last:
                message = f"row {here[0]}, image {image} comes after row {last[0]}: rejects lie in order, each once"
                yield self._problem(message, file=file, key=key)
            last = here
            yield from self._belongs(key, found["row"], file)
            if found["level"] not in list(Level) or (image is not None) != is_image:
                message = (
                    f"level {found['level']!r} with image {image}: expected `row` with none or `image` with its ordinal"
                )
                yield self._problem(message, file=file, key=key)
            odd = _odd_reason(found["reason"], found["detail"])
            if odd is not None:
                yield self._problem(odd, file=file, key=key)
            self._tally.reasons.setdefault(found["level"], Counter())[found["reason"]] += 1
            if not is_image:
                self._tally.rejected_rows.append(found["row"])

    # The whole unit

    def _balance(self) -> Iterator[Problem]:
        content = self._content
        imbalance = content.counts.imbalance()
        if imbalance is not None:
            yield self._of_record(imbalance)
        in_parts = sum(part.samples for part in content.parts)
        if in_parts != content.counts.samples:
            yield self._of_record(f"{content.counts.samples} samples, its parts say {in_parts}")
        if content.column != SAMPLES or self._unit is None:
            return
        planned = self._unit.rows if self._unit.keys is None else len(self._unit.keys)
        if planned is not None and planned != content.counts.rows:
            yield self._of_record(f"{content.counts.rows} rows, the plan says {planned}")

    def _counts(self) -> Iterator[Problem]:
        tally, content = self._tally, self._content
        counted: dict[str, Any] = {
            "samples": len(tally.rows),
            "rejected_rows": len(tally.rejected_rows),
            "rejected_images": sum(tally.reasons.get(Level.IMAGE, Counter()).values()),
            "images": tally.images,
            "text_chars": tally.text_chars,
            "max_members": tally.max_members,
            "extensions": sorted(tally.extensions),
            "reasons": {level: dict(reasons) for level, reasons in tally.reasons.items()},
        }
        claimed = asdict(content.counts) | {"max_members": content.max_members, "extensions": list(content.extensions)}
        claimed |= {"reasons": content.reasons, "attributes": content.attributes}
        if content.column == SAMPLES and tally.documents == len(tally.rows) and not self._quick:
            counted["attributes"] = tally.attributes
        for name, found in counted.items():
            if found != claimed[name]:
                yield self._of_record(f"{name} is {claimed[name]}, but the files hold {found}")

    def _each_row_once(self) -> Iterator[Problem]:
        """Totals can be right by two errors that cancel."""
        if self._content.column != SAMPLES:
            return
        rows = Counter(self._tally.rows)
        rows.update(self._tally.rejected_rows)
        twice = sorted(row for row, times in rows.items() if times > 1)
        if twice:
            yield self._of_record(f"rows {twice[:5]} are accounted for twice ({len(twice)} in all)")
        count = self._content.counts.rows
        strangers = sorted(row for row in rows if not 0 <= row < count)
        if strangers or len(rows) < count:
            missing = [row for row in range(min(count, len(rows) + 5)) if row not in rows][:5]
            message = f"rows {strangers[:5]} lie outside its {count} rows, rows {missing} are neither sample nor reject"
            yield self._of_record(message)

    # Files

    def _size(self, file: PublishedFile) -> Checks[bool]:
        """True if the file is there, whatever its size."""
        found = self._storage.size(file.name)
        if found is None:
            yield self._problem("the record names this file, but it is missing", file=file.name)
            return False
        if found != file.bytes:
            message = f"it has {found} bytes, the record says {file.bytes}"
            yield self._problem(message, file=file.name, byte=min(found, file.bytes))
        return True

    def _sha256(self, file: PublishedFile, found: str) -> Iterator[Problem]:
        if found != file.sha256:
            yield self._problem(f"its sha256 is {found}, the record says {file.sha256}", file=file.name)

    def _stem(self, number: int) -> str:
        return part_stem(self._content.column, self._content.unit, number, "")

    def _guarded(self, checks: Checks[Any], file: str) -> Checks[Any]:
        return guarded(checks, file=file, unit=self._content.unit, todo=self._restore)

    def _problem(self, message: str, *, file: str, key: str | None = None, byte: int | None = None) -> Problem:
        return Problem(Severity.ERROR, message, self._restore, file, self._content.unit, key, byte)

    def _of_record(self, message: str) -> Problem:
        name = record_name(self._content.column, self._content.unit)
        todo = "Restore the record from a copy; or delete it, and `emu build` makes the unit again"
        return Problem(Severity.ERROR, message, todo, name, self._content.unit)


def _disorder(row: IndexRow, tar_bytes: int) -> str | None:
    """What is impossible about an index row by itself: it must lie in the tar, its members one behind the other."""
    offset, size = row.json_offset, row.json_bytes
    for member in row.members:
        due = offset + size + -(offset + size) % BLOCK + BLOCK
        if size < 0 or member.offset != due:
            return f"the index puts member {member.name} at byte {member.offset}, expected {due}"
        offset, size = member.offset, member.bytes
    start, length = extent(row)
    if start < 0 or row.json_bytes < 0 or size < 0 or start + length > tar_bytes:
        return f"the index puts the sample at bytes {start} to {start + length} of a tar of {tar_bytes}"
    return None


def _odd_reason(reason: str, detail: str) -> str | None:
    """Details are words of this code, never text from the web."""
    try:
        Refusal(Reason(reason), detail)
    except ValueError as error:
        return str(error)
    return None
