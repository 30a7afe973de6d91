"""The index of a part: one Arrow IPC file beside the tar that says where every byte of every sample lies.

One row a sample, in the order of the tar. With it any sample, member or image is one ranged read; without it the tar is
still a plain WebDataset shard. Offsets are counted from the start of the tar. Not here: reading the tar (`shard_reader`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from schemas.errors import CorpusError

INDEX_FORMAT = "emu-index/1"

_RANGE = [pa.field("offset", pa.int64(), nullable=False), pa.field("bytes", pa.int64(), nullable=False)]
_MEMBER = pa.struct([pa.field("name", pa.string(), nullable=False), *_RANGE])
_IMAGE = pa.struct(
    [*_RANGE, pa.field("xxh3", pa.uint64(), nullable=False), pa.field("valid", pa.bool_(), nullable=False)]
)
INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("json_offset", pa.int64(), nullable=False),
        pa.field("json_bytes", pa.int64(), nullable=False),
        pa.field("members", pa.list_(pa.field("item", _MEMBER, nullable=False)), nullable=False),
        pa.field("images", pa.list_(pa.field("item", _IMAGE, nullable=False)), nullable=False),
        pa.field("text_chars", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class MemberRange:
    """A media member of one sample: name behind `KEY.`, offset of its content in the tar, size in bytes."""

    name: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ImageRange:
    """The payload of one image: its bytes in the tar and their xxh3-64; boxes of one sheet share a range.

    valid: whether this column holds the image; a feature column marks those it could not encode.
    """

    offset: int
    bytes: int
    xxh3: int
    valid: bool = True


@dataclass(frozen=True, slots=True)
class IndexRow:
    """Where one sample lies. row: ordinal in the unit. The JSON member comes first, the others follow without a gap."""

    key: str
    row: int
    json_offset: int
    json_bytes: int
    members: tuple[MemberRange, ...]
    images: tuple[ImageRange, ...]
    text_chars: int

    @property
    def span(self) -> tuple[int, int]:
        """Offset and length of one read that holds the JSON and every member."""
        last = self.members[-1] if self.members else None
        end = last.offset + last.bytes if last else self.json_offset + self.json_bytes
        return self.json_offset, end - self.json_offset

    def moved(self, offset: int) -> "IndexRow":
        """The same sample, `offset` bytes further into a tar."""
        return IndexRow(
            key=self.key,
            row=self.row,
            json_offset=self.json_offset + offset,
            json_bytes=self.json_bytes,
            members=tuple(MemberRange(m.name, m.offset + offset, m.bytes) for m in self.members),
            images=tuple(ImageRange(i.offset + offset, i.bytes, i.xxh3, i.valid) for i in self.images),
            text_chars=self.text_chars,
        )


class Index:
    """An index in memory, or mapped from a file: row by position or by key."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._positions: dict[str, int] | None = None

    @classmethod
    def parse(cls, data: bytes | pa.Buffer, *, name: str) -> "Index":
        """Read the bytes of an index file. Raises `CorpusError` naming the file if it is damaged or of another major version."""
        try:
            table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
            table.validate(full=True)  # Arrow trusts offsets otherwise: a flipped byte would crash the process
        except (pa.ArrowException, OSError, ValueError) as error:
            raise CorpusError(f"{name}: not a readable Arrow file ({error}); run `emu validate`") from None
        found = (table.schema.metadata or {}).get(b"format", b"").decode("utf-8", "replace")
        if found.partition(".")[0] != INDEX_FORMAT:
            raise CorpusError(f"{name}: format {found!r}, this version reads {INDEX_FORMAT!r}")
        wrong = [field.name for field in INDEX_SCHEMA if not _holds(table.schema, field)]
        if wrong:
            raise CorpusError(f"{name}: columns {wrong} are missing or of another type")
        return cls(table)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def identity(self) -> dict[str, str]:
        """Column, unit and part that the file says it belongs to."""
        metadata = {name.decode(): value.decode() for name, value in (self._table.schema.metadata or {}).items()}
        return {name: metadata.get(name, "") for name in ("column", "unit", "part")}

    @property
    def keys(self) -> list[str]:
        """Every key, in the order of the tar."""
        return list(self._table.column("key").to_pylist())

    def find(self, key: str) -> int | None:
        """The position of a key, or None."""
        if self._positions is None:
            self._positions = {found: position for position, found in enumerate(self.keys)}
        return self._positions.get(key)

    def row(self, position: int) -> IndexRow:
        """The row at a position."""
        return next(iter(self._rows(self._table.slice(position, 1))))

    def rows(self) -> Iterable[IndexRow]:
        """All rows in order, a thousand at a time."""
        for batch in self._table.to_batches(max_chunksize=1000):
            yield from self._rows(batch)

    @staticmethod
    def _rows(batch: pa.RecordBatch | pa.Table) -> Iterable[IndexRow]:
        for plain in batch.to_pylist():
            # By name: newer minor versions may add fields.
            members = tuple(MemberRange(m["name"], m["offset"], m["bytes"]) for m in plain["members"])
            images = tuple(ImageRange(i["offset"], i["bytes"], i["xxh3"], i["valid"]) for i in plain["images"])
            known = {name: plain[name] for name in ("key", "row", "json_offset", "json_bytes", "text_chars")}
            yield IndexRow(members=members, images=images, **known)


def _holds(found: pa.Schema | pa.StructType, wanted: pa.Field) -> bool:
    """Whether a schema or struct has the field, of its type; fields that it has besides are those of newer minor versions."""
    position = found.get_field_index(wanted.name)
    if position < 0:
        return False
    field, types = found.field(position), wanted.type
    while pa.types.is_list(types) and pa.types.is_list(field.type):
        field, types = field.type.value_field, types.value_type
    if pa.types.is_struct(types) and pa.types.is_struct(field.type):
        return all(_holds(field.type, inner) for inner in types)
    return bool(field.type == types)


def index_bytes(rows: Iterable[IndexRow], *, column: str, unit: int, part: int) -> bytes:
    """The file for these rows: Arrow IPC, uncompressed so that it can be mapped, its identity in the schema's metadata."""
    rows = list(rows)
    schema = INDEX_SCHEMA.with_metadata(
        {"format": INDEX_FORMAT, "column": column, "unit": str(unit), "part": str(part)}
    )
    columns = [
        [row.key for row in rows],
        [row.row for row in rows],
        [row.json_offset for row in rows],
        [row.json_bytes for row in rows],
        [[{"name": m.name, "offset": m.offset, "bytes": m.bytes} for m in row.members] for row in rows],
        [
            [{"offset": i.offset, "bytes": i.bytes, "xxh3": i.xxh3, "valid": i.valid} for i in row.images]
            for row in rows
        ],
        [row.text_chars for row in rows],
    ]
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, INDEX_SCHEMA, strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.table(arrays, schema=schema))
    return bytes(sink.getvalue())
