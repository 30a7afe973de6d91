"""An index for a tar that others wrote and that stays where it is: the columns of ours (`index`), for theirs.

One row a sample, in the order of the tar. `key` is the tar's own and need not be unique, `row` counts samples; `json_offset` and
`json_bytes` are 0 where there is no `.json`. `members` are all others by ending, in any order and with gaps; `images` the first
picture by its ending, with its hash; `text_chars` the characters of the caption. So it is not `emu-index/1`, whose samples are one
range: the format is `emu-foreign-index/1`, and its metadata name the tar, its size, and why it breaks off, if it does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import xxhash

from schemas.errors import CorpusError
from schemas.foreign_tar import TarMember, TarSample, TarScan, tar_samples
from schemas.index import ImageRange, Index, IndexRow, MemberRange, index_bytes

FOREIGN_FORMAT = "emu-foreign-index/1"
PICTURES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("txt", "caption")
_CHUNK_BYTES = 1 << 20
_MAX_TEXT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class ForeignIndex:
    """An index that was made. broken: why the tar breaks off behind these samples, empty if it does not."""

    data: bytes
    samples: int
    broken: str


def index_foreign_tar(tar: IO[bytes], *, name: str) -> ForeignIndex:
    """The index of a tar, by one pass over it; `name` is that of the file, without folders."""
    scan = TarScan(tar)
    rows = [_row(tar, sample, number) for number, sample in enumerate(tar_samples(scan)) if not sample.broken]
    plain = pa.ipc.open_file(pa.BufferReader(index_bytes(rows, column="foreign", unit=0, part=0))).read_all()
    told = {"format": FOREIGN_FORMAT, "tar": name, "tar_bytes": str(tar.seek(0, 2)), "broken": scan.broken}
    table = plain.replace_schema_metadata(told)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return ForeignIndex(bytes(sink.getvalue()), len(rows), scan.broken)


def read_foreign_index(data: bytes, *, name: str) -> tuple[Index, dict[str, str]]:
    """An index and its metadata. Raises `CorpusError` if the file is damaged or of another kind."""
    try:
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorpusError(f"{name}: not a readable Arrow file ({error}); make it anew with `emu index`") from None
    told = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if told.get("format") != FOREIGN_FORMAT:
        raise CorpusError(f"{name}: format {told.get('format', '')!r}, expected {FOREIGN_FORMAT!r}")
    return Index(table), told


def read_foreign_sample(tar: IO[bytes], row: IndexRow) -> dict[str, bytes]:
    """The members of a sample by ending, by one ranged read each."""
    document = [MemberRange("json", row.json_offset, row.json_bytes)] if row.json_offset else []
    return {member.name: _range(tar, member.offset, member.bytes) for member in (*document, *row.members)}


def _row(tar: IO[bytes], sample: TarSample, number: int) -> IndexRow:
    document = sample.members.get("json")
    pictures = [m for ending in PICTURES for e, m in sample.members.items() if e.rpartition(".")[2] == ending]
    texts = [sample.members[ending] for ending in _TEXTS if ending in sample.members]
    return IndexRow(
        key=sample.key,
        row=number,
        json_offset=document.offset if document else 0,
        json_bytes=document.bytes if document else 0,
        members=tuple(MemberRange(e, m.offset, m.bytes) for e, m in sample.members.items() if e != "json"),
        images=tuple(ImageRange(m.offset, m.bytes, _hash(tar, m)) for m in pictures[:1]),
        text_chars=_chars(tar, texts[0]) if texts else 0,
    )


def _hash(tar: IO[bytes], member: TarMember) -> int:
    hashed = xxhash.xxh3_64()
    for chunk in _chunks(tar, member):
        hashed.update(chunk)
    return int(hashed.intdigest())


def _chars(tar: IO[bytes], member: TarMember) -> int:
    return len(_range(tar, member.offset, min(member.bytes, _MAX_TEXT_BYTES)).decode("utf-8", "replace"))


def _chunks(tar: IO[bytes], member: TarMember) -> Iterator[bytes]:
    for start in range(0, member.bytes, _CHUNK_BYTES):
        yield _range(tar, member.offset + start, min(_CHUNK_BYTES, member.bytes - start))


def _range(tar: IO[bytes], offset: int, size: int) -> bytes:
    tar.seek(offset)
    data = tar.read(size)
    if len(data) != size:
        raise CorpusError(
            f"the tar gives {len(data)} of {size} bytes from {offset}; it is not the one that was indexed"
        )
    return data
