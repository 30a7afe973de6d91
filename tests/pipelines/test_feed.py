"""The feed hands out each unit once, tries lost ones again, and leaves to other launchers what they are at."""

from pathlib import Path

import pytest

from pipelines import feed as feed_module
from pipelines.feed import UnitFeed
from schemas.claims import Claims
from schemas.corpus import SAMPLES, Corpus, Manifest
from schemas.plan import Unit
from schemas.record import Content, Counts, Record, RunInfo


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.create(str(tmp_path / "corpus"), Manifest("c", {}))


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_TICK_SECONDS", 0.0)


def units(count: int) -> list[Unit]:
    return [Unit(ordinal, "m.parquet", "f", ordinal * 10, 10) for ordinal in range(count)]


def new_feed(corpus: Corpus, count: int, *, name: str = "one", start: int = 0, max_attempts: int = 3) -> UnitFeed:
    return UnitFeed(corpus, Claims(corpus.storage, name), units(count), max_attempts=max_attempts, start=start)


def content(unit: int, samples: int = 10) -> Content:
    counts = Counts(rows=samples, samples=samples)
    return Content(SAMPLES, unit, "hash", counts, parts=(), rejects=None)


def take_all(feed: UnitFeed) -> list[int]:
    taken = []
    while (assignment := feed.take()) is not None:
        taken.append(assignment.unit.ordinal)
    return taken


def test_every_unit_is_handed_out_once_from_its_start_round(corpus: Corpus) -> None:
    assert take_all(new_feed(corpus, 5, start=3)) == [3, 4, 0, 1, 2]


def test_totals_add_up_what_is_done_and_nothing_twice(corpus: Corpus) -> None:
    feed = new_feed(corpus, 2)
    take_all(feed)

    for unit in (0, 1, 1):
        feed.done(content(unit, samples=10 + unit))

    assert feed.finished
    assert (feed.totals.units, feed.totals.counts.samples) == (2, 21)


def test_a_lost_unit_comes_next_with_decoding_apart_until_its_attempts_are_used_up(corpus: Corpus) -> None:
    feed = new_feed(corpus, 2, max_attempts=2)
    feed.take()
    feed.lost(0, "its worker process died (signal SIGSEGV)")

    again = feed.take()
    assert again is not None
    assert (again.unit.ordinal, again.attempt, again.isolated) == (0, 2, True)

    feed.lost(0, "its worker process died (signal SIGSEGV)")
    assert take_all(feed) == [1]
    assert (feed.failures[0].attempts, feed.failures[0].cause) == (2, "its worker process died (signal SIGSEGV)")


def test_a_unit_that_is_not_to_blame_keeps_its_attempts(corpus: Corpus) -> None:
    feed = new_feed(corpus, 1, max_attempts=1)
    feed.take()
    feed.lost(0, "no row was finished", blamed=False)

    again = feed.take()

    assert again is not None
    assert (again.attempt, again.isolated) == (1, False)


def test_a_unit_that_would_fail_again_is_given_up_at_once(corpus: Corpus) -> None:
    feed = new_feed(corpus, 1)
    feed.take()
    feed.failed(0, "the file is damaged")

    assert feed.finished
    assert feed.failures[0].cause == "the file is damaged"


def test_units_that_another_launcher_is_at_wait_until_it_lets_go(corpus: Corpus) -> None:
    other = Claims(corpus.storage, "two")
    other.renew(SAMPLES, [1, 2])
    feed = new_feed(corpus, 4)
    assert take_all(feed) == [0, 3]
    assert not feed.finished

    other.release()
    feed.tick()

    assert sorted(take_all(feed)) == [1, 2]


def test_units_that_another_launcher_has_committed_are_dropped(corpus: Corpus) -> None:
    other = Claims(corpus.storage, "two")
    other.renew(SAMPLES, [1])
    feed = new_feed(corpus, 2)
    assert take_all(feed) == [0]

    corpus.create_record(Record(content(1), RunInfo(0, 0, "t")))
    other.release()
    feed.tick()
    feed.done(content(0))

    assert take_all(feed) == []
    assert feed.finished


def test_what_is_in_hand_is_claimed_and_let_go(corpus: Corpus) -> None:
    feed = new_feed(corpus, 2)
    feed.take()
    feed.tick()
    assert Claims(corpus.storage, "two").others(SAMPLES) == {0}

    feed.done(content(0))
    feed.tick()

    assert Claims(corpus.storage, "two").others(SAMPLES) == set()
