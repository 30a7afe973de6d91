"""`Offline`: what a worker has in place of `Web` when no step of its pipeline fetches.

It has a loop for the steps that wait for decoders, and nothing else: no contact is needed, no socket is opened.
"""

import concurrent.futures
from collections.abc import Coroutine
from typing import Any, TypeVar

from pipelines.fetch.budget import Budget, Lease
from pipelines.fetch.client import Body
from pipelines.fetch.loop_thread import LoopThread

T = TypeVar("T")


class Offline:
    """A loop thread with the face of `Web`."""

    def __init__(self) -> None:
        self._thread = LoopThread("emu-steps")
        self._budget = Budget(0, self._thread.loop)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """See `Web.submit`."""
        return self._thread.submit(coroutine)

    def lease(self) -> Lease:
        """A lease of nothing: no body is fetched with it."""
        return Lease(self._budget)

    async def fetch(self, url: str, *, lease: Lease) -> Body:
        """Raises `RuntimeError`: a step that fetches is a `Fetch`, and with one a worker has a `Web`."""
        raise RuntimeError(f"{url} was asked for in a pipeline without a `fetch` step")

    def close(self) -> None:
        """See `Web.close`."""
        self._thread.close()
