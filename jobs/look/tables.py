"""The six tables that `--sql` can ask: streams over what the records of a corpus name, a batch at a time.

    records   one row a unit and column        rejects   rows and images that are not in, with their unit
    shards    one row a part                   index     one row a sample and column, where its bytes lie
    plan      one row a unit                   samples   one row a sample, its JSON as columns

Whoever asks may start a stream as often as they like: nothing is held. Files that are damaged are noted and passed
over; a record or plan that is damaged ends the stream. Not here: the questions (`sql`).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from itertools import islice
from typing import Any

import pyarrow as pa

from jobs.look.corpora import rejects_of, samples_of
from jobs.look.notes import Notes
from schemas.corpus import SAMPLES, Corpus
from schemas.errors import CorpusError
from schemas.index import Index
from schemas.plan import PLAN_SCHEMA, generations, read_generation
from schemas.record import Content, Counts, Record
from schemas.rejects import REJECTS_SCHEMA
from schemas.sample import Sample, TextSegment

_BATCH_ROWS = 1_000
_Rows = Iterator[dict[str, Any]]

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()


def _structs(**types: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct(list(types.items())))


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema(list(types.items()))


_PLACE = {"column_name": _TEXT, "unit": _WHOLE}
_COUNTS = {item.name: _WHOLE for item in fields(Counts)}
_PICTURES = _structs(
    member=_TEXT,
    width=_WHOLE,
    height=_WHOLE,
    box=pa.list_(_WHOLE),
    bytes=_WHOLE,
    url=_TEXT,
    phash=_TEXT,
    match_sentence=_WHOLE,
    match_similarity=_REAL,
)
_SCHEMAS = {
    "records": _schema(
        **_PLACE,
        **_COUNTS,
        parts=_WHOLE,
        bytes=_WHOLE,
        reasons=_TEXT,
        recipe_hash=_TEXT,
        engine=_TEXT,
        attempt=_WHOLE,
        seconds=_REAL,
    ),
    "shards": _schema(
        **_PLACE,
        part=_WHOLE,
        name=_TEXT,
        bytes=_WHOLE,
        sha256=_TEXT,
        samples=_WHOLE,
        images=_WHOLE,
        index_name=_TEXT,
        index_bytes=_WHOLE,
    ),
    "plan": _schema(**{column.name: column.type for column in PLAN_SCHEMA}),
    "rejects": _schema(**_PLACE, **{column.name: column.type for column in REJECTS_SCHEMA}),
    "index": _schema(
        **_PLACE,
        part=_WHOLE,
        key=_TEXT,
        row=_WHOLE,
        json_offset=_WHOLE,
        json_bytes=_WHOLE,
        members=_structs(name=_TEXT, offset=_WHOLE, bytes=_WHOLE),
        images=_WHOLE,
        valid_images=_WHOLE,
        text_chars=_WHOLE,
    ),
    "samples": _schema(
        key=_TEXT,
        unit=_WHOLE,
        source=_TEXT,
        file=_TEXT,
        row=_WHOLE,
        id=_TEXT,
        text=_TEXT,
        text_chars=_WHOLE,
        segments=_WHOLE,
        images=_PICTURES,
        captions=pa.list_(_TEXT),
        attributes=_TEXT,
        licence=_TEXT,
    ),
}
TABLES = tuple(_SCHEMAS)


class Stream:
    """A table that is read anew each time it is scanned, through the Arrow C stream interface.

    error: what ended it, such as a damaged record; the database only says that something did.
    """

    def __init__(self, schema: pa.Schema, rows: Callable[[], _Rows]) -> None:
        self.error: Exception | None = None
        self._schema = schema
        self._rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.RecordBatchReader.from_batches(self._schema, self.batches()).__arrow_c_stream__(requested_schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, a thousand at a time."""
        rows = self._rows()
        try:
            while batch := list(islice(rows, _BATCH_ROWS)):
                yield pa.RecordBatch.from_pylist(batch, schema=self._schema)
        except (CorpusError, OSError) as error:
            self.error = error
            raise


def table(corpus: Corpus, name: str, notes: Notes) -> Stream:
    """The table of that name, which is one of `TABLES`."""
    rows = {
        "records": _records,
        "shards": _shards,
        "plan": _plan,
        "rejects": _rejects,
        "index": _index_rows,
        "samples": _samples,
    }[name]
    return Stream(_SCHEMAS[name], lambda: rows(corpus, notes))


def _all_records(corpus: Corpus) -> Iterator[Record]:
    for column in corpus.columns():
        yield from corpus.records(column)


def _all_contents(corpus: Corpus) -> Iterator[Content]:
    return (record.content for record in _all_records(corpus))


def _records(corpus: Corpus, notes: Notes) -> _Rows:
    for record in _all_records(corpus):
        content, run = record.content, record.run
        yield {
            "column_name": content.column,
            "unit": content.unit,
            **asdict(content.counts),
            "parts": len(content.parts),
            "bytes": sum(part.data.bytes for part in content.parts),
            "reasons": json.dumps(content.reasons, sort_keys=True),
            "recipe_hash": content.recipe_hash,
            "engine": run.engine,
            "attempt": run.attempt,
            "seconds": run.seconds,
        }


def _shards(corpus: Corpus, notes: Notes) -> _Rows:
    for content in _all_contents(corpus):
        for number, part in enumerate(content.parts):
            index = {} if part.index is None else {"index_name": part.index.name, "index_bytes": part.index.bytes}
            held = {"samples": part.samples, "images": part.images}
            yield {
                "column_name": content.column,
                "unit": content.unit,
                "part": number,
                **asdict(part.data),
                **held,
                **index,
            }


def _plan(corpus: Corpus, notes: Notes) -> _Rows:
    for name in generations(corpus.storage):
        for unit in read_generation(corpus.storage, name):
            yield asdict(unit)


def _rejects(corpus: Corpus, notes: Notes) -> _Rows:
    for content in _all_contents(corpus):
        rejects = rejects_of(corpus, content, notes)
        for batch in () if rejects is None else rejects.to_batches(max_chunksize=_BATCH_ROWS):
            for row in batch.to_pylist():
                yield {"column_name": content.column, "unit": content.unit, **row}


def _index_rows(corpus: Corpus, notes: Notes) -> _Rows:
    for content in _all_contents(corpus):
        for number, part in enumerate(content.parts):
            if part.index is None:
                continue
            name = part.index.name
            try:
                index = Index.parse(corpus.storage.read(name), name=name)
            except (CorpusError, OSError) as error:
                notes.add(name, str(error).removeprefix(f"{name}: "))
                continue
            for row in index.rows():
                place = {"column_name": content.column, "unit": content.unit, "part": number}
                images = {"images": len(row.images), "valid_images": sum(image.valid for image in row.images)}
                known = {
                    field: getattr(row, field) for field in ("key", "row", "json_offset", "json_bytes", "text_chars")
                }
                yield {**place, **known, **images, "members": [asdict(member) for member in row.members]}


def _samples(corpus: Corpus, notes: Notes) -> _Rows:
    for record in corpus.records(SAMPLES):
        for part in record.content.parts:
            for row, sample in samples_of(corpus, part, notes):
                sizes = {member.name: member.bytes for member in row.members}
                yield _plain(sample, sizes) | {"unit": record.content.unit}


def _plain(sample: Sample, member_bytes: dict[str, int]) -> dict[str, Any]:
    source = sample.source
    texts = [segment.text for segment in sample.segments if isinstance(segment, TextSegment)]
    pictures = []
    for image in sample.images:
        plain = {name: getattr(image, name) for name in ("member", "width", "height", "box", "url", "phash")}
        plain["bytes"] = member_bytes.get(image.member)
        if image.match is not None:
            plain |= {"match_sentence": image.match.sentence, "match_similarity": image.match.similarity}
        pictures.append(plain)
    return {
        "key": sample.key,
        "source": source.name,
        "file": source.file,
        "row": source.row,
        "id": source.id,
        "text": "\n".join(texts),
        "text_chars": sample.text_chars,
        "segments": len(sample.segments),
        "images": pictures,
        "captions": [caption.text for caption in sample.captions],
        "attributes": json.dumps(sample.attributes, ensure_ascii=False, sort_keys=True),
        "licence": sample.licence,
    }
