"""Plan generations: which rows of which source file every unit stands for. Immutable, numbered, only ever added to.

A launcher that finds new metadata files, or retries rejects, appends a generation; ordinals never change, so keys never do.
Not here: deciding where units begin and end (`pipelines.plan`).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import CorpusError
from schemas.storage import Storage

PLAN_FORMAT = "emu-plan/1"

PLAN_SCHEMA = pa.schema(
    [
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
        pa.field("rows", pa.int64()),
        pa.field("byte_offset", pa.int64()),
        pa.field("byte_length", pa.int64()),
        pa.field("keys", pa.list_(pa.string())),
    ],
    metadata={"format": PLAN_FORMAT},
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A range of rows of one source file, or an explicit list of keys to retry: the unit of work, of retry and of resume.

    ordinal: number in the corpus, counted from 0. source: path or URL of the metadata file. fingerprint: of that file when planned.
    first_row, rows: the range; `rows` is None where only reading tells (compressed text). byte_offset, byte_length: the
    range in bytes, for plain text. keys: of the rows to retry; their samples keep these keys.
    """

    ordinal: int
    source: str
    fingerprint: str
    first_row: int
    rows: int | None
    byte_offset: int | None = None
    byte_length: int | None = None
    keys: tuple[str, ...] | None = None


def generation_name(generation: int) -> str:
    """The name of plan generation `generation`, counted from 0."""
    return f"plan/{generation:06d}.parquet"


def read_plan(storage: Storage) -> list[Unit]:
    """Every planned unit by ordinal. Raises `CorpusError` where generations are missing, damaged or overlap."""
    units: list[Unit] = []
    for generation, name in enumerate(generations(storage)):
        if name != generation_name(generation):
            raise CorpusError(
                f"{storage.url}: expected {generation_name(generation)}, found {name}: the plan has a hole"
            )
        units.extend(read_generation(storage, name))
    for expected, unit in enumerate(units):
        if unit.ordinal != expected:
            raise CorpusError(f"{storage.url}: the plan holds unit {unit.ordinal} where {expected} is due")
    return units


def generations(storage: Storage) -> list[str]:
    """Names of the generations that exist, in order."""
    return [
        e.name for e in storage.list("plan") if PurePosixPath(e.name).stem.isdigit() and e.name.endswith(".parquet")
    ]


def read_generation(storage: Storage, name: str) -> list[Unit]:
    """The units of one generation. Raises `CorpusError` if the file is damaged or of another version."""
    return _parse(storage.read(name), name=name)


def append_generation(storage: Storage, units: Sequence[Unit]) -> str:
    """Add a generation and return its name. Raises `FileExistsError` if another launcher was first: read the plan again."""
    there = generations(storage)
    planned = sum(len(read_generation(storage, name)) for name in there)
    # A launcher may have been first by so much that its generation is among those just listed.
    if units and units[0].ordinal != planned:
        raise FileExistsError(f"{storage.url}: units from {units[0].ordinal} on were given, unit {planned} is due")
    name = generation_name(len(there))
    storage.create(name, _serialize(units))
    return name


def _serialize(units: Sequence[Unit]) -> bytes:
    columns = [[getattr(unit, field.name) for unit in units] for field in fields(Unit)]
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, PLAN_SCHEMA, strict=True)]
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=PLAN_SCHEMA), sink, compression="zstd")
    return sink.getvalue()


def _parse(data: bytes, *, name: str) -> list[Unit]:
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{name}: not a readable plan ({error}); restore it from a copy") from None
    found = (table.schema.metadata or {}).get(b"format", b"").decode("utf-8", "replace")
    if found.partition(".")[0] != PLAN_FORMAT:
        raise CorpusError(f"{name}: format {found!r}, this version reads {PLAN_FORMAT!r}")
    missing = {field.name for field in fields(Unit)} - set(table.schema.names)
    if missing:
        raise CorpusError(f"{name}: columns {sorted(missing)} are missing; restore it from a copy")
    rows = table.select([field.name for field in fields(Unit)]).to_pylist()
    return [Unit(**row | {"keys": None if row["keys"] is None else tuple(row["keys"])}) for row in rows]
