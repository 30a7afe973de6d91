"""The head of a text table: where its rows begin, the names of its columns, and what its first rows are like.

A file that cannot be read with the settings given is refused here, before any work: UTF-16, old Mac line ends, a row of names that
is missing, doubled or not expected, first rows none of which can be read. Single bad rows are told as notes; they are refused
one by one when their unit is built.
"""

import codecs
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from pipelines.sources.formats import FileType, Format
from pipelines.sources.records import MAX_RECORD_BYTES, Records
from pipelines.sources.streams import opened
from pipelines.sources.text_rows import Row, RowParser, TextSettings, cells, is_table, splitter
from schemas.errors import UserError
from schemas.reasons import Refusal

_HEAD_BYTES = 1 << 20
_NUM_ROWS = 1000
_FEW = 3  # rows in another encoding that may be accidents


_ADVICE = {
    "cells": "their number of cells is not that of the columns: check source.header, or the delimiter",
    "quotes": "if quotes mean nothing in it: --set source.quoted=false",
    "json": "a row is one JSON object on one line",
}


@dataclass(frozen=True, slots=True)
class Head:
    """What the head says. names: of the columns, in order. schema: these with their types. data_offset: of the first row, bytes."""

    names: tuple[str, ...]
    schema: pa.Schema
    data_offset: int
    notes: tuple[str, ...]


def read_head(path: str, type: FileType, settings: TextSettings) -> Head:
    """Read the head of a file. Raises `UserError` if the file cannot be read with these settings."""
    data, is_whole = _read(path, type)
    if not data:
        raise UserError(f"{path} is empty (0 bytes); fetch it again, or take it out of the input")
    offset = _after_mark(path, data, settings)
    names: tuple[str, ...] = (settings.line,)
    if is_table(type.format):
        names, offset = _columns(path, data, offset, type.format, settings, is_whole=is_whole)
    body = data[offset:]
    records = splitter(type.format, settings, width=len(names)).split(body, final=is_whole)
    records = Records(records.starts[:_NUM_ROWS], records.stops[:_NUM_ROWS], records.used, records.broken)
    rows = list(RowParser(type.format, settings, names=names).rows(body, records))
    notes = _judge(path, body, records, rows, type.format, settings)
    schema = _schema(names, rows, type.format)
    return Head(names if is_table(type.format) else tuple(schema.names), schema, offset, notes)


def _read(path: str, type: FileType) -> tuple[bytes, bool]:
    """The head, with one line end at least if there is one within reach, and whether it is all of the file."""
    data = b""
    with opened(path, type.compression) as read:
        while len(data) < _HEAD_BYTES or (b"\n" not in data and len(data) <= MAX_RECORD_BYTES):
            more = read(_HEAD_BYTES)
            if not more:
                return data, True
            data += more
        return data, not read(1)


def _after_mark(path: str, data: bytes, settings: TextSettings) -> int:
    """Where the text begins, behind a byte order mark."""
    sample = data[:4096]
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
    if data.startswith(marks) or _is_every_second_zero(sample):
        raise UserError(
            f"{path} is in UTF-16 or UTF-32, which is not read; convert it first: iconv -f UTF-16 -t UTF-8 FILE > NEW"
        )
    if not data.startswith(codecs.BOM_UTF8):
        return 0
    if codecs.lookup(settings.encoding).name not in ("utf-8", "utf-8-sig"):
        raise UserError(
            f"{path} begins with the mark of UTF-8, and source.encoding is {settings.encoding}; "
            f"read it apart from the others, as utf-8"
        )
    return len(codecs.BOM_UTF8)


def _is_every_second_zero(sample: bytes) -> bool:
    """Whether this looks like UTF-16 without a mark; text that holds zeros of its own does not."""
    fewer, more = sorted((sample[0::2].count(0), sample[1::2].count(0)))
    return 4 * more > len(sample) > 16 * fewer


def _columns(
    path: str, data: bytes, offset: int, format: Format, settings: TextSettings, *, is_whole: bool
) -> tuple[tuple[str, ...], int]:
    """Names of the columns of a table, and where its first row begins."""
    body = data[offset:]
    first = splitter(format, settings, width=None).split(body, final=is_whole)
    record = body[first.starts[0] : first.stops[0]] if len(first.starts) and 0 not in first.broken else b""
    if settings.header:
        if tuple(cells(record.decode(settings.encoding, "replace"), format, settings)) == settings.header:
            raise UserError(f"{path} has a row of column names; leave source.header out: --set source.header=[]")
        return settings.header, offset
    if not record:
        raise UserError(
            f"{path}: its first {len(data):,} bytes do not begin with a row of column names; is it a table?"
        )
    try:
        names = tuple(cells(record.decode(settings.encoding), format, settings))
    except UnicodeDecodeError:
        raise UserError(_other_encoding(path, "the row of column names is", settings)) from None
    if b"\r" in record:
        raise UserError(
            f"{path}: lines end with CR alone, which is not read; convert it first: tr '\\r' '\\n' < FILE > NEW"
        )
    _check_names(path, names)
    following = first.starts[1] if len(first.starts) > 1 else first.used
    return names, offset + int(following)


def _check_names(path: str, names: tuple[str, ...]) -> None:
    """Every name once; columns without a name, such as pandas writes for its index, can be many."""
    doubled = [name for name, count in Counter(names).items() if count > 1 and name]
    if doubled:
        raise UserError(
            f"{path}: two columns are called {doubled[0]!r}; rename one. "
            f"If the first row is a row of data, name the columns: --set 'source.header=[url, text]'"
        )


def _judge(
    path: str, body: bytes, records: Records, rows: list[Row], format: Format, settings: TextSettings
) -> tuple[str, ...]:
    """Notes on the first rows. Raises `UserError` where they show that the settings are wrong."""
    words = Counter(row.detail for row in rows if isinstance(row, Refusal))
    if format is Format.JSONL and body.lstrip()[:1] == b"[" and words["json"]:
        raise UserError(f"{path} is one JSON array, not an object per line; convert it: jq -c '.[]' FILE > NEW.jsonl")
    if words["encoding"] >= _FEW and not any(
        _is_foreign(body, records, i) for i, row in enumerate(rows) if _is_good(row)
    ):
        raise UserError(_other_encoding(path, f"{words['encoding']} of the first {len(rows)} rows are", settings))
    if rows and sum(words.values()) == len(rows):
        word, count = words.most_common(1)[0]
        raise UserError(
            f"{path}: none of the first {len(rows)} rows can be read ({count} × source.malformed {word}); "
            f"{_ADVICE.get(word, 'check the file')}"
        )
    return tuple(
        f"{path}: {n} of the first {len(rows)} rows will be source.malformed ({word})" for word, n in words.items()
    )


def _is_good(row: Row) -> bool:
    """Whether it was read."""
    return not isinstance(row, Refusal)


def _is_foreign(body: bytes, records: Records, number: int) -> bool:
    return not body[records.starts[number] : records.stops[number]].isascii()


def _other_encoding(path: str, what: str, settings: TextSettings) -> str:
    return (
        f"{path}: {what} not {settings.encoding}; if it is a Western file, --set source.encoding=cp1252, "
        f"else name its encoding there (`file {path}` may know it)"
    )


def _schema(names: tuple[str, ...], rows: list[Row], format: Format) -> pa.Schema:
    """Names with types: all text, but for JSON what the first rows hold; text again where they disagree."""
    if format is not Format.JSONL:
        return pa.schema([pa.field(name, pa.string()) for name in dict.fromkeys(names)])
    values: dict[str, list[object]] = {}
    for row in rows:
        if isinstance(row, dict):
            for name, value in row.items():
                values.setdefault(name, []).append(value)
    return pa.schema([pa.field(name, _inferred(found)) for name, found in values.items()])


def _inferred(values: list[object]) -> pa.DataType:
    try:
        return pa.infer_type(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return pa.string()
