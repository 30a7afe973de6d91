"""Commits: two attempts at once, zombies, and sweeps in between; one record wins, and what it names is there."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schemas.corpus import SAMPLES, Corpus
from schemas.errors import CorpusError
from schemas.plan import Unit
from schemas.record import Record
from schemas.sample import make_key
from schemas.shard_reader import CorpusReader
from schemas.storage import LocalStorage
from schemas.validate import sweep, validate
from tests.small_corpora import ROWS, RUN, Builder


def on(builder: Builder, storage: LocalStorage) -> Builder:
    """The same corpus through another storage."""
    return Builder(Corpus(storage, builder.corpus.manifest))


def errors(builder: Builder) -> list[str]:
    return [str(problem) for problem in validate(builder.corpus) if problem.severity == "error"]


def orphans(builder: Builder) -> list[str]:
    return [str(problem.file) for problem in validate(builder.corpus) if problem.severity == "orphan"]


def at_once(*attempts: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(len(attempts))

    def run(attempt: Callable[[], Any]) -> Any:
        barrier.wait()
        return attempt()

    with ThreadPoolExecutor(len(attempts)) as pool:
        return list(pool.map(run, attempts))


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncing to disk is most of the time of a thousand small commits, and no part of who wins."""
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.mark.parametrize("salts", [("", ""), ("one", "two")])
@pytest.mark.usefixtures("unsynced")
def test_of_two_attempts_at_once_one_record_wins_a_thousand_times(
    new_builder: Callable[[str], Builder], salts: tuple[str, str]
) -> None:
    builder = new_builder("corpus")
    builder.plan(500)
    for unit in range(500):
        first, second = at_once(*[lambda unit=unit, salt=salt: builder.commit(unit, salt=salt) for salt in salts])
        assert first == second == builder.corpus.record(SAMPLES, unit)
    salt_of = dict.fromkeys(range(500), "")
    for stored in CorpusReader(builder.corpus):
        unit = int(stored.sample.key[:8])
        found = next(salt for salt in salts if builder.sample(stored.sample.key, salt=salt)[0] == stored.sample)
        assert stored.media["0.jpg"] == builder.sample(stored.sample.key, salt=found)[1][0]
        assert salt_of.setdefault(unit, found) in ("", found), "a shard mixes two attempts"
        salt_of[unit] = found
    assert builder.corpus.totals().counts.rows == 500 * ROWS
    assert errors(builder) == []
    assert bool(orphans(builder)) == (salts[0] != salts[1])
    sweep(builder.corpus)
    assert list(validate(builder.corpus)) == []


class Sleepy(LocalStorage):
    """Does something else just before the record is created, or just before the first file is published."""

    def __init__(self, builder: Builder, *, before_record: Callable[[], Any]) -> None:
        super().__init__(builder.root)
        self._before_record = before_record

    def create_from(self, local_file: Path, name: str) -> None:
        if name.startswith("records/"):
            self._before_record()
        super().create_from(local_file, name)


def test_a_zombie_that_publishes_late_loses_and_its_files_are_swept(builder: Builder) -> None:
    zombie = builder.writer(0)
    with zombie:
        for row in (0, 1, 3):
            zombie.write(*builder.sample(make_key(0, row), salt="late"), row=row)
        winner = builder.commit(0)
        assert sweep(builder.corpus) == []
        assert zombie.commit(builder.rejects(0), rows=ROWS, images_asked=ROWS, run=RUN) == winner
    assert builder.corpus.record(SAMPLES, 0) == winner
    late = orphans(builder)
    assert [Path(name).suffix for name in late] == [".arrow", ".tar"]
    assert sweep(builder.corpus) == late
    assert list(validate(builder.corpus)) == []


def test_a_sweep_between_publishing_and_losing_takes_only_the_loser(builder: Builder) -> None:
    winner: list[Record] = []

    def meanwhile() -> None:
        winner.append(builder.commit(0))
        assert len(sweep(builder.corpus)) == 2

    late = on(builder, Sleepy(builder, before_record=meanwhile))
    assert late.commit(0, salt="late") == winner[0]
    assert list(validate(builder.corpus)) == []


def age_all(builder: Builder, seconds: float = 100.0) -> None:
    stamp = time.time() - seconds
    for path in builder.root.rglob("*"):
        if path.is_file():
            os.utime(path, (stamp, stamp))


def test_an_attempt_that_slept_through_a_sweep_of_abandoned_files_cannot_commit(builder: Builder) -> None:
    def meanwhile() -> None:
        age_all(builder)
        assert len(sweep(builder.corpus, abandoned_after_seconds=10)) >= 4

    sleeper = on(builder, Sleepy(builder, before_record=meanwhile))
    with pytest.raises(
        CorpusError, match=r"unit 0 of samples: .*record\.json is gone, swept as abandoned.*Build the unit again"
    ):
        sleeper.commit(0)
    assert builder.files("records", "samples", "rejects") == {}
    assert builder.commit(0) == builder.corpus.record(SAMPLES, 0)
    assert list(validate(builder.corpus)) == []


def test_files_swept_while_an_equal_attempt_was_about_to_commit_are_put_back(builder: Builder) -> None:
    """The old files of a dead attempt were found, not published; then the sweep took them."""

    def meanwhile() -> None:
        for folder in ("samples", "rejects/samples"):
            for entry in builder.corpus.storage.list(folder):
                builder.corpus.storage.delete(entry.name)

    record = on(builder, Sleepy(builder, before_record=meanwhile)).commit(0)
    assert builder.corpus.record(SAMPLES, 0) == record
    assert list(validate(builder.corpus)) == []


def test_a_sweep_never_takes_a_file_that_a_commit_names(builder: Builder) -> None:
    """Commits, losers, and sweeps of every kind, all at once."""
    builder.plan_more(*(Unit(n, "m.parquet", "f", 0, ROWS) for n in range(3, 60)))
    stop = threading.Event()
    swept: list[str] = []

    def sweep_all() -> None:
        while not stop.is_set():
            swept.extend(sweep(builder.corpus))
            swept.extend(sweep(builder.corpus, abandoned_after_seconds=3600.0))

    def build(salt: str) -> Callable[[], None]:
        def run() -> None:
            for unit in range(60):
                builder.commit(unit, salt=salt)

        return run

    with ThreadPoolExecutor(1) as pool:
        sweeping = pool.submit(sweep_all)
        try:
            at_once(build("one"), build("two"))
        finally:
            stop.set()
        sweeping.result()
    swept += sweep(builder.corpus)
    named = {file.name for record in builder.corpus.records() for file in record.content.files}
    assert not named & set(swept)
    assert list(validate(builder.corpus)) == []


def test_a_commit_after_the_listing_protects_its_files(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep has seen the files without a record, and is about to delete them, when the record comes."""
    record = builder.commit(0)
    path = builder.root / "records/samples/0000/00000000.json"
    data = path.read_bytes()
    path.unlink()
    age_all(builder)
    real, asked = Corpus.record, []

    def late(self: Corpus, column: str, unit: int) -> Record | None:
        found = real(self, column, unit)
        if not asked:
            asked.append(unit)
            path.write_bytes(data)
        return found

    monkeypatch.setattr(Corpus, "record", late)
    assert sweep(builder.corpus, abandoned_after_seconds=10) == []
    assert builder.corpus.record(SAMPLES, 0) == record
    assert list(validate(builder.corpus)) == []
