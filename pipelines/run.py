"""Run a pipeline: begin or resume a corpus, build what is missing on some engine, and say what came of it.

    check settings and files -> manifest -> plan -> runner maps `build_unit` over what has no record -> segments -> card

The same call begins, resumes, and, once all is committed, does nothing. Not here: engines (`runners`), what is shown (`jobs`).
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.build import Progress
from pipelines.feed import Failure, UnitFeed
from pipelines.pipeline import Pipeline
from pipelines.plan import extend_plan, refuse_overlap
from pipelines.worker import Job, RunSettings
from schemas.card import write_card
from schemas.claims import Claims
from schemas.corpus import SAMPLES, Corpus, Manifest
from schemas.errors import UserError
from schemas.plan import Unit
from schemas.record import Totals


class Runner(Protocol):
    """An engine: it maps `build_unit` over the feed's units, and only that."""

    @property
    def name(self) -> str:
        """What records call it."""

    def run(
        self, job: Job, feed: UnitFeed, *, watch: Callable[[dict[int, Progress]], None], stop: threading.Event
    ) -> None:
        """Build until the feed is finished or `stop` is set; `watch` sees the units in hand now and then."""


@dataclass(frozen=True, slots=True)
class Status:
    """A run while it goes on. units_committed counts earlier runs too; totals and in_hand are this run's.

    rows_planned: of the units that this run found missing; None where only reading tells.
    """

    units_planned: int
    units_committed: int
    rows_planned: int | None
    totals: Totals
    in_hand: dict[int, Progress]
    seconds: float

    @property
    def rows_closed(self) -> int:
        """Rows that this run has turned into samples or rejects, units in hand included."""
        return self.totals.counts.rows + sum(progress.closed for progress in self.in_hand.values())

    @property
    def samples(self) -> int:
        """Samples that this run has made, units in hand included."""
        return self.totals.counts.samples + sum(progress.samples for progress in self.in_hand.values())

    @property
    def reasons(self) -> dict[str, int]:
        """Reasons for rejected rows so far, the most frequent first."""
        counts = dict(self.totals.reasons.get("row", {}))
        for progress in self.in_hand.values():
            for reason, count in progress.reasons.items():
                counts[reason] = counts.get(reason, 0) + count
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. totals: of the whole corpus. pending: units without a record, failures among them."""

    corpus: Corpus
    totals: Totals
    units_planned: int
    pending: int
    failures: tuple[Failure, ...]
    stopped: bool
    seconds: float
    built: Totals = field(default_factory=Totals)


def run(
    pipeline: Pipeline,
    corpus_url: str,
    *,
    runner: Runner,
    settings: RunSettings,
    name: str | None = None,
    observe: Callable[[Status], None] | None = None,
    stop: threading.Event | None = None,
) -> RunResult:
    """Build every planned unit that has no record yet.

    Raises `UserError`, before any work, for settings, files and folders that cannot serve, and for a changed recipe or source.
    """
    corpus, units = prepare(pipeline, corpus_url, name=name, settings=settings)
    stop = stop or threading.Event()
    started = time.monotonic()
    committed = corpus.committed(SAMPLES)
    missing = [unit for unit in units if unit.ordinal not in committed]
    rows_planned = _sum_or_none([unit.rows for unit in missing])
    job = Job(pipeline, corpus.url, settings, engine=runner.name)
    claims = Claims(corpus.storage, uuid.uuid4().hex)
    feed = UnitFeed(corpus, claims, missing, max_attempts=settings.max_attempts, start=_place(missing, claims=claims))

    def watch(in_hand: dict[int, Progress]) -> None:
        if observe is not None:
            done = len(committed) + feed.num_done
            observe(Status(len(units), done, rows_planned, feed.totals, in_hand, time.monotonic() - started))

    try:
        if missing:
            runner.run(job, feed, watch=watch, stop=stop)
    finally:
        claims.release()
    if not feed.halted:
        _derive(corpus)
    return RunResult(
        corpus=corpus,
        totals=corpus.totals(SAMPLES),
        units_planned=len(units),
        pending=len(units) - len(corpus.committed(SAMPLES)),
        failures=tuple(feed.failures.values()),
        stopped=stop.is_set(),
        seconds=time.monotonic() - started,
        built=feed.totals,
    )


def prepare(
    pipeline: Pipeline, corpus_url: str, *, name: str | None, settings: RunSettings
) -> tuple[Corpus, list[Unit]]:
    """Check everything that can be checked before work, open or begin the corpus, and bring its plan up to date."""
    refuse_overlap(corpus_url, getattr(pipeline.source, "paths", ()))
    pipeline.check()
    job = Job(pipeline, corpus_url, settings, engine="")
    if job.fetches and not job.fetch_settings.contact:
        raise UserError(
            "nothing is fetched without a contact that site owners can write to: --contact mailto:you@example.org"
        )
    manifest = Manifest(name or pipeline.name, pipeline.recipe())
    try:
        corpus = Corpus.create(corpus_url, manifest)
        return corpus, extend_plan(corpus, pipeline)
    except OSError as error:
        raise UserError(
            f"{corpus_url} cannot be written: {error}; choose another folder, or mend its permissions"
        ) from None


def _derive(corpus: Corpus) -> None:
    """Segments and card, from the records. Raises `UserError` if they cannot be written; what is committed stays so."""
    try:
        corpus.compact_records(SAMPLES)
        write_card(corpus)
    except OSError as error:
        raise UserError(
            f"{corpus.url}: every unit built is committed, but the card cannot be written: {error}; make room and run again"
        ) from None


def _place(missing: Sequence[Unit], *, claims: Claims) -> int:
    """Where to begin: at the first unit when alone, anywhere when others are at work."""
    return random.randrange(len(missing)) if missing and claims.others(SAMPLES) else 0


def _sum_or_none(rows: Sequence[int | None]) -> int | None:
    known = [count for count in rows if count is not None]
    return sum(known) if len(known) == len(rows) else None
