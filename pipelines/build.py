"""`build_unit`: one unit of a plan becomes one committed shard. Every runner maps this function and nothing else.

    rows -> parse -> opening pure steps      in the calling thread
         -> the other steps                  on the worker's loop, many rows at once
         -> spool, in order of completion    in the calling thread
    then commit, in order of rows

What a sample can throw is caught, counted as `internal` and named by its place; what the disk or the source throws fails the unit,
which then commits nothing. Not here: which units (plan), trying again (runners).
"""

import platform
import queue
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from pipelines.fetch.budget import Lease
from pipelines.fetch.client import Body, Web
from pipelines.fetch.offline import Offline
from pipelines.ledger import Ledger
from pipelines.media.decoder import Decoder
from pipelines.media.image import ImageHeader, Rendered, RenderSpec
from pipelines.pipeline import Draft, DraftImage, Pipeline, PureStep, Step
from schemas.corpus import SAMPLES, Corpus
from schemas.plan import Unit
from schemas.reasons import Reason, Refusal, Refused
from schemas.record import Record, RunInfo
from schemas.sample import make_key
from schemas.shard_writer import MAX_PART_BYTES, ShardWriter

_OURS = ("pipelines", "schemas", "jobs", "emu_model")
_PAUSE_SECONDS = 0.02
_TOOLCHAIN = ("numpy", "opencv-python-headless", "Pillow", "pyarrow", "simplejpeg", "ftfy")


class Stopped(Exception):
    """The run was asked to stop; the unit in hand commits nothing and is built again by the next run."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the units of one worker process share. rows_in_flight: of one unit; max_part_bytes: of one tar."""

    web: Web | Offline
    decoder: Decoder
    rows_in_flight: int = 256
    max_part_bytes: int = MAX_PART_BYTES
    stopping: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class Progress:
    """How far a unit is, written by its builder and read by whoever reports: rows opened and closed, samples, reasons so far."""

    opened: int = 0
    closed: int = 0
    samples: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A row that has gone through its steps: the draft, or why not, and the images it lost on the way."""

    key: str
    row: int
    draft: Draft
    result: Draft | Refusal
    lost: tuple[tuple[DraftImage, Refusal], ...]
    asked: int


def build_unit(
    pipeline: Pipeline,
    unit: Unit,
    *,
    corpus: Corpus,
    tools: Tools,
    engine: str,
    attempt: int = 1,
    progress: Progress | None = None,
) -> Record:
    """Build and commit one unit; return the record that counts, which may be that of an earlier attempt. Thread-safe.

    Raises `Stopped` if the run is stopping, `UserError` if the source cannot be read, `OSError` if the corpus cannot be written.
    """
    committed = corpus.record(SAMPLES, unit.ordinal)
    if committed is not None:
        return committed
    started = time.time()
    writer = ShardWriter(
        corpus,
        column=SAMPLES,
        unit=unit.ordinal,
        recipe_hash=pipeline.recipe_hash,
        max_part_bytes=tools.max_part_bytes,
    )
    with writer:
        ledger = _UnitBuild(pipeline, unit, tools=tools, writer=writer, progress=progress or Progress()).run()
        info = RunInfo(
            started_unix_seconds=round(started, 3),
            seconds=round(time.time() - started, 3),
            engine=engine,
            attempt=attempt,
            machine=platform.node(),
            toolchain=toolchain(),
        )
        return writer.commit(ledger.rejects, rows=ledger.rows, images_asked=ledger.images_asked, run=info)


def toolchain() -> dict[str, str]:
    """Versions of what decides bytes, by package."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _TOOLCHAIN}


class _UnitBuild:
    """The state of one `build_unit` call: rows are opened by this thread, finished on the loop, and closed by this thread."""

    def __init__(
        self, pipeline: Pipeline, unit: Unit, *, tools: Tools, writer: ShardWriter, progress: Progress
    ) -> None:
        self._pipeline = pipeline
        self._unit = unit
        self._tools = tools
        self._writer = writer
        self._progress = progress
        self._ledger = Ledger()
        self._opening, self._remaining = _split(pipeline.steps)
        self._done: queue.SimpleQueue[Future[_Finished]] = queue.SimpleQueue()
        self._in_flight: set[Future[_Finished]] = set()

    def run(self) -> Ledger:
        """Take every row of the unit through the steps; on any error, nothing of it is left running."""
        try:
            for position, row in enumerate(self._pipeline.source.rows(self._unit)):
                if self._tools.stopping.is_set():
                    raise Stopped
                self._open(row, position)
                if len(self._in_flight) >= self._tools.rows_in_flight:
                    self._make_room()
            while self._in_flight:
                self._close(self._next_done())
        finally:
            for future in list(self._in_flight):
                future.cancel()
        return self._ledger

    def _make_room(self) -> None:
        """Close what is done, some fifty times a second: a wake-up for every row costs a quarter of a millisecond of CPU."""
        while len(self._in_flight) >= self._tools.rows_in_flight:
            time.sleep(_PAUSE_SECONDS)
            self._close(self._next_done())
            while not self._done.empty():
                self._close(self._done.get())

    def _open(self, row: object, position: int) -> None:
        number = self._ledger.open_row()
        key = self._unit.keys[position] if self._unit.keys is not None else make_key(self._unit.ordinal, position)
        origin_row = self._unit.first_row + position
        self._progress.opened += 1
        parsed = _guarded(lambda: self._pipeline.source.parse(row, key=key, origin_row=origin_row, unit=self._unit))
        if isinstance(parsed, Refusal):
            self._ledger.reject_row(parsed, key=key, row=number, draft=None)
            self._count(parsed)
            return
        draft, result = parsed, parsed.refusal or self._apply_opening(parsed)
        if isinstance(result, Refusal) or not self._remaining:
            self._settle(_Finished(key, number, draft, result, lost=(), asked=len(draft.images)))
            return
        work = _RowWork(self._tools, asked=len(draft.images))
        future = self._tools.web.submit(_finish(result, self._remaining, work, key=key, row=number))
        self._in_flight.add(future)
        future.add_done_callback(self._done.put)

    def _apply_opening(self, draft: Draft) -> Draft | Refusal:
        result: Draft | Refusal = draft
        for step in self._opening:
            result = _guarded(lambda step=step, draft=result: step.map(draft))  # type: ignore[misc]
            if isinstance(result, Refusal):
                break
        return result

    def _next_done(self) -> Future[_Finished]:
        while True:
            try:
                return self._done.get(timeout=0.2)
            except queue.Empty:
                if self._tools.stopping.is_set():
                    raise Stopped from None

    def _close(self, future: Future[_Finished]) -> None:
        self._in_flight.discard(future)
        self._settle(future.result())

    def _settle(self, finished: _Finished) -> None:
        """Write a row's sample, or put it and its images into the rejects."""
        self._ledger.ask_images(finished.asked)
        for image, refusal in finished.lost:
            self._ledger.reject_image(image, refusal, key=finished.key, row=finished.row)
        if isinstance(finished.result, Refusal):
            self._ledger.reject_row(finished.result, key=finished.key, row=finished.row, draft=finished.draft)
            self._count(finished.result)
            return
        sample, media = finished.result.to_sample()
        self._writer.write(sample, media, row=finished.row)
        self._progress.samples += 1
        self._progress.closed += 1

    def _count(self, refusal: Refusal) -> None:
        reasons = self._progress.reasons
        reasons[refusal.reason.value] = reasons.get(refusal.reason.value, 0) + 1
        self._progress.closed += 1


class _RowWork:
    """`Work` for one row: its fetched bytes are held until it ends."""

    def __init__(self, tools: Tools, *, asked: int) -> None:
        self._tools = tools
        self._lease: Lease = tools.web.lease()
        self.asked = asked
        self.lost: list[tuple[DraftImage, Refusal]] = []

    def ask(self, images: int) -> None:
        """See `Work.ask`."""
        self.asked += images

    def refuse_image(self, image: DraftImage, refusal: Refusal) -> None:
        """See `Work.refuse_image`."""
        self.lost.append((image, refusal))

    async def fetch(self, url: str) -> Body:
        """See `Work.fetch`."""
        return await self._tools.web.fetch(url, lease=self._lease)

    async def read_header(self, body: bytes, *, max_pixels: int) -> ImageHeader:
        """See `Work.read_header`."""
        return await self._tools.decoder.read_header(body, max_pixels=max_pixels)

    async def render(self, body: bytes, spec: RenderSpec) -> Rendered:
        """See `Work.render`."""
        return await self._tools.decoder.render(body, spec)

    def release(self) -> None:
        """Give back what the row held."""
        self._lease.close()


async def _finish(draft: Draft, steps: tuple[Step, ...], work: _RowWork, *, key: str, row: int) -> _Finished:
    """Take one row through its remaining steps, on the loop."""
    result: Draft | Refusal = draft
    seen = draft
    try:
        for step in steps:
            result = await step.apply(seen, work)
            if isinstance(result, Refusal):
                break
            seen = result
    except Refused as refused:
        result = refused.refusal
    except Exception as error:  # whatever a sample can throw costs that sample, never its unit
        result = _internal(error)
    finally:
        work.release()
    if isinstance(result, Refusal):
        seen = Draft(draft.key, draft.source, draft.segments, _bare(seen.images))
    return _Finished(key, row, seen, result, lost=tuple(work.lost), asked=work.asked)


def _bare(images: tuple[DraftImage, ...]) -> tuple[DraftImage, ...]:
    """The images as the rejects name them; their bytes need not wait for the row to be closed."""
    return tuple(DraftImage(image.ordinal, image.url) for image in images)


def _guarded(call: Callable[[], Draft | Refusal]) -> Draft | Refusal:
    try:
        return call()
    except Refused as refused:
        return refused.refusal
    except Exception as error:  # as in `_finish`
        return _internal(error)


def place_of(error: BaseException) -> str:
    """Type and innermost place of ours, `ZeroDivisionError:filters.map`; without line numbers, which differ between releases."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(Path(frame.filename))]
    place = f"{Path(frames[-1].filename).stem}.{frames[-1].name}" if frames else "unknown"
    return f"{type(error).__name__}:{place}"


def _is_library(file: Path) -> bool:
    """Whether a file belongs to Python or a library: steps of a recipe may come from anywhere else."""
    paths = sysconfig.get_paths()
    if file.is_relative_to(Path(__file__).parents[1]) and file.parts[len(Path(__file__).parents[1].parts)] in _OURS:
        return False
    return file.is_relative_to(paths["stdlib"]) or file.is_relative_to(paths["purelib"])


def _internal(error: Exception) -> Refusal:
    word = "".join(c for c in place_of(error) if c.isascii() and (c.isalnum() or c in "_.:<>"))
    return Refusal(Reason.INTERNAL, word[:120])


def _split(steps: tuple[Step, ...]) -> tuple[tuple[PureStep, ...], tuple[Step, ...]]:
    """The pure steps that open a recipe, and the rest."""
    opening: list[PureStep] = []
    for step in steps:
        if not isinstance(step, PureStep):
            break
        opening.append(step)
    return tuple(opening), steps[len(opening) :]
