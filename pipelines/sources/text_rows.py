"""Rows of text tables: the settings by which they are read, and what their bytes become.

A row of csv or tsv is a dict of strings, an empty cell being null; one of jsonl, what its object holds; one of txt, its line. A row
that cannot be read is refused alone, as `source.malformed` with one of these words:

    quotes    the quoting is broken (`records` says how much one odd quote can cost)
    too_long  longer than 16 MiB
    cells     not as many cells as there are columns
    encoding  not in the encoding of the settings; nothing is guessed or replaced
    json      not a JSON object
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.sources.formats import Format
from pipelines.sources.records import LineSplitter, QuotedSplitter, Records, Splitter, split_fields
from schemas.reasons import Reason, Refusal

Row = dict[str, Any] | Refusal

_DELIMITERS = {Format.CSV: ",", Format.TSV: "\t"}
_ASCII = bytes(range(128))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How text tables are read.

    header: names of the columns, for csv and tsv without a row of names. quoted: whether fields of csv and tsv may stand in double
    quotes. encoding: of the characters. line: the column that a line of a txt file is.
    """

    header: tuple[str, ...] = ()
    quoted: bool = True
    encoding: str = "utf-8"
    line: str = "url"


def known_encoding(name: str) -> str:
    """The usual name of an encoding. Raises `ValueError` for one that is not there, or in which ASCII is not ASCII."""
    try:
        if _ASCII.decode(name) == _ASCII.decode("ascii"):
            return codecs.lookup(name).name
    except (LookupError, UnicodeError):
        pass
    raise ValueError(f"found {name!r}, expected an encoding that contains ASCII, such as utf-8, cp1252 or gb18030")


def is_table(format: Format) -> bool:
    """Whether rows are cells in columns: csv and tsv."""
    return format in _DELIMITERS


def splitter(format: Format, settings: TextSettings, *, width: int | None) -> Splitter:
    """The grammar of a file's records. width: number of its columns, None to look for its header."""
    if is_table(format) and settings.quoted:
        return QuotedSplitter(_DELIMITERS[format], width)
    return LineSplitter()


def cells(record: str, format: Format, settings: TextSettings) -> list[str]:
    """The cells of a record of csv or tsv."""
    delimiter = _DELIMITERS[format]
    return split_fields(record, delimiter) if settings.quoted else record.split(delimiter)


class RowParser:
    """Makes rows of records. columns: those that are wanted, None for all."""

    def __init__(
        self, format: Format, settings: TextSettings, *, names: Sequence[str], columns: Iterable[str] | None = None
    ) -> None:
        self._format = format
        self._settings = settings
        self._width = len(names)
        self._wanted = set(names if columns is None else columns)
        self._every = columns is None
        self._places = [(number, name) for number, name in enumerate(names) if name in self._wanted]

    def rows(self, data: bytes, records: Records) -> Iterator[Row]:
        """The rows of a piece of a file, in order."""
        bounds = zip(records.starts.tolist(), records.stops.tolist(), strict=True)
        for number, (start, stop) in enumerate(bounds):
            word = records.broken.get(number)
            yield self._row(data[start:stop]) if word is None else Refusal(Reason.SOURCE_MALFORMED, word)

    def _row(self, raw: bytes) -> Row:
        try:
            text = raw.decode(self._settings.encoding)
        except UnicodeDecodeError:
            return Refusal(Reason.SOURCE_MALFORMED, "encoding")
        if self._format is Format.TXT:
            return {self._settings.line: text}
        return self._object(text) if self._format is Format.JSONL else self._cells(text)

    def _cells(self, text: str) -> Row:
        found = cells(text, self._format, self._settings)
        if len(found) != self._width:
            return Refusal(Reason.SOURCE_MALFORMED, "cells")
        return {name: found[number] or None for number, name in self._places}

    def _object(self, text: str) -> Row:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            return Refusal(Reason.SOURCE_MALFORMED, "json")
        return found if self._every else {name: value for name, value in found.items() if name in self._wanted}
