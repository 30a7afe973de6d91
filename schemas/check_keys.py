"""Check keys between units: other columns hold those of `samples`, and no key is held twice.

A unit's own keys name it (`check_unit`), so two units can only share one if a retry is among them: its samples keep the keys
of their origin. Those are remembered, 24 bytes each, and compared with their units of origin at the end.
"""

from array import array
from collections.abc import Iterator
from itertools import groupby, zip_longest
from typing import NamedTuple

import numpy as np

from schemas.corpus import SAMPLES, Corpus, record_name
from schemas.errors import CorpusError
from schemas.index import Index
from schemas.problem import Checks, Problem, Severity
from schemas.record import Content
from schemas.sample import make_key, split_key
from schemas.storage import Storage
from schemas.sweep import find_record


class Place(NamedTuple):
    """Where a key stands: the index file, the key, the row of its unit."""

    file: str
    key: str
    row: int


def places(storage: Storage, content: Content) -> Iterator[Place]:
    """Every key of a unit in order, one index in memory at a time; none of parts without an index."""
    for part in content.parts:
        if part.index is not None:
            for row in Index.parse(storage.read(part.index.name), name=part.index.name).rows():
                yield Place(part.index.name, row.key, row.row)


def check_aligned(corpus: Corpus, content: Content) -> Checks[None]:
    """The same keys in the same order as `samples`: the first that differs. Columns without an index have none to compare."""
    if any(part.index is None for part in content.parts):
        return
    name, unit = record_name(content.column, content.unit), content.unit
    samples = find_record(corpus, SAMPLES, unit)
    if samples is None:
        message = f"unit {unit} has no record in {SAMPLES} to be aligned with"
        yield Problem(Severity.ERROR, message, "Restore the record of the samples from a copy", name, unit)
        return
    pairs = zip_longest(places(corpus.storage, samples.content), places(corpus.storage, content))
    for position, (expected, found) in enumerate(pairs):
        if (expected and expected[1:]) != (found and found[1:]):
            here = f"{found.key} (row {found.row})" if found else "missing"
            there = f"{expected.key} (row {expected.row})" if expected else "missing"
            message = f"sample {position} of the unit is {here}, in {SAMPLES} it is {there}"
            todo = f"Restore the file from a copy; or delete {name}, and the column is made again"
            key = found.key if found else expected and expected.key
            yield Problem(Severity.ERROR, message, todo, found.file if found else name, unit, key)
            return


class RetriedKeys:
    """The keys that retries hold."""

    def __init__(self) -> None:
        self._origins, self._rows, self._holders = array("q"), array("q"), array("q")

    def add(self, keys: list[str], *, unit: int) -> None:
        """Remember the keys of a retry's samples."""
        for key in keys:
            try:
                origin, row = split_key(key)
            except CorpusError:
                continue  # not in the plan either, which `check_unit` reports
            self._origins.append(origin)
            self._rows.append(row)
            self._holders.append(unit)

    def check(self, corpus: Corpus) -> Iterator[Problem]:
        """Every key that a retry holds and another unit too."""
        origins, rows, holders = (np.array(numbers) for numbers in (self._origins, self._rows, self._holders))
        order = np.lexsort((holders, rows, origins)).tolist()
        for origin, group in groupby(order, key=lambda i: self._origins[i]):
            held = yield from _rows_of(corpus, origin)
            last: tuple[int, int] | None = None
            for i in group:
                row, holder = self._rows[i], self._holders[i]
                first = origin if row in held else last[1] if last is not None and last[0] == row else None
                if first is not None:
                    yield _twice(make_key(origin, row), first, holder)
                last = (row, holder)


def _rows_of(corpus: Corpus, unit: int) -> Checks[set[int]]:
    try:
        record = find_record(corpus, SAMPLES, unit)
        if record is not None:
            return {place.row for place in places(corpus.storage, record.content)}
    except Exception:
        return set()  # the record or an index is damaged: reported with its own unit, which is of this column too
    message = "later units retry rows of this unit, but it has no record"
    yield Problem(Severity.ERROR, message, "Restore the record from a copy", record_name(SAMPLES, unit), unit)
    return set()


def _twice(key: str, first: int, second: int) -> Problem:
    message = f"units {first} and {second} both hold this key, which a corpus holds once"
    todo = f"Restore the plan and the records of both units from a copy; readers see the sample of unit {first}"
    return Problem(Severity.ERROR, message, todo, record_name(SAMPLES, second), second, key)
