"""The rows and images of a unit that are not in the corpus, each with its reason: one parquet file a unit.

Sorted by row, a row's own reject before those of its images, so that equal rejects are equal bytes. Not here: deciding
(steps), counting (`pipelines.ledger`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import CorpusError
from schemas.reasons import Reason

REJECTS_FORMAT = "emu-rejects/1"

REJECTS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("image", pa.int32()),
        pa.field("url", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ],
    metadata={"format": REJECTS_FORMAT},
)


class Level(StrEnum):
    """What was refused: a whole row, or one image of a row."""

    ROW = "row"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Reject:
    """One refusal. row: ordinal in the unit. image: ordinal among the images the row asked for, None at row level."""

    key: str
    row: int
    level: Level
    reason: Reason
    detail: str = ""
    image: int | None = None
    url: str | None = None


def count_reasons(rejects: Iterable[Reject]) -> dict[str, dict[str, int]]:
    """Level to reason to number, as a record holds it."""
    counts: dict[str, dict[str, int]] = {}
    for reject in rejects:
        level = counts.setdefault(reject.level.value, {})
        level[reject.reason.value] = level.get(reject.reason.value, 0) + 1
    return counts


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write the file of one unit, sorted."""
    ordered = sorted(rejects, key=lambda r: (r.row, r.level is Level.IMAGE, -1 if r.image is None else r.image))
    columns = [
        [r.key for r in ordered],
        [r.row for r in ordered],
        [r.level.value for r in ordered],
        [r.image for r in ordered],
        [_utf8(r.url) for r in ordered],
        [r.reason.value for r in ordered],
        [r.detail for r in ordered],
    ]
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, REJECTS_SCHEMA, strict=True)]
    pq.write_table(pa.table(arrays, schema=REJECTS_SCHEMA), path, compression="zstd")


def read_rejects(data: bytes, *, name: str) -> pa.Table:
    """The rejects in the bytes of a unit's file. Raises `CorpusError` naming it if it is damaged or of another version."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorpusError(f"{name}: not a readable parquet file ({error}); run `emu validate`") from None
    found = (table.schema.metadata or {}).get(b"format", b"").decode("utf-8", "replace")
    if found.partition(".")[0] != REJECTS_FORMAT:
        raise CorpusError(f"{name}: format {found!r}, this version reads {REJECTS_FORMAT!r}")
    wrong = [
        f.name for f in REJECTS_SCHEMA if f.name not in table.schema.names or table.schema.field(f.name).type != f.type
    ]
    if wrong:
        raise CorpusError(f"{name}: columns {wrong} are missing or of another type")
    return table.select(REJECTS_SCHEMA.names)


def _utf8(url: str | None) -> str | None:
    """Metadata may hold lone surrogates, which no parquet file can."""
    return None if url is None else url.encode("utf-8", "replace").decode()
