"""Bytes of the golden corpus by plain libraries: JSON, tar, Arrow, parquet, and the names they get. Knows no recipe."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from golden_documents import Row
from golden_pictures import picture

RANGE = [pa.field("offset", pa.int64(), nullable=False), pa.field("bytes", pa.int64(), nullable=False)]
MEMBER = pa.struct([pa.field("name", pa.string(), nullable=False), *RANGE])
IMAGE = pa.struct(
    [*RANGE, pa.field("xxh3", pa.uint64(), nullable=False), pa.field("valid", pa.bool_(), nullable=False)]
)
INDEX = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
    pa.field("json_offset", pa.int64(), nullable=False),
    pa.field("json_bytes", pa.int64(), nullable=False),
    pa.field("members", pa.list_(pa.field("item", MEMBER, nullable=False)), nullable=False),
    pa.field("images", pa.list_(pa.field("item", IMAGE, nullable=False)), nullable=False),
    pa.field("text_chars", pa.int64(), nullable=False),
]
REJECTS = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
    pa.field("level", pa.string(), nullable=False),
    pa.field("image", pa.int32()),
    pa.field("url", pa.string()),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("detail", pa.string(), nullable=False),
]
PLAN = [
    pa.field("ordinal", pa.int64(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("fingerprint", pa.string(), nullable=False),
    pa.field("first_row", pa.int64(), nullable=False),
    pa.field("rows", pa.int64()),
    pa.field("byte_offset", pa.int64()),
    pa.field("byte_length", pa.int64()),
    pa.field("keys", pa.list_(pa.string())),
]


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def tar_of(files: list[tuple[str, bytes]]) -> tuple[bytes, dict[str, int]]:
    """A plain USTAR archive that ends after two empty blocks, and the offset of each member's content as `tarfile` finds it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.gid, info.mode = len(data), 0, 0, 0, 0o644
            tar.addfile(info, io.BytesIO(data))
        end = tar.offset
    data = buffer.getvalue()[:end] + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return data, {info.name: info.offset_data for info in tar}


def files_of(row: Row) -> list[tuple[str, bytes]]:
    key = row.document["key"]
    media = [(f"{key}.{name}", picture(file)) for name, file in zip(members_of(row), row.pictures, strict=True)]
    return [(f"{key}.json", canonical(row.document)), *media]


def members_of(row: Row) -> list[str]:
    return list(dict.fromkeys(image["member"] for image in row.document.get("images", [])))


def text_chars(row: Row) -> int:
    return sum(len(segment["text"]) for segment in row.document["segments"] if "text" in segment)


def index_row(row: Row, files: list[tuple[str, bytes]], offsets: dict[str, int]) -> dict[str, Any]:
    key, sizes = row.document["key"], {name: len(data) for name, data in files}
    hashes = {name: xxhash.xxh3_64_intdigest(data) for name, data in files}

    def place(name: str) -> dict[str, int]:
        return {"offset": offsets[f"{key}.{name}"], "bytes": sizes[f"{key}.{name}"]}

    return {
        "key": key,
        "row": row.row,
        "json_offset": offsets[f"{key}.json"],
        "json_bytes": sizes[f"{key}.json"],
        "members": [{"name": name, **place(name)} for name in members_of(row)],
        "images": [
            {**place(image["member"]), "xxh3": hashes[f"{key}.{image['member']}"], "valid": True}
            for image in row.document.get("images", [])
        ],
        "text_chars": text_chars(row),
    }


def arrow_file(rows: list[dict[str, Any]], fields: list[pa.Field], metadata: dict[str, str]) -> bytes:
    schema = pa.schema(fields, metadata=metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return bytes(sink.getvalue())


def parquet_file(rows: list[dict[str, Any]], fields: list[pa.Field], metadata: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=pa.schema(fields, metadata=metadata))
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def write(corpus: Path, name: str, data: bytes) -> dict[str, Any]:
    """Put a file in place; returns what a record says of it."""
    path = corpus / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_part(corpus: Path, column: str, unit: int, number: int, tar: bytes, index: bytes) -> tuple[Any, Any]:
    """A tar and its index under a name that carries the first eight digits of the sha256 of the one followed by the other."""
    stem = f"{column}/{unit:08d}-{number:02d}-{hashlib.sha256(tar + index).hexdigest()[:8]}"
    return write(corpus, f"{stem}.tar", tar), write(corpus, f"{stem}.arrow", index)


def write_rejects(corpus: Path, column: str, unit: int, rejects: list[Any]) -> Any:
    if not rejects:
        return None
    data = parquet_file(rejects, REJECTS, {"format": "emu-rejects/1"})
    return write(corpus, f"rejects/{column}/{unit:08d}-{hashlib.sha256(data).hexdigest()[:8]}.parquet", data)


def write_record(corpus: Path, content: dict[str, Any]) -> None:
    run = {
        "started_unix_seconds": 0.0,
        "seconds": 0.0,
        "engine": "golden",
        "attempt": 1,
        "machine": "",
        "toolchain": {},
    }
    name = f"records/{content['column']}/{content['unit'] // 10_000:04d}/{content['unit']:08d}.json"
    write(corpus, name, canonical({"content": content, "run": run, "format": "emu-record/1"}))


def counts_of(rows: list[Row], rejects: list[Any], *, images: int) -> dict[str, int]:
    dropped = sum(reject["level"] == "row" for reject in rejects)
    lost = len(rejects) - dropped
    return {
        "rows": len(rows) + dropped,
        "samples": len(rows),
        "rejected_rows": dropped,
        "images_asked": images + lost,
        "images": images,
        "rejected_images": lost,
        "text_chars": sum(map(text_chars, rows)),
    }


def reasons_of(rejects: list[Any]) -> dict[str, dict[str, int]]:
    return {
        level: dict(Counter(reject["reason"] for reject in rejects if reject["level"] == level))
        for level in dict.fromkeys(reject["level"] for reject in rejects)
    }
