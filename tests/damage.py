"""Ways to damage a corpus on purpose, down to files whose names and hashes are right and only their meaning is wrong."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from schemas.corpus import SAMPLES, part_stem, record_name, rejects_name
from schemas.problem import Problem
from schemas.record import PublishedFile, Record
from schemas.validate import validate
from tests.small_corpora import Builder

FEATURES = "features/test"


def copy_as_column(builder: Builder, unit: int, edit: Callable[[pa.Table], pa.Table] = lambda table: table) -> Record:
    """A column whose tar is that of the samples; `edit` changes its index before it is named and recorded."""
    record = record_of(builder, unit)
    (part,) = record.content.parts
    tar = (builder.root / part.data.name).read_bytes()
    with pa.ipc.open_file((builder.root / part.index.name).read_bytes()) as file:
        table = edit(file.read_all())
    index = serialize(table.replace_schema_metadata(dict(table.schema.metadata) | {b"column": FEATURES.encode()}))
    stem = part_stem(FEATURES, unit, 0, hashlib.sha256(tar + index).hexdigest())
    for name, data in ((f"{stem}.tar", tar), (f"{stem}.arrow", index)):
        path = builder.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    files = (replace(part.data, name=f"{stem}.tar"), published(f"{stem}.arrow", index))
    content = replace(
        record.content,
        column=FEATURES,
        parts=(replace(part, data=files[0], index=files[1]),),
        counts=replace(record.content.counts, rows=3, rejected_rows=0, images_asked=3, rejected_images=0),
        reasons={},
        rejects=None,
    )
    return builder.corpus.create_record(replace(record, content=content))


def serialize(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def published(name: str, data: bytes) -> PublishedFile:
    return PublishedFile(name, len(data), hashlib.sha256(data).hexdigest())


def record_of(builder: Builder, unit: int) -> Any:
    return builder.corpus.record(SAMPLES, unit)


def path_of(builder: Builder, unit: int, kind: str, *, part: int = 0) -> Path:
    content = record_of(builder, unit).content
    if kind == "record":
        return builder.root / record_name(SAMPLES, unit)
    if kind == "rejects":
        return builder.root / content.rejects.name
    return builder.root / (content.parts[part].data if kind == "tar" else content.parts[part].index).name


def flip(path: Path, before: bytes, *, start: int = 0) -> int:
    """Change the byte behind the first `before`; return its offset."""
    data = bytearray(path.read_bytes())
    byte = data.index(before, start) + len(before)
    data[byte] ^= 1
    path.write_bytes(data)
    return byte


def rewrite(builder: Builder, unit: int, change: Callable[[Any], Any]) -> None:
    """Replace the content of a record, canonically."""
    record = record_of(builder, unit)
    path_of(builder, unit, "record").write_bytes(replace(record, content=change(record.content)).to_json())


def rename_rejects(builder: Builder, unit: int, table: pa.Table) -> None:
    """Other rejects under the name and record that their hash asks for: only their meaning is wrong."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    name = rejects_name(SAMPLES, unit, hashlib.sha256(sink.getvalue()).hexdigest())
    path_of(builder, unit, "rejects").unlink()
    (builder.root / name).write_bytes(sink.getvalue())
    rewrite(builder, unit, lambda content: replace(content, rejects=published(name, sink.getvalue())))


def found(builder: Builder, **given: Any) -> list[Problem]:
    problems = list(validate(builder.corpus, **given))
    assert all(problem.todo and str(problem).startswith(problem.severity) for problem in problems)
    return problems


def only(problems: list[Problem]) -> Problem:
    (problem,) = problems
    return problem


def edit_index(builder: Builder, unit: int, edit: Callable[[list[dict[str, Any]]], None]) -> str:
    """Another index under the name and record that its hash asks for: only its meaning is wrong."""
    record = record_of(builder, unit)
    (part,) = record.content.parts
    old = builder.root / part.index.name
    with pa.ipc.open_file(old.read_bytes()) as file:
        table = file.read_all()
    rows = table.to_pylist()
    edit(rows)
    index = serialize(pa.Table.from_pylist(rows, schema=table.schema))
    tar = builder.root / part.data.name
    stem = part_stem(SAMPLES, unit, 0, hashlib.sha256(tar.read_bytes() + index).hexdigest())
    tar.rename(builder.root / f"{stem}.tar")
    old.unlink()
    (builder.root / f"{stem}.arrow").write_bytes(index)
    named = replace(part, data=replace(part.data, name=f"{stem}.tar"), index=published(f"{stem}.arrow", index))
    rewrite(builder, unit, lambda content: replace(content, parts=(named,)))
    return stem


def reject_table(built: Builder, unit: int, **columns: Any) -> pa.Table:
    table = pq.read_table(path_of(built, unit, "rejects"))
    for name, values in columns.items():
        position = table.schema.get_field_index(name)
        table = table.set_column(position, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    return table
