"""Read a corpus by key: records say which parts exist, indexes where each byte lies; a sample is one ranged read.

Indexes are kept in a small cache, least recently used first out: a process may map only some 65,000 files, and a corpus has more
shards than that. Not here: order for training (`emu_model.data`), checking (`validate`).
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from schemas.corpus import SAMPLES, Corpus
from schemas.errors import CorpusError
from schemas.index import Index, IndexRow
from schemas.record import Part
from schemas.sample import Sample, split_key

MAX_OPEN_INDEXES = 256


@dataclass(frozen=True, slots=True)
class StoredSample:
    """A sample with the bytes of its media members, by the member's name behind `KEY.`."""

    sample: Sample
    media: dict[str, bytes]


class CorpusReader:
    """One column of a corpus, by key or in order. Not safe to share between threads: make one for each."""

    def __init__(self, corpus: Corpus, *, column: str = SAMPLES, max_open_indexes: int = MAX_OPEN_INDEXES) -> None:
        self._corpus = corpus
        self._column = column
        self._max_open_indexes = max_open_indexes
        self._indexes: OrderedDict[str, Index] = OrderedDict()
        self._parts: OrderedDict[int, tuple[Part, ...]] = OrderedDict()

    def __iter__(self) -> Iterator[StoredSample]:
        """Every sample, by unit and row."""
        for part in self.parts():
            for row in self.index(part).rows():
                yield self._read(part, row)

    def parts(self) -> Iterator[Part]:
        """Every part, by unit and number."""
        for record in self._corpus.records(self._column):
            yield from record.content.parts

    def keys(self) -> Iterator[str]:
        """Every key, by unit and row."""
        for part in self.parts():
            yield from self.index(part).keys

    def get(self, key: str) -> StoredSample:
        """The sample of a key, by one ranged read. Raises `CorpusError` if no committed unit holds it."""
        return self._read(*self._locate(key))

    def document(self, key: str) -> Sample:
        """The sample of a key without its media, by one ranged read."""
        part, row = self._locate(key)
        return Sample.from_json(self._range(part, row.json_offset, row.json_bytes, key=key))

    def member(self, key: str, name: str) -> bytes:
        """One media member alone, by one ranged read. Raises `CorpusError` if the sample has no such member."""
        part, row = self._locate(key)
        for member in row.members:
            if member.name == name:
                return self._range(part, member.offset, member.bytes, key=key)
        names = ", ".join(member.name for member in row.members) or "none"
        raise CorpusError(f"{self._corpus.url}: sample {key} has no member {name!r}; it has {names}")

    def index(self, part: Part) -> Index:
        """The index of a part, from the cache or the corpus."""
        if part.index is None:
            raise CorpusError(f"{part.data.name} has no index: it is read as Arrow, not as a tar")
        name = part.index.name
        if name not in self._indexes:
            self._indexes[name] = Index.parse(self._corpus.storage.read(name), name=f"{self._corpus.url}/{name}")
            if len(self._indexes) > self._max_open_indexes:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(name)
        return self._indexes[name]

    def _locate(self, key: str) -> tuple[Part, IndexRow]:
        for unit in self._units_of(key):
            for part in self._parts_of(unit):
                index = self.index(part)
                position = index.find(key)
                if position is not None:
                    return part, index.row(position)
        raise CorpusError(
            f"{self._corpus.url}: no committed unit of {self._column} holds {key}; "
            f"it was rejected (see rejects/), its unit is not built yet, or it was never planned"
        )

    def _units_of(self, key: str) -> Iterator[int]:
        """The unit of origin, then every retry that was planned for the key; the plan is read only if it comes to that."""
        yield split_key(key)[0]
        yield from self._retries.get(key, [])

    @cached_property
    def _retries(self) -> dict[str, list[int]]:
        retries: dict[str, list[int]] = {}
        for unit in self._corpus.plan():
            for key in unit.keys or ():
                retries.setdefault(key, []).append(unit.ordinal)
        return retries

    def _parts_of(self, unit: int) -> tuple[Part, ...]:
        if unit not in self._parts:
            record = self._corpus.record(self._column, unit)
            if record is None:
                return ()
            self._parts[unit] = record.content.parts
            if len(self._parts) > self._max_open_indexes:
                self._parts.popitem(last=False)
        self._parts.move_to_end(unit)
        return self._parts[unit]

    def _read(self, part: Part, row: IndexRow) -> StoredSample:
        start, length = row.span
        data = self._range(part, start, length, key=row.key)
        document = data[: row.json_bytes]
        media = {m.name: data[m.offset - start : m.offset - start + m.bytes] for m in row.members}
        return StoredSample(Sample.from_json(document), media)

    def _range(self, part: Part, offset: int, length: int, *, key: str) -> bytes:
        data = self._corpus.storage.read_range(part.data.name, offset, length)
        if len(data) != length:
            raise CorpusError(
                f"{self._corpus.url}/{part.data.name}: key {key} needs {length} bytes from {offset}, "
                f"the file gives {len(data)}; run `emu validate {self._corpus.url}`"
            )
        return data
