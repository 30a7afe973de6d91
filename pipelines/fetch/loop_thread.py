"""An event loop on a thread of its own: started, given coroutines from any thread, and closed without leaving anything.

Closing cancels what runs, waits for it, and only then ends the thread; a caller that waits for a result gets
`CancelledError` rather than waiting for ever.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class LoopThread:
    """A running uvloop event loop."""

    def __init__(self, name: str) -> None:
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._lock = threading.Lock()
        self._futures: set[concurrent.futures.Future[Any]] = set()
        self._closed = False
        self._last: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, for `call_soon_threadsafe`."""
        return self._loop

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Run `coroutine` on the loop; its result by the future. Raises `RuntimeError` once closed."""
        with self._lock:
            if self._closed:
                coroutine.close()
                raise RuntimeError("this fetcher is closed: submit work before leaving its `with` block")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def close(self, last: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Cancel what runs, run `last`, close the loop, end the thread. Any number of times, from any thread but its own."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._last = last
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for future in list(self._futures):  # handed in, but never begun
            future.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._cancel_all()
            if self._last is not None:
                self._loop.run_until_complete(self._last())
            self._cancel_all()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    def _cancel_all(self) -> None:
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
