"""One thing that is wrong with a corpus: where, what was found and expected, and what to do next.

`guarded` and `capped` keep a check alive on any input: what a damaged file makes a check throw becomes a problem of that
file, and a file with ten thousand problems lists twenty. Not here: the checks (`validate`, `check_unit`).
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from schemas.errors import CorpusError

MAX_LISTED_PER_FILE = 20

_Result = TypeVar("_Result")


class Severity(StrEnum):
    """error: a promise of the format is broken. orphan: a file that no record names. note: worth knowing, breaks nothing."""

    ERROR = "error"
    ORPHAN = "orphan"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `message` says what was found and expected, `todo` the next thing to do.

    file: name in the corpus. unit: ordinal. key: of the sample or row. byte: offset in the file. Absent where none applies.
    """

    severity: Severity
    message: str
    todo: str
    file: str | None = None
    unit: int | None = None
    key: str | None = None
    byte: int | None = None

    def __str__(self) -> str:
        place = [self.file, self.unit is not None and f"unit {self.unit}", self.key is not None and f"key {self.key}"]
        place.append(self.byte is not None and f"byte {self.byte}")
        return f"{self.severity}: {', '.join(str(p) for p in place if p)}: {self.message}. {self.todo}"


Checks = Generator[Problem, None, _Result]


def guarded(checks: Checks[_Result], *, file: str, unit: int | None = None, todo: str) -> Checks[_Result | None]:
    """The problems of `checks`, then its result; None, and one more problem, if the file makes it throw.

    Any exception counts: the input is whatever lies on disk, and one damaged file must not hide the others.
    """
    try:
        return (yield from checks)
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            message = "the file is missing"
        elif isinstance(error, CorpusError):
            message = str(error).removeprefix(f"{file}: ")
        else:
            message = f"it cannot be read ({type(error).__name__}: {error})"
        yield Problem(Severity.ERROR, message, todo, file=file, unit=unit)
        return None


def capped(problems: Iterable[Problem], *, file: str, unit: int | None = None) -> Iterator[Problem]:
    """The first `MAX_LISTED_PER_FILE` problems of a file, then how many more there are."""
    more = 0
    for number, problem in enumerate(problems):
        if number < MAX_LISTED_PER_FILE:
            yield problem
        else:
            more += 1
    if more:
        todo = "Do what the problems listed above say"
        yield Problem(Severity.ERROR, f"{more} more problems in this file are not listed", todo, file=file, unit=unit)
