r"""Where the records of a text table begin and end, found in its bytes at the speed of a scan.

Plain lines: a record ends at LF or CR LF. Quoted tables (csv, and tsv if so set) follow RFC 4180 strictly:

    record = field *(delimiter field) (LF / CR LF / end of the file)
    field  = DQUOTE *(any byte but DQUOTE / 2DQUOTE) DQUOTE      a delimiter or the end of the record must follow at once
           / any bytes that do not begin with DQUOTE and hold neither delimiter nor LF

So LF may stand inside quotes, and a quote inside an unquoted field is an ordinary character; so is a CR without LF. Empty lines
are no records. One bad row must not swallow the file, and one odd quote turns the meaning of every later quote. Therefore a
record that breaks the grammar, or has several lines and another number of fields than the header, or is longer than
`MAX_RECORD_LINES` lines, costs its first line, which is refused (`quotes`); reading goes on at the second. A line or record of
more than `MAX_RECORD_BYTES` is refused too (`too_long`). Where a record begins depends only on where the one before it began,
so a unit that is read alone finds the records that planning found. Not here: characters and values (`text_files`).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

MAX_RECORD_BYTES = 16 << 20
MAX_RECORD_LINES = 1000

_LF, _CR, _QUOTE = 10, 13, 34
_BROKEN, _UNDECIDED = -1, -2

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Records:
    """Records found in a piece of bytes: where the content of each starts and stops, without its line end.

    broken: numbers of those that are refused, with a word why. used: bytes that these records and empty lines take up.
    """

    starts: Offsets
    stops: Offsets
    used: int
    broken: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a file with its records. offset: of the piece in the file, in bytes."""

    offset: int
    data: bytes
    records: Records


class Splitter(Protocol):
    """A grammar of records."""

    def split(self, data: bytes, *, final: bool) -> Records:
        """Records of `data`, which begins where a record does. One cut off by its end is left, unless this is the `final` piece."""


def read_blocks(read: Callable[[int], bytes], splitter: Splitter, *, offset: int, block_bytes: int) -> Iterator[Block]:
    """Blocks of records up to the end of what `read` gives. offset: of the first byte that it gives. Memory stays flat.

    block_bytes: how much is read at a time; more only while a single record is longer.
    """
    data = b""
    while True:
        more = read(max(block_bytes, len(data)))
        data = data + more if data else more
        records = splitter.split(data, final=not more)
        if records.used == 0 and len(data) > MAX_RECORD_BYTES:  # no line end in sight
            zero = np.zeros(1, np.int64)
            yield Block(offset, b"", Records(zero, zero, 0, {0: "too_long"}))
            used, data = _skip_line(read, len(data))
            offset += used
            continue
        yield Block(offset, data, records)
        if not more:
            return
        offset += records.used
        data = data[records.used :]


@dataclass(frozen=True, slots=True)
class LineSplitter:
    """Every line is a record."""

    def split(self, data: bytes, *, final: bool) -> Records:
        """See `Splitter.split`."""
        lines = _Lines.of(data, final=final)
        return lines.records(np.ones(len(lines.starts), bool), {})


@dataclass(frozen=True, slots=True)
class QuotedSplitter:
    """Fields may stand in double quotes. width: fields of a good record, None while the header is looked for."""

    delimiter: str
    width: int | None

    def split(self, data: bytes, *, final: bool) -> Records:
        """See `Splitter.split`. A scan proves of most lines that they are records if they begin one; the others are matched."""
        lines = _Lines.of(data, final=final)
        begins = np.ones(len(lines.starts), bool)
        broken: dict[int, str] = {}
        after = 0
        for line in np.flatnonzero(~self._are_whole(lines)).tolist():
            if line < after:
                continue  # within a record of several lines
            at = int(lines.starts[line])
            end = self._match(data, at, final=final)
            if end == _UNDECIDED:
                return lines.before(line).records(begins[:line], broken)
            if end == _BROKEN:
                broken[line] = "quotes"
                after = line + 1
            else:
                after = int(np.searchsorted(lines.starts, end))
                begins[line + 1 : after] = False
        return lines.records(begins, broken)

    def _are_whole(self, lines: "_Lines") -> npt.NDArray[np.bool_]:
        """Lines without a quoted field, or whose quotes follow the grammar to the end of the line."""
        quotes = _find(lines.data[: lines.used], _QUOTE)
        if len(quotes) == 0:
            return np.ones(len(lines.starts), bool)
        line = np.searchsorted(lines.ends, quotes)
        is_closing = (np.arange(len(quotes)) - np.searchsorted(quotes, lines.starts)[line]) % 2 == 1
        doubled = quotes[1:] == quotes[:-1] + 1
        # As if a line stood before, and something behind, so that every quote has neighbours; shifts offsets by one.
        padded = np.frombuffer(b"\n" + lines.data + b"\0\0", np.uint8)
        before, after, second = padded[quotes], padded[quotes + 2], padded[quotes + 3]
        begins_field = (before == ord(self.delimiter)) | (before == _LF)
        ends_line = (after == _LF) | ((after == _CR) & (second == _LF)) | (quotes == len(lines.data) - 1)
        may_open = begins_field | np.append(False, doubled)
        may_close = (after == ord(self.delimiter)) | ends_line | np.append(doubled, False)
        is_bad = ~np.where(is_closing, may_close, may_open)
        num_quotes, num_bad, num_quoted = (
            np.bincount(line[which], minlength=len(lines.starts)) for which in (slice(None), is_bad, begins_field)
        )
        whole: npt.NDArray[np.bool_] = (num_quoted == 0) | ((num_bad == 0) & (num_quotes % 2 == 0))
        return whole

    def _match(self, data: bytes, start: int, *, final: bool) -> int:
        """Where the record that begins at `start` ends, or `_BROKEN`, or `_UNDECIDED` if that depends on bytes to come."""
        match = _record_pattern(self.delimiter, final).match(data, start)
        if match is not None:
            return match.end() if self._is_good(data, start, match.end()) else _BROKEN
        return _UNDECIDED if not final and self._is_undecided(data, start) else _BROKEN

    def _is_undecided(self, data: bytes, start: int) -> bool:
        """Whether more bytes could still make a good record of what begins at `start` and does not match yet."""
        fields = _fields_pattern(self.delimiter).match(data, start)
        at = fields.end() if fields is not None else start
        if data[at : at + 1] == b'"':
            closing = _QUOTED.match(data, at)
            if closing is not None and len(data) - closing.end() >= 2:
                return False  # something else than a delimiter or a line end follows the closing quote
        return len(data) - start <= MAX_RECORD_BYTES and data.count(b"\n", start) <= MAX_RECORD_LINES

    def _is_good(self, data: bytes, start: int, end: int) -> bool:
        """Whether a record that matches the grammar can be meant: see the head of this file."""
        num_breaks = data.count(b"\n", start, max(start, end - 1))
        if num_breaks == 0 or self.width is None:
            return True
        content = data[start : _without_line_end(data, start, end)].decode("latin-1")
        return (
            num_breaks < MAX_RECORD_LINES
            and end - start <= MAX_RECORD_BYTES
            and len(split_fields(content, self.delimiter)) == self.width
        )


def split_fields(record: str, delimiter: str) -> list[str]:
    """The fields of a record that follows the grammar, without their quotes."""
    if '"' not in record:
        return record.split(delimiter)
    fields: list[str] = []
    at = 0
    while True:
        quoted = _QUOTED_TEXT.match(record, at)
        if quoted is not None:
            end = quoted.end()
            fields.append(record[at + 1 : end - 1].replace('""', '"'))
        else:
            end = record.find(delimiter, at)
            end = len(record) if end < 0 else end
            fields.append(record[at:end])
        if end >= len(record):
            return fields
        at = end + 1


# Possessive throughout: no byte is looked at twice, and no pile of states grows with a field.
_QUOTED_SOURCE = '"[^"]*+(?:""[^"]*+)*+"'
_QUOTED_TEXT = re.compile(_QUOTED_SOURCE)
_QUOTED = re.compile(_QUOTED_SOURCE.encode())


def _field_source(delimiter: str) -> str:
    stop = re.escape(delimiter)
    return f'(?:{_QUOTED_SOURCE}|[^"{stop}\n][^{stop}\n]*+)?+'


def _record_pattern(delimiter: str, final: bool) -> re.Pattern[bytes]:
    end = r"(?:\r?\n|\Z)" if final else r"\r?\n"
    one = _field_source(delimiter)
    return re.compile(f"{one}(?:{re.escape(delimiter)}{one})*+{end}".encode())  # `re` keeps what it has compiled


def _fields_pattern(delimiter: str) -> re.Pattern[bytes]:
    """As many whole fields, each with the delimiter behind it, as there are."""
    return re.compile(f"(?:{_field_source(delimiter)}{re.escape(delimiter)})*+".encode())


def _find(data: bytes, byte: int) -> Offsets:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == byte)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of some bytes: where they start, and where the LF that ends them stands. used: bytes that they take up."""

    data: bytes
    starts: Offsets
    ends: Offsets
    used: int

    @classmethod
    def of(cls, data: bytes, *, final: bool) -> "_Lines":
        """Lines that are ended; of a `final` piece, its last one too."""
        ends = _find(data, _LF)
        used = data.rfind(b"\n") + 1
        if final and used < len(data):
            used = len(data)
            ends = np.append(ends, used)
        return cls(data, np.append(0, ends[:-1] + 1)[: len(ends)], ends, used)

    def before(self, line: int) -> "_Lines":
        """Those before a line."""
        return _Lines(self.data, self.starts[:line], self.ends[:line], int(self.starts[line]))

    def records(self, begins: npt.NDArray[np.bool_], broken: dict[int, str]) -> Records:
        """Records that begin at some of the lines and go on to the next. broken: by line. Empty lines are left out."""
        first = np.flatnonzero(begins)
        starts = self.starts[first]
        ends = self.ends[np.append(first[1:], len(begins))[: len(first)] - 1]
        stops = ends - self._has_cr(ends)
        filled = stops > starts
        first, starts, ends, stops = first[filled], starts[filled], ends[filled], stops[filled]
        words = {int(np.searchsorted(first, line)): word for line, word in broken.items()}
        too_long = np.flatnonzero(ends + 1 - starts > MAX_RECORD_BYTES).tolist()
        return Records(starts, stops, self.used, words | dict.fromkeys(too_long, "too_long"))

    def _has_cr(self, ends: Offsets) -> npt.NDArray[np.bool_]:
        """Whether a line ends in CR LF; a CR that no LF follows is content."""
        if b"\r\n" not in self.data:
            return np.zeros(len(ends), bool)
        padded = np.frombuffer(b"\n" + self.data, np.uint8)
        has_cr: npt.NDArray[np.bool_] = (padded[ends] == _CR) & (ends < len(self.data))
        return has_cr


def _without_line_end(data: bytes, start: int, end: int) -> int:
    if end > start and data[end - 1] == _LF:
        end -= 1
        if end > start and data[end - 1] == _CR:
            end -= 1
    return end


def _skip_line(read: Callable[[int], bytes], used: int) -> tuple[int, bytes]:
    """Read on to the end of a line of which `used` bytes are read. Gives its length, and what was read behind it."""
    while more := read(1 << 20):
        end = more.find(b"\n") + 1
        if end:
            return used + end, more[end:]
        used += len(more)
    return used, b""
