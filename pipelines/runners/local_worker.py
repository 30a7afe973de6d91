"""The worker's side of the local runner: the process that builds units, and the messages that it and its driver exchange.

Not here: starting, watching and replacing such processes (`local`).
"""

import errno
import gc
import os
import signal
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection

from pipelines.build import Progress, Stopped, place_of
from pipelines.worker import Assignment, Job, Worker
from schemas.errors import UserError
from schemas.record import Content, Record

BEAT_SECONDS = 0.5

# No space, quota or file size reached, read-only, not permitted: every unit would fail alike, so the run stops.
_OURS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's sign of life: rows opened and closed of every unit in hand."""

    progress: dict[int, Progress]


@dataclass(frozen=True, slots=True)
class Done:
    """A unit is committed."""

    content: Content

    @property
    def ordinal(self) -> int:
        """Of the unit."""
        return self.content.unit


@dataclass(frozen=True, slots=True)
class Failed:
    """A unit cannot be built; `fatal` if every other unit would fail in the same way."""

    ordinal: int
    cause: str
    fatal: bool


def work(connection: Connection, job: Job) -> None:
    """The worker process: build what the driver sends, until it says stop or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    voice = _Voice(connection)
    with Worker(job) as worker:
        _spare_the_collector()
        threading.Thread(target=_beat, args=(worker, voice), daemon=True).start()
        while True:
            try:
                assignment: Assignment | None = connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # the driver is gone: nobody waits for what is in hand
            if assignment is None:
                return
            future = worker.submit(assignment)
            future.add_done_callback(partial(voice.say_outcome, worker, assignment.unit.ordinal))


def _spare_the_collector() -> None:
    """What is imported stays: cycles are looked for only among what rows make, and seldom. It was 5 % of a worker's CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class _Voice:
    """A worker's end of the connection, for several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def say(self, message: Beat | Done | Failed) -> None:
        """Send, or end the process if the driver is gone."""
        try:
            with self._lock:
                self._connection.send(message)
        except OSError:
            os._exit(1)

    def say_outcome(self, worker: Worker, ordinal: int, done: Future[Record]) -> None:
        """Tell how a unit ended; one that was stopped is not spoken of."""
        message = outcome(done, ordinal)
        if message is not None:
            self.say(message)
        worker.forget(ordinal)


def _beat(worker: Worker, voice: _Voice) -> None:
    while True:
        voice.say(Beat(snapshot(worker)))
        time.sleep(BEAT_SECONDS)


def snapshot(worker: Worker) -> dict[int, Progress]:
    """The progress of every unit in hand, as it is now."""
    return {o: replace(p, reasons=dict(p.reasons)) for o, p in list(worker.progress.items())}


def outcome(done: Future[Record], ordinal: int) -> Done | Failed | None:
    """How a unit ended, in a message; None if it was stopped."""
    if done.cancelled():
        return None
    error = done.exception()
    if error is None:
        return Done(done.result().content)
    if isinstance(error, Stopped):
        return None
    if isinstance(error, UserError):
        return Failed(ordinal, str(error), fatal=False)
    if isinstance(error, OSError):
        fatal = error.errno in _OURS
        return Failed(
            ordinal, f"the corpus cannot be written: {error}; committed units are safe, run again", fatal=fatal
        )
    return Failed(ordinal, f"{error} ({place_of(error)})", fatal=False)
