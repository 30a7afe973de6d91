"""What all commands share in speaking to a person: consoles, numbers, tables of counts, and text that came from the web.

Results go to stdout, progress and errors to stderr. Whatever the web wrote passes `shown`: a caption may hold the
escape sequences that move a cursor, rename a window or hide what follows. Not here: what is said.
"""

import io
import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

_BAR_CELLS = 30
_BLANKS_AT_END = re.compile(r" +(?=\n)")
_KEPT_CONTROLS = "\n"
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def console() -> Console:
    """Stdout: results."""
    return _console(stderr=False)


def error_console() -> Console:
    """Stderr: progress and errors."""
    return _console(stderr=True)


def shown(text: str) -> str:
    """Text from outside, with every character that is not seen as itself written as its escape; line ends are kept."""
    return "".join(_visible(character) for character in text)


def print_json(value: Any) -> None:
    """One line of JSON on stdout, for scripts; numbers that JSON does not have are null, what it has no type for is text.

    JSON escapes what stands below the blank; eight-bit control characters, marks that turn text around and lone surrogates it
    lets through, so they are escaped here. The value stays the same.
    """
    print(_NOT_PLAIN.sub(_escaped, json.dumps(_finite(value), ensure_ascii=False, default=str)))


def count(number: int) -> str:
    """`1,204`."""
    return f"{number:,}"


def size(number_bytes: float) -> str:
    """Bytes as a person reads them, in powers of ten: `55 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number_bytes < 1000:
            return f"{number_bytes:.3g} {unit}" if number_bytes < 100 else f"{number_bytes:.0f} {unit}"
        number_bytes /= 1000
    return f"{number_bytes:,.1f} TB"


def duration(seconds: float) -> str:
    """`12 s`, `4 min`, `3 h 20 min`, `2 days 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def share(part: int, whole: int) -> str:
    """A part in percent; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def bars(counts: Mapping[str, int], *, whole: int, most: int | None = None) -> Table:
    """Counts as rows with bars, the largest first; what exceeds `most` rows is one row, so the sum stays what it was."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if most is not None and len(ordered) > most:
        rest = ordered[most - 1 :]
        ordered = [*ordered[: most - 1], (f"{len(rest)} others", sum(number for _, number in rest))]
    table = Table.grid(padding=(0, 2))
    largest = max(counts.values(), default=1) or 1
    for name, number in ordered:
        bar = "█" * min(_BAR_CELLS, max(1, round(_BAR_CELLS * number / largest))) if number else ""
        table.add_row(Text(f"  {shown(name)}"), Text(count(number), justify="right"), share(number, whole), bar)
    return table


def rows(pairs: Iterable[tuple[str, str]]) -> Table:
    """A heading and its value on each line."""
    table = Table.grid(padding=(0, 2))
    for heading, value in pairs:
        table.add_row(Text(shown(heading), style="bold"), Text(value))
    return table


def listed(names: Sequence[str], *, most: int = 8) -> str:
    """`a, b, c and 4 more`."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def _visible(character: str) -> str:
    if character in _KEPT_CONTROLS or unicodedata.category(character) not in _HIDDEN:
        return character
    if character in "\u200c\u200d":  # joiners: scripts and emoji need them, and they hide nothing
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _console(*, stderr: bool) -> Console:
    made = Console(stderr=stderr, highlight=False)
    if made.is_terminal:
        return made
    # A log has no width: lines end where their words do.
    stream = cast(TextIO, _Trimmed(sys.stderr if stderr else sys.stdout))
    return Console(file=stream, highlight=False, width=400, soft_wrap=True)


class _Trimmed(io.TextIOBase):
    """A stream without the blanks that tables leave at the end of lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream: rich chooses its characters by it."""
        return self._stream.encoding or "utf-8"

    def write(self, text: str) -> int:
        """Write through."""
        self._stream.write(_BLANKS_AT_END.sub("", text))
        return len(text)

    def flush(self) -> None:
        """Flush through."""
        self._stream.flush()


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return json.dumps(character)[1:-1] if unicodedata.category(character) in _HIDDEN else character


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
