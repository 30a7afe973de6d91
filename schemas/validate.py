"""`emu validate`: does a corpus keep every promise of `docs/format.md`? And `sweep`, which is its `--fix`.

Manifest, plan, then each column: every record with every file it names (`check_unit`), copies of records in segments, keys
between units (`check_keys`), files that no record names (`sweep`); last the views. Whatever lies on disk, a check ends in
problems and never in a traceback, and a damaged file hides no other. Memory is that of one unit, of the plan, and of the keys of
retries. Not here: repairing; a damaged file comes back from a copy, or its unit is built again.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath

from schemas import canonical
from schemas.check_keys import RetriedKeys, check_aligned
from schemas.check_unit import UnitCheck
from schemas.corpus import CORPUS_FORMAT, MANIFEST, SAMPLES, Corpus, read_segment, record_name, segment_of
from schemas.errors import CorpusError, UserError
from schemas.plan import Unit, generation_name, generations, read_generation
from schemas.problem import Checks, Problem, Severity, capped, guarded
from schemas.range_file import RangeFile
from schemas.record import Content, Record
from schemas.sample import split_key
from schemas.storage import Entry, Storage
from schemas.sweep import Unnamed, find_record, sweep, unnamed_files
from schemas.views import VIEWS, open_view

__all__ = ["Problem", "Severity", "sweep", "validate"]

_RESTORE = "Restore the file from a copy"


def validate(corpus: Corpus, *, column: str | None = None, quick: bool = False) -> Iterator[Problem]:
    """Every problem of the corpus, as it is found; none if there is none.

    column: only this one, with manifest and plan. quick: sizes, counts, keys and layout; reads no tar and hashes nothing.
    Raises `UserError`, naming the columns that exist, if it has no such column.
    """
    columns = corpus.columns()
    if column is not None and column not in {SAMPLES, *columns}:
        raise UserError(f"{corpus.url} has no column {column!r}; it has {', '.join(columns) or 'none'}")
    return _validate(corpus, columns if column is None else [column], column=column, quick=quick)


def _validate(corpus: Corpus, columns: list[str], *, column: str | None, quick: bool) -> Iterator[Problem]:
    yield from guarded(_check_manifest(corpus), file=MANIFEST, todo=_RESTORE)
    plan = Plan()
    yield from guarded(_check_plan(corpus, plan), file="plan", todo=_RESTORE)
    for name in columns:
        check = ColumnCheck(corpus, name, plan, quick=quick)
        yield from guarded(check.run(), file=f"records/{name}", todo=_RESTORE)
    yield from guarded(_check_unnamed(corpus, column), file=corpus.url, todo=_RESTORE)
    if column is None:
        for entry in corpus.storage.list(VIEWS):
            yield from guarded(_check_view(corpus, plan, entry.name), file=entry.name, todo=_RESTORE)


def _check_manifest(corpus: Corpus) -> Checks[None]:
    manifest = Corpus.open(corpus.url).manifest
    yield from _check_canonical(corpus, canonical.dumps(asdict(manifest)), MANIFEST)
    expected = canonical.sha256_of(manifest.recipe)
    if manifest.recipe_hash != expected:
        message = f"recipe_hash is {manifest.recipe_hash}, but that of its recipe is {expected}"
        yield Problem(Severity.ERROR, message, _RESTORE, MANIFEST)


def _check_canonical(corpus: Corpus, expected: bytes, name: str) -> Iterator[Problem]:
    """A field that reads as absent because its name is damaged is noticed by this alone; newer minor versions may have others."""
    if corpus.manifest.format == CORPUS_FORMAT and corpus.storage.read(name) != expected:
        message = f"it is not in canonical form, or has fields that {CORPUS_FORMAT} does not know"
        yield Problem(Severity.ERROR, message, _RESTORE, name)


# The plan


@dataclass(slots=True)
class Plan:
    """The units that could be read, by ordinal. whole: all generations could, so that any other unit is a stranger."""

    units: dict[int, Unit] = field(default_factory=dict)
    whole: bool = True
    generations: int = 0

    def find(self, unit: int, storage: Storage) -> Unit | None:
        """A unit; a launcher may have planned it since the plan was read."""
        if unit not in self.units and self.whole:
            for name in generations(storage)[self.generations :]:
                self.units.update({found.ordinal: found for found in read_generation(storage, name)})
                self.generations += 1
        return self.units.get(unit)

    def refuses(self, key: str) -> str | None:
        """Why no unit can have made this key, or None if one can, or if the plan is not whole enough to say."""
        ordinal, row = split_key(key)
        unit = self.units.get(ordinal)
        if unit is None:
            return f"unit {ordinal} is not planned" if self.whole else None
        if unit.keys is not None:
            return f"unit {ordinal} retries keys of other units and has none of its own"
        return f"unit {ordinal} has {unit.rows} rows" if unit.rows is not None and row >= unit.rows else None


def _check_plan(corpus: Corpus, plan: Plan) -> Checks[None]:
    for number, name in enumerate(generations(corpus.storage)):
        if name != generation_name(number):
            plan.whole = False
            message = f"it comes where {generation_name(number)} is due: the plan has a hole"
            yield Problem(Severity.ERROR, message, "Restore the missing generation from a copy", name)
            return
        whole = yield from guarded(_check_generation(corpus, plan, name), file=name, todo=_RESTORE)
        plan.whole = plan.whole and bool(whole)
        plan.generations += 1
    for unit in plan.units.values():
        yield from capped(_check_keys(plan, unit.keys or (), file="plan", unit=unit.ordinal), file="plan")


def _check_generation(corpus: Corpus, plan: Plan, name: str) -> Checks[bool]:
    """True if it goes on where the one before ended; after a damaged one nobody can say."""
    units = read_generation(corpus.storage, name)
    for due, unit in enumerate(units, start=len(plan.units)):
        if plan.whole and unit.ordinal != due:
            message = f"it holds unit {unit.ordinal} where {due} is due"
            yield Problem(Severity.ERROR, message, _RESTORE, name, unit.ordinal)
            return False
    plan.units.update({unit.ordinal: unit for unit in units})
    return True


def _check_keys(plan: Plan, keys: tuple[str, ...], *, file: str, unit: int | None = None) -> Iterator[Problem]:
    for key in keys:
        try:
            refusal = plan.refuses(key)
        except CorpusError as error:
            refusal = str(error)
        if refusal is not None:
            yield Problem(Severity.ERROR, f"no such key can be: {refusal}", _RESTORE, file, unit, key)


# Columns


class ColumnCheck:
    """The checks of one column: its records, the files they name, their segments, the keys of its retries."""

    def __init__(self, corpus: Corpus, column: str, plan: Plan, *, quick: bool) -> None:
        self._corpus = corpus
        self._storage = corpus.storage
        self._column = column
        self._plan = plan
        self._quick = quick
        self._first: Content | None = None
        self._retried = RetriedKeys()

    def run(self) -> Checks[None]:
        """Every problem of the column."""
        root = f"records/{self._column}"
        for folder in self._storage.folders(root):
            for entry in self._storage.list(folder):
                yield from guarded(self._record(entry), file=entry.name, todo=_RESTORE)
        for entry in self._storage.list(root):
            yield from guarded(self._segment(entry), file=entry.name, todo="Delete it: the records are still there")
        if self._column == SAMPLES:
            yield from self._retried.check(self._corpus)

    def _record(self, entry: Entry) -> Checks[None]:
        stem = PurePosixPath(entry.name).stem
        unit = int(stem) if stem.isascii() and stem.isdigit() else -1
        if entry.name != record_name(self._column, unit):
            yield Problem(Severity.NOTE, "no record of this column has such a name", "Move it elsewhere", entry.name)
            return
        record = Record.from_json(self._storage.read(entry.name), name=entry.name)
        yield from _check_canonical(self._corpus, record.to_json(), entry.name)
        content = record.content
        if (content.column, content.unit) != (self._column, unit):
            message = f"it is the record of unit {content.unit} of {content.column}"
            yield Problem(Severity.ERROR, message, _RESTORE, entry.name, unit)
            return
        planned = self._plan.find(unit, self._storage)
        if planned is None and self._plan.whole:
            yield Problem(Severity.ERROR, "its unit is not planned", "Restore the plan from a copy", entry.name, unit)
        yield from self._settings(content, entry.name)
        tally = yield from UnitCheck(self._storage, content, planned, quick=self._quick).run()
        if self._column == SAMPLES:
            self._retried.add(tally.keys, unit=unit)
        else:
            yield from guarded(check_aligned(self._corpus, content), file=entry.name, unit=unit, todo=_RESTORE)

    def _settings(self, content: Content, name: str) -> Iterator[Problem]:
        """One recipe and one model in a column: samples follow the manifest, other columns their first record."""
        self._first = self._first or content
        expected = self._corpus.manifest.recipe_hash if self._column == SAMPLES else self._first.recipe_hash
        if content.recipe_hash != expected:
            message = f"recipe_hash is {content.recipe_hash}, expected {expected}: the unit was made by other settings"
            yield Problem(Severity.ERROR, message, _RESTORE, name, content.unit)
        if content.fingerprint != self._first.fingerprint:
            message = (
                f"fingerprint is {content.fingerprint}, that of unit {self._first.unit} is {self._first.fingerprint}"
            )
            yield Problem(Severity.ERROR, message, _RESTORE, name, content.unit)

    def _segment(self, entry: Entry) -> Checks[None]:
        """A segment is a copy: every record in it must be there, byte for byte, and none of its folder be left out."""
        copies = read_segment(self._storage.read(entry.name), name=entry.name)
        yield from capped(self._copies(copies, entry.name), file=entry.name)
        units = {unit for unit, _ in copies}
        folder = f"records/{self._column}/{PurePosixPath(entry.name).stem.removeprefix('segment-')}"
        for record in self._storage.list(folder):
            stem = PurePosixPath(record.name).stem
            if stem.isascii() and stem.isdigit() and int(stem) not in units:
                message = f"it lacks the record of unit {int(stem)}"
                yield Problem(Severity.ERROR, message, "Delete it: the records are still there", entry.name, int(stem))

    def _copies(self, copies: list[tuple[int, str]], segment: str) -> Iterator[Problem]:
        for unit, copy in copies:
            name = record_name(self._column, unit)
            if segment != segment_of(self._column, unit):
                yield Problem(Severity.ERROR, f"it holds unit {unit} of another folder", "Delete it", segment, unit)
            elif self._storage.size(name) is None:
                message = f"the record is missing; {segment} holds a copy of it"
                yield Problem(Severity.ERROR, message, f"Restore it from {segment}", name, unit)
            elif self._storage.read(name) != copy.encode():
                message = f"its copy of the record of unit {unit} is not what {name} holds"
                yield Problem(Severity.ERROR, message, "Delete it if the record is sound", segment, unit)


# Files that no record names, and views


def _check_unnamed(corpus: Corpus, column: str | None) -> Checks[None]:
    for file in unnamed_files(corpus, column=column):
        yield _orphan(file)


def _orphan(file: Unnamed) -> Problem:
    if file.committed:
        message = "no record names it: it is of an attempt that lost"
        todo = "`emu validate --fix` deletes it"
    else:
        message = "its unit has no record: an attempt is under way, or was cut off"
        todo = "Nothing while a build runs; else `emu validate --fix --abandoned-after` deletes it"
    return Problem(Severity.ORPHAN, message, todo, file.entry.name, file.unit)


def _check_view(corpus: Corpus, plan: Plan, name: str) -> Checks[None]:
    if not name.endswith(".parquet"):
        yield Problem(Severity.NOTE, "no view has such a name", "Move it elsewhere", name)
        return
    parquet = open_view(RangeFile(corpus.storage, name), name=PurePosixPath(name).stem)
    batches = parquet.iter_batches(columns=["key"])
    keys = (key for batch in batches for key in batch.column("key").to_pylist())
    yield from capped(_check_view_keys(corpus, plan, keys, name), file=name)


def _check_view_keys(corpus: Corpus, plan: Plan, keys: Iterator[str], name: str) -> Iterator[Problem]:
    last, limits = (-1, -1), RowLimits(corpus, plan)
    for key in keys:
        refusals = list(_check_keys(plan, (key,), file=name))
        yield from refusals
        if refusals:
            continue
        unit, row = split_key(key)
        if (unit, row) <= last:
            yield Problem(Severity.ERROR, "it comes after a key that it should stand before", _RESTORE, name, key=key)
        last = (unit, row)
        limit = limits.of(unit)
        if limit is not None and row >= limit:
            message = f"no such key can be: unit {unit} has {limit} rows by its record"
            yield Problem(Severity.ERROR, message, _RESTORE, name, key=key)


class RowLimits:
    """How many rows a unit has where the plan does not know: only reading a compressed file tells, and its record remembers."""

    def __init__(self, corpus: Corpus, plan: Plan) -> None:
        self._corpus = corpus
        self._plan = plan
        self._last: tuple[int, int | None] = (-1, None)

    def of(self, unit: int) -> int | None:
        """By the plan, else by the record; None where neither is there to say. The last answer is kept: keys come by unit."""
        if self._last[0] != unit:
            planned = self._plan.units.get(unit)
            limit = planned.rows if planned is not None else None
            if planned is not None and limit is None:
                record = find_record(self._corpus, SAMPLES, unit)
                limit = record.content.counts.rows if record is not None else None
            self._last = (unit, limit)
        return self._last[1]
