"""What a corpus holds, at flat memory and by bounded work: totals from every record, distributions from some of its units.

The units that are looked into are drawn by a hash of their ordinal, the samples in them evenly; so every look at a corpus
shows the same, and a corpus that grows changes the picture slowly. Looking at all of it is asked for. What is damaged is noted, and
the rest is looked at. Not here: whether all of it is sound (`emu validate`).
"""

import hashlib
import heapq
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.look.domains import domain_of
from jobs.look.notes import Notes
from jobs.look.tally import Tally
from schemas.corpus import SAMPLES, Corpus
from schemas.errors import CorpusError
from schemas.index import Index, IndexRow
from schemas.plan import generations
from schemas.record import Content, Part, Totals
from schemas.rejects import read_rejects
from schemas.sample import Sample
from schemas.shard_reader import CorpusReader

MOST_UNITS = 48
MOST_SAMPLES = 8_000

# Families of reasons that say something of the recipe, and nothing of the site a picture was asked of.
_OWN_CHOICE = frozenset({"filter", "text", "duplicate", "source"})


@dataclass(slots=True)
class CorpusLook:
    """A corpus as seen. looked_into: units of `samples` that the distributions are drawn from, with the samples they hold."""

    planned_units: int
    columns: dict[str, Totals]
    tally: Tally = field(default_factory=Tally)
    looked_into_units: int = 0
    stride: int = 1
    first_key: str | None = None


def look_at_corpus(
    corpus: Corpus, notes: Notes, *, everything: bool = False, units: int = MOST_UNITS, samples: int = MOST_SAMPLES
) -> CorpusLook:
    """Totals of every column, and distributions: of all, or of about so many samples in at most so many units."""
    look = CorpusLook(_planned_units(corpus), {})
    drawn = _Draw(units)
    for column in corpus.columns():
        totals = Totals()
        for record in corpus.records(column):
            totals = totals.add(record.content)
            if column == SAMPLES:
                drawn.offer(record.content)
        look.columns[column] = totals
    contents: Iterable[Content] = drawn.contents()
    if everything:
        contents = (record.content for record in corpus.records())
    else:
        look.stride = max(1, -(-sum(content.counts.samples for content in drawn.contents()) // samples))
    for content in contents:
        look.looked_into_units += 1
        _look_into(corpus, content, look, notes)
    return look


def samples_of(corpus: Corpus, part: Part, notes: Notes, *, stride: int = 1) -> Iterator[tuple[IndexRow, Sample]]:
    """Every so many-th sample of a part with its index row; what cannot be read is noted and passed over."""
    index = _index(corpus, part, notes)
    if index is None:
        return
    found = corpus.storage.size(part.data.name)
    if found != part.data.bytes:
        is_there = "it is missing" if found is None else f"it has {found} bytes"
        notes.add(part.data.name, f"{is_there}, its record says {part.data.bytes}; see emu validate {corpus.url}")
    if found is None:
        return
    rows = index.rows() if stride == 1 else (index.row(position) for position in range(0, len(index), stride))
    for row in rows:
        try:
            data = corpus.storage.read_range(part.data.name, row.json_offset, row.json_bytes)
            yield row, Sample.from_json(data)
        except (CorpusError, OSError, ValueError) as error:
            notes.add(
                part.data.name,
                f"key {row.key}, byte {row.json_offset}: its JSON cannot be read ({error}); see emu validate {corpus.url}",
            )


def rejects_of(corpus: Corpus, content: Content, notes: Notes) -> pa.Table | None:
    """The rejects of a unit; None where there are none, or they cannot be read, which is noted."""
    if content.rejects is None:
        return None
    name = content.rejects.name
    try:
        return read_rejects(corpus.storage.read(name), name=name)
    except FileNotFoundError:
        notes.add(name, f"the file is missing; see emu validate {corpus.url}")
    except (CorpusError, OSError) as error:
        notes.add(name, str(error).removeprefix(f"{name}: "))
    return None


@dataclass(frozen=True, slots=True)
class RefusedUrl:
    """A URL that a row asked for in vain. row: ordinal in its unit."""

    url: str
    key: str
    row: int
    reason: str


def refused_urls(rejects: pa.Table) -> Iterator[RefusedUrl]:
    """Every URL in the rejects of a unit, once for each row: a row and its only image stand there with the same one."""
    key, seen = "", set[str]()
    for batch in rejects.select(["key", "row", "url", "reason"]).to_batches(max_chunksize=10_000):
        for plain in batch.to_pylist():
            if plain["key"] != key:
                key, seen = plain["key"], set()
            if plain["url"] is not None and plain["url"] not in seen:
                seen.add(plain["url"])
                yield RefusedUrl(plain["url"], key, plain["row"], plain["reason"])


class _Draw:
    """The contents of at most so many units, those of the least hashes: one pass over any number, and nothing else kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: list[tuple[int, int, Content]] = []

    def offer(self, content: Content) -> None:
        if not content.parts and content.rejects is None:
            return
        digest = hashlib.sha256(str(content.unit).encode()).digest()
        entry = (-int.from_bytes(digest[:8], "big"), content.unit, content)
        if len(self._held) < self._most:
            heapq.heappush(self._held, entry)
        else:
            heapq.heappushpop(self._held, entry)

    def contents(self) -> list[Content]:
        return [content for _, _, content in sorted(self._held, key=lambda entry: entry[1])]


def _look_into(corpus: Corpus, content: Content, look: CorpusLook, notes: Notes) -> None:
    for part in content.parts:
        for row, sample in samples_of(corpus, part, notes, stride=look.stride):
            look.first_key = look.first_key or row.key
            look.tally.add(sample, {member.name: member.bytes for member in row.members})
    rejects = rejects_of(corpus, content, notes)
    if rejects is None:
        return
    for refused in refused_urls(rejects):
        if refused.row % look.stride == 0 and refused.reason.partition(".")[0] not in _OWN_CHOICE:
            look.tally.domains.add(domain_of(refused.url), lost=1)


def _index(corpus: Corpus, part: Part, notes: Notes) -> Index | None:
    name = part.data.name if part.index is None else part.index.name
    try:
        return CorpusReader(corpus, max_open_indexes=1).index(part)
    except FileNotFoundError:
        notes.add(name, f"the index is missing; see emu validate {corpus.url}")
    except (CorpusError, OSError) as error:
        notes.add(name, str(error).removeprefix(f"{corpus.url}/{name}: "))
    return None


def _planned_units(corpus: Corpus) -> int:
    """From the footers of the plan: a plan of millions of units is not read for their number."""
    planned = 0
    for name in generations(corpus.storage):
        try:
            planned += int(pq.read_metadata(io.BytesIO(corpus.storage.read(name))).num_rows)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise CorpusError(f"{name}: not a readable plan ({error}); restore it from a copy") from None
    return planned
