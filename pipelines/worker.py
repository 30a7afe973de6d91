"""What one worker process holds: the web (if its steps fetch), its decoders, and threads that each build one unit at a time.

Every runner starts workers from the same `Job` and hands them units. Not here: processes and messages (`runners`), which unit is
next (`feed`).
"""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from pipelines.build import Progress, Tools, build_unit
from pipelines.fetch.client import Web
from pipelines.fetch.offline import Offline
from pipelines.fetch.policy import FetchPolicy, FetchSettings
from pipelines.media.decoder import Decoder
from pipelines.pipeline import Pipeline
from pipelines.steps.images import Fetch
from schemas.corpus import Corpus
from schemas.plan import Unit
from schemas.record import Record
from schemas.shard_writer import MAX_PART_BYTES


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How a run goes about its units. Nothing here decides content.

    workers: processes; 0 builds in this process. units_per_worker: units in hand at a time in each, so that the slow tail of one
    idles nobody. rows_in_flight: of one unit. decode_threads: of one worker. stall_seconds: a unit without progress for longer is
    taken from its worker. max_attempts: a unit that fails as often is named and left out.
    """

    workers: int = field(default_factory=_cores)
    units_per_worker: int = 2
    rows_in_flight: int = 256
    decode_threads: int = 2
    stall_seconds: float = 300.0
    max_attempts: int = 3
    max_part_bytes: int = MAX_PART_BYTES
    fetch: FetchSettings = field(default_factory=lambda: FetchSettings(contact=""))


@dataclass(frozen=True, slots=True)
class Job:
    """All a worker needs to begin, on whatever machine it is started."""

    pipeline: Pipeline
    corpus_url: str
    settings: RunSettings
    engine: str

    @property
    def fetches(self) -> bool:
        """Whether any step asks the web for something."""
        return any(isinstance(step, Fetch) for step in self.pipeline.steps)

    @property
    def fetch_policy(self) -> FetchPolicy:
        """What the recipe's `fetch` step allows."""
        return next((step.policy for step in self.pipeline.steps if isinstance(step, Fetch)), FetchPolicy())

    @property
    def fetch_settings(self) -> FetchSettings:
        """The run's settings, with the recipe's contact where the run gives none."""
        contact = next((step.contact for step in self.pipeline.steps if isinstance(step, Fetch)), "")
        settings = self.settings.fetch
        return settings if settings.contact else replace(settings, contact=contact)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A unit to build: which try this is, and whether every decode is to happen in the helper process."""

    unit: Unit
    attempt: int = 1
    isolated: bool = False


class Worker:
    """Builds units in threads; `progress` is what a watchdog looks at."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._corpus = Corpus.open(job.corpus_url)
        self._stopping = threading.Event()
        self._web = Web(job.fetch_settings, job.fetch_policy) if job.fetches else Offline()
        self._decoders: dict[bool, Decoder] = {}
        self._threads = ThreadPoolExecutor(max(1, job.settings.units_per_worker), thread_name_prefix="unit")
        self._lock = threading.Lock()
        self.progress: dict[int, Progress] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._web.close()
        for decoder in self._decoders.values():
            decoder.close()

    def submit(self, assignment: Assignment) -> Future[Record]:
        """Build a unit in a thread of its own. The future raises what `build_unit` raises."""
        self.progress[assignment.unit.ordinal] = Progress()
        return self._threads.submit(self._build, assignment)

    def forget(self, ordinal: int) -> None:
        """Drop the progress of a unit whose end is known to whoever reports."""
        self.progress.pop(ordinal, None)

    def stop(self) -> None:
        """Let every unit in hand end soon with `Stopped`."""
        self._stopping.set()

    def _build(self, assignment: Assignment) -> Record:
        settings = self._job.settings
        tools = Tools(
            web=self._web,
            decoder=self._decoder(isolated=assignment.isolated),
            rows_in_flight=settings.rows_in_flight,
            max_part_bytes=settings.max_part_bytes,
            stopping=self._stopping,
        )
        return build_unit(
            self._job.pipeline,
            assignment.unit,
            corpus=self._corpus,
            tools=tools,
            engine=self._job.engine,
            attempt=assignment.attempt,
            progress=self.progress[assignment.unit.ordinal],
        )

    def _decoder(self, *, isolated: bool) -> Decoder:
        with self._lock:
            if isolated not in self._decoders:
                self._decoders[isolated] = Decoder(threads=self._job.settings.decode_threads, always_in_helper=isolated)
            return self._decoders[isolated]
