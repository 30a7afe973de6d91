"""The default engine: worker processes on this machine, started fresh (`spawn`), replaced when they die.

    driver                                   worker process, one for each core
      feed.take()      -- Assignment -->       builds it in a thread
      feed.done()      <-- Done ----------     committed
      feed.failed()    <-- Failed --------     cannot be built
      watchdog         <-- Beat ----------     rows opened and closed, twice a second
      feed.lost()      (death, or a beat that stands still)

A worker whose driver is gone ends at once; what it had in hand commits nothing. Not here: the worker's side (`local_worker`),
which unit is next (`feed`), what is shown (`jobs`).
"""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pipelines.build import Progress
from pipelines.feed import UnitFeed
from pipelines.runners.local_worker import BEAT_SECONDS, Beat, Done, Failed, outcome, snapshot, work
from pipelines.worker import Job, Worker
from schemas.errors import UserError

_STOP_SECONDS = 5.0
_MAX_STILLBORN = 3

Watch = Callable[[dict[int, Progress]], None]


class LocalRunner:
    """Maps units over processes of this machine; `workers` 0 builds in this process, for debugging."""

    name = "local"

    def run(self, job: Job, feed: UnitFeed, *, watch: Watch, stop: threading.Event) -> None:
        """Build until the feed is finished or `stop` is set. `watch` sees the units in hand about twice a second.

        Ends early if every unit would fail alike (disk full, no permission). Raises `UserError` if workers cannot start.
        """
        if job.settings.workers == 0:
            _run_here(job, feed, watch=watch, stop=stop)
            return
        with _crew(job) as crew:
            while not feed.finished and not stop.is_set():
                crew.assign(feed)
                crew.listen(feed)
                crew.bury_the_dead(feed)
                crew.kill_the_stalled()
                feed.tick()
                watch(crew.progress())


@dataclass(slots=True)
class _Hand:
    """A worker process as its driver sees it.

    moved_at: per unit in hand, when its progress last changed, in monotonic seconds. stalled: units the watchdog killed it for.
    """

    process: SpawnProcess
    connection: Connection
    ready: bool = False
    progress: dict[int, Progress] = field(default_factory=dict)
    moved_at: dict[int, float] = field(default_factory=dict)
    stalled: frozenset[int] = frozenset()


class _Crew:
    """The worker processes of a run."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._context = multiprocessing.get_context("spawn")
        self._stillborn = 0
        self._hands = [self._hire() for _ in range(job.settings.workers)]

    def assign(self, feed: UnitFeed) -> None:
        """Give every worker as many units as it may have in hand, the first to the least busy."""
        for _ in range(self._job.settings.units_per_worker):
            for hand in sorted(self._hands, key=lambda h: len(h.moved_at)):
                if len(hand.moved_at) >= self._job.settings.units_per_worker:
                    continue
                assignment = feed.take()
                if assignment is None:
                    return
                hand.moved_at[assignment.unit.ordinal] = time.monotonic()
                with suppress(OSError):  # a worker that has just died is found by its sentinel
                    hand.connection.send(assignment)

    def listen(self, feed: UnitFeed) -> None:
        """Take what workers have to say, waiting for half a beat at most."""
        connections = {hand.connection: hand for hand in self._hands}
        sentinels = [hand.process.sentinel for hand in self._hands]
        for speaker in wait([*connections, *sentinels], timeout=BEAT_SECONDS / 2):
            if isinstance(speaker, Connection):
                hand = connections[speaker]
                with suppress(EOFError, OSError):
                    while speaker.poll():
                        self._hear(hand, speaker.recv(), feed)

    def bury_the_dead(self, feed: UnitFeed) -> None:
        """Replace workers that have died; their units are lost."""
        for position, hand in enumerate(self._hands):
            if hand.process.is_alive():
                continue
            with suppress(EOFError, OSError):  # what it said before it died
                while hand.connection.poll():
                    self._hear(hand, hand.connection.recv(), feed)
            for ordinal in list(hand.moved_at):
                feed.lost(ordinal, self._cause(hand), blamed=not hand.stalled or ordinal in hand.stalled)
            hand.connection.close()
            self._stillborn = 0 if hand.ready else self._stillborn + 1
            if self._stillborn >= _MAX_STILLBORN:
                raise UserError(
                    f"worker processes die before they are ready ({_exit_words(hand.process.exitcode)}); see above"
                )
            self._hands[position] = self._hire()

    def kill_the_stalled(self) -> None:
        """Kill a worker that holds a unit without progress for too long; its other units begin anew without blame."""
        limit = self._job.settings.stall_seconds
        for hand in self._hands:
            hand.stalled = frozenset(o for o, moved_at in hand.moved_at.items() if time.monotonic() - moved_at > limit)
            if hand.stalled:
                hand.process.kill()
                hand.process.join()

    def progress(self) -> dict[int, Progress]:
        """The units in hand of all workers."""
        return {ordinal: progress for hand in self._hands for ordinal, progress in hand.progress.items()}

    def stop(self) -> None:
        """Ask every worker to stop, wait a little, and kill those that do not."""
        for hand in self._hands:
            with suppress(OSError):
                hand.connection.send(None)
        deadline = time.monotonic() + _STOP_SECONDS
        for hand in self._hands:
            hand.process.join(max(0.0, deadline - time.monotonic()))
            if hand.process.is_alive():
                hand.process.kill()
                hand.process.join()
            hand.connection.close()

    def _hear(self, hand: _Hand, message: Beat | Done | Failed, feed: UnitFeed) -> None:
        hand.ready = True
        match message:
            case Beat(progress):
                progress = {o: now for o, now in progress.items() if o in hand.moved_at}  # ends are spoken of first
                for ordinal, now in progress.items():
                    if hand.progress.get(ordinal) != now:
                        hand.moved_at[ordinal] = time.monotonic()
                hand.progress = progress
            case Done() | Failed():
                self._let_go(hand, message.ordinal)
                _settle(message, feed)

    def _cause(self, hand: _Hand) -> str:
        if hand.stalled:
            return f"no row was finished in {self._job.settings.stall_seconds:g} s, so its worker was killed"
        return f"its worker process died ({_exit_words(hand.process.exitcode)})"

    @staticmethod
    def _let_go(hand: _Hand, ordinal: int) -> None:
        hand.moved_at.pop(ordinal, None)
        hand.progress = {o: p for o, p in hand.progress.items() if o != ordinal}

    def _hire(self) -> _Hand:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, self._job), name="emu-worker", daemon=False)
        with _ctrl_c_held():
            process.start()
        theirs.close()
        return _Hand(process, ours)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """A process started inside is born deaf to Ctrl-C; otherwise one in the second that its imports take is a traceback."""
    resource_tracker.ensure_running()  # started by the first process otherwise, and its start lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _crew(job: Job) -> Iterator[_Crew]:
    crew = _Crew(job)
    try:
        yield crew
    finally:
        crew.stop()


def _run_here(job: Job, feed: UnitFeed, *, watch: Watch, stop: threading.Event) -> None:
    """One unit at a time in this process: for debuggers, and for tests that look inside."""
    with Worker(job) as worker:
        while not feed.finished and not stop.is_set():
            feed.tick()
            assignment = feed.take()
            if assignment is None:
                time.sleep(BEAT_SECONDS)
                continue
            future = worker.submit(assignment)
            while not futures.wait([future], timeout=BEAT_SECONDS / 2).done and not stop.is_set():
                watch(snapshot(worker))
                feed.tick()
            if future.done():
                _settle(outcome(future, assignment.unit.ordinal), feed)
            worker.forget(assignment.unit.ordinal)


def _settle(message: Done | Failed | None, feed: UnitFeed) -> None:
    """Tell the feed how a unit ended."""
    match message:
        case Done():
            feed.done(message.content)
        case Failed():
            feed.failed(message.ordinal, message.cause, fatal=message.fatal)


def _exit_words(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
