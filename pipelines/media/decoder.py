"""Decode without holding up an event loop, without more memory than is allowed, and without dying of a picture.

JPEG, PNG and WebP are decoded in threads of this process: what they can cost is known from their headers. Every other format
goes to one helper process, whose memory, CPU time and wall clock are limited. `always_in_helper` sends everything there, which
is for the second attempt at a unit whose worker died. A helper that crashes or is late is replaced, and costs one picture.

What a helper did before must not decide about a picture: one that crashes or runs out of memory in a helper that had served
others is tried once more in a fresh one. Not here: decoding (`image`), and the helper's own side of the pipes (`helper`).
"""

import asyncio
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict

from pipelines.media.helper import HEAD, Settings
from pipelines.media.image import (
    ImageFormat,
    ImageHeader,
    Rendered,
    RenderSpec,
    read_header,
    read_layout,
    render,
    sniff,
)
from schemas.reasons import Reason, Refused

_BOOT = "import importlib, sys; sys.path[:] = sys.argv[2:-3]; importlib.import_module(sys.argv[1]).main()"
_START_SECONDS = 120.0  # a cold network disk under many starting workers
_MAX_REPLY_BYTES = 1 << 32  # a reply that claims more is no reply


class Decoder:
    """Header reading and rendering for coroutines of any event loop. One per worker process; close it, or use `with`."""

    def __init__(
        self,
        *,
        threads: int,
        always_in_helper: bool = False,
        max_pixels_in_flight: int = 300_000_000,
        helper_memory_bytes: int = 2 << 30,
        timeout_seconds: float = 30.0,
        helper_module: str = "pipelines.media.helper",
    ) -> None:
        """Start `threads` threads; the helper starts with the first picture that needs it.

        `max_pixels_in_flight` counts pixels of three bytes that decoders hold at their peak in the threads; a picture beyond it
        is decoded alone. `helper_memory_bytes` and `timeout_seconds` (of CPU and of the clock) limit one picture in the helper.
        `helper_module` has a `main()` that serves as `pipelines.media.helper` does; tests name one that crashes.
        """
        self._always_in_helper = always_in_helper
        self._budget = _Budget(max_pixels_in_flight)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._lane = _HelperLane(helper_module, memory_bytes=helper_memory_bytes, timeout_seconds=timeout_seconds)

    async def read_header(self, body: bytes, *, max_pixels: int) -> ImageHeader:
        """Format and displayed size. Raises `Refused` as `image.read_header` does, or with a crash or a timeout."""
        image_format = sniff(body)
        if self._needs_helper(image_format):
            reply, _ = await self._lane.ask({"ask": "header", "max_pixels": max_pixels}, body)
            return ImageHeader(ImageFormat(reply["format"]), int(reply["width"]), int(reply["height"]))
        if image_format is ImageFormat.JPEG:  # microseconds: fewer than it takes to hand it over
            return read_header(body, max_pixels=max_pixels)
        return await asyncio.wrap_future(self._pool.submit(read_header, body, max_pixels=max_pixels))

    async def render(self, body: bytes, spec: RenderSpec) -> Rendered:
        """The rendered picture. Raises `Refused` as `image.render` does, or with a crash or a timeout."""
        image_format = sniff(body)
        if self._needs_helper(image_format):
            reply, payload = await self._lane.ask({"ask": "render", **asdict(spec)}, body)
            return Rendered(payload, int(reply["width"]), int(reply["height"]), int(reply["phash"], 16))
        if image_format is ImageFormat.JPEG:
            _, layout = read_layout(body, max_pixels=spec.max_pixels)
        else:
            reading = self._pool.submit(read_layout, body, max_pixels=spec.max_pixels)
            _, layout = await asyncio.wrap_future(reading)
        held = await self._budget.take(layout.memory_pixels)
        try:
            rendering = self._pool.submit(render, body, spec, layout=layout)
        except RuntimeError:  # closed meanwhile
            self._budget.give(held)
            raise
        rendering.add_done_callback(lambda _: self._budget.give(held))  # a cancelled caller leaves its thread at work
        return await asyncio.wrap_future(rendering)

    def close(self) -> None:
        """End the helper and, after the pictures in hand, the threads; what still waits is cancelled."""
        self._lane.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _needs_helper(self, image_format: ImageFormat) -> bool:
        return self._always_in_helper or not image_format.is_common


class _Budget:
    """A number that callers from any thread or loop take from, first come, first served; who asks for all, gets it alone."""

    def __init__(self, limit: int) -> None:
        self._limit = self._free = limit
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._lock = threading.Lock()

    async def take(self, amount: int) -> int:
        """Wait for `amount`, or for the limit if that is less; return what was taken, to be given back."""
        amount = min(amount, self._limit)
        with self._lock:
            if not self._waiting and amount <= self._free:
                self._free -= amount
                return amount
            ticket: Future[None] = Future()
            self._waiting.append((amount, ticket))
        try:
            await asyncio.wrap_future(ticket)
        except asyncio.CancelledError:
            self.give(0 if ticket.cancel() else amount)  # it may have been admitted at the moment of its cancellation
            raise
        return amount

    def give(self, amount: int) -> None:
        with self._lock:
            self._free += amount
            while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
                wanted, ticket = self._waiting.popleft()
                if ticket.set_running_or_notify_cancel():
                    self._free -= wanted
                    ticket.set_result(None)


class _HelperLane:
    """The one thread that talks to the helper, and starts it: the kernel's death signal comes when that thread ends."""

    def __init__(self, module: str, *, memory_bytes: int, timeout_seconds: float) -> None:
        self._module = module
        self._memory_bytes = memory_bytes
        self._timeout_seconds = timeout_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode-helper")
        self._helper: _Helper | None = None
        self._is_closed = False

    async def ask(self, settings: Settings, body: bytes) -> tuple[Settings, bytes]:
        return await asyncio.wrap_future(self._thread.submit(self._ask, settings, body))

    def close(self) -> None:
        self._is_closed = True
        helper = self._helper
        if helper is not None:
            helper.kill()  # the thread may be waiting for its reply
        self._thread.submit(self._drop)
        self._thread.shutdown(wait=True)

    def _ask(self, settings: Settings, body: bytes) -> tuple[Settings, bytes]:
        while not self._is_closed:
            if self._helper is None:
                self._helper = _Helper(
                    self._module, memory_bytes=self._memory_bytes, timeout_seconds=self._timeout_seconds
                )
            is_fresh = self._helper.served == 0
            try:
                return self._helper.ask(settings, body)
            except _LostError as lost:
                self._drop()
                if not self._is_closed and (is_fresh or lost.reason is Reason.DECODE_TIMEOUT):
                    raise Refused(lost.reason) from lost
        raise RuntimeError("the decoder was closed while a picture waited for its helper")

    def _drop(self) -> None:
        if self._helper is not None:
            self._helper.end()
            self._helper = None


class _LostError(Exception):
    """A helper that gave no answer, and is no more to be asked."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class _Helper:
    """One helper process, started and ready. Used by one thread, but for `kill`."""

    def __init__(self, module: str, *, memory_bytes: int, timeout_seconds: float) -> None:
        self.served = 0
        self._timeout_seconds = timeout_seconds
        limits = (os.getpid(), memory_bytes, math.ceil(timeout_seconds))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, module, *sys.path, *(str(limit) for limit in limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},  # threads cost address space
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._replies, False)
        self._await_ready(module)

    def ask(self, settings: Settings, body: bytes) -> tuple[Settings, bytes]:
        """Have one request answered. Raises `Refused` as the helper did, `_LostError` if it did not answer."""
        encoded = json.dumps(settings).encode()
        deadline = time.monotonic() + self._timeout_seconds
        try:
            self._send(HEAD.pack(len(encoded), len(body)) + encoded, deadline)
            self._send(body, deadline)
            reply, payload = self._receive(deadline)
        except TimeoutError as error:
            raise _LostError(Reason.DECODE_TIMEOUT) from error
        except (OSError, EOFError, ValueError) as error:  # a broken pipe, or what a broken process wrote to it
            self.kill()
            is_late = self._process.wait() == -signal.SIGXCPU
            raise _LostError(Reason.DECODE_TIMEOUT if is_late else Reason.DECODE_CRASH) from error
        self.served += 1
        if "refused" in reply:
            raise Refused(Reason(reply["refused"]), reply["detail"])
        if "out_of_memory" in reply:
            raise _LostError(Reason.DECODE_BOMB)
        if "failed" in reply:
            raise RuntimeError(f"the image helper failed on a body of {len(body)} bytes: {reply['failed']}")
        return reply, payload

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Kill it, wait for it, close the pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _await_ready(self, module: str) -> None:
        try:
            self._receive(time.monotonic() + _START_SECONDS)
        except (OSError, EOFError, ValueError) as error:
            self.kill()
            _, said = self._process.communicate()
            raise RuntimeError(
                f"the image helper {module} did not start (exit {self._process.returncode}); its last words: "
                f"{said.decode(errors='replace')[-2000:].strip() or 'none'}"
            ) from error

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            _wait(self._requests, select.POLLOUT, deadline)
            with suppress(BlockingIOError):
                view = view[os.write(self._requests, view) :]

    def _receive(self, deadline: float) -> tuple[Settings, bytes]:
        settings_bytes, payload_bytes = HEAD.unpack(self._receive_bytes(HEAD.size, deadline))
        if settings_bytes + payload_bytes > _MAX_REPLY_BYTES:
            raise ValueError("a reply of impossible length")
        settings = json.loads(self._receive_bytes(settings_bytes, deadline))
        if not isinstance(settings, dict):
            raise ValueError("a reply without settings")
        return settings, bytes(self._receive_bytes(payload_bytes, deadline))

    def _receive_bytes(self, count: int, deadline: float) -> bytearray:
        data = bytearray()
        while len(data) < count:
            _wait(self._replies, select.POLLIN, deadline)
            with suppress(BlockingIOError):
                chunk = os.read(self._replies, min(count - len(data), 1 << 20))
                if not chunk:
                    raise EOFError("the helper closed its end")
                data += chunk
        return data


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError("the helper is late")
