"""`Web`: the one fetcher of a worker process, on a loop thread of its own, used from any number of threads.

`fetch` parses the URL, visits it, and tries again where that may help. It either returns a whole body or raises `Refused`
with the reason; it never returns part of one. Not here: what a body is (decoders), what a refusal means for a row (the
ledger), and when a row is tried again in another run.
"""

import asyncio
import concurrent.futures
import importlib.metadata
import logging
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pipelines.fetch.budget import Budget, Lease
from pipelines.fetch.connector import raise_open_files_limit
from pipelines.fetch.loop_thread import LoopThread
from pipelines.fetch.policy import FetchPolicy, FetchSettings
from pipelines.fetch.urls import Target, parse
from pipelines.fetch.visits import Visitor
from schemas.reasons import Reason, Refusal, Refused

PRODUCT: Final = "emu-corpus"
"""The name that robots.txt and `X-Robots-Tag` know us by."""

T = TypeVar("T")
_log = logging.getLogger(__name__)

_RETRIED_AT_ONCE = frozenset(
    {
        Reason.DNS,
        Reason.CONNECT,
        Reason.RESET,
        Reason.LENGTH_MISMATCH,
        Reason.HTTP_408,
        Reason.HTTP_425,
        Reason.HTTP_429,
        Reason.HTTP_500,
        Reason.HTTP_502,
        Reason.HTTP_503,
        Reason.HTTP_504,
    }
)
_TIMEOUTS = frozenset({Reason.FIRST_BYTE, Reason.SLOW, Reason.DEADLINE})


@dataclass(frozen=True, slots=True)
class Body:
    """A whole body, as the server sent it, decompressed."""

    data: bytes
    url: str
    """Where it came from, after redirects."""
    status: int
    content_type: str
    """What the server claims it is: lower case, without parameters, empty if nothing is claimed. Often wrong."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a `Web` has done so far and is doing now."""

    requests: int
    """Requests sent, redirects, retries and robots.txt included."""
    received_bytes: int
    """Bytes of bodies received, before decompression."""
    in_flight: int
    """Requests on the network now."""
    in_flight_limit: int
    """How many may be."""
    waiting: int
    """Requests that wait for a place among those in flight."""
    held_bytes: int
    """Bytes of bodies that leases hold."""
    hosts: int
    """Hosts remembered."""


class Web:
    """A fetcher. Use it as a context manager, or call `close`."""

    def __init__(self, settings: FetchSettings, policy: FetchPolicy) -> None:
        if not settings.contact:
            raise ValueError(
                "contact is empty: site owners must be able to reach you; give `contact: mailto:you@lab.org` or a URL"
            )
        raise_open_files_limit(4 * settings.max_in_flight)
        self._settings = settings
        self._thread = LoopThread("emu-fetch")
        self._budget = Budget(settings.body_budget_bytes, self._thread.loop)
        try:
            self._visitor = self._thread.submit(self._open(settings, policy)).result()
        except BaseException:
            self._thread.close()
            raise

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Run a coroutine on the loop thread, from any other thread."""
        return self._thread.submit(coroutine)

    def lease(self) -> Lease:
        """A lease for one row of work: what is fetched with it counts as held until it is closed."""
        return Lease(self._budget)

    async def fetch(self, url: str, *, lease: Lease) -> Body:
        """The body behind `url`. Raises `Refused`. On the loop thread only: see `submit`."""
        try:
            return await self._with_retries(parse(url), lease=lease)
        except Refused as refused:
            refusal = refused.refusal
        except Exception as error:
            _log.exception("a fetch failed in a way that no rule foresees; its row is refused as `internal`")
            refusal = Refusal(Reason.INTERNAL, f"fetch:{type(error).__name__}"[:120])
        # A new one, raised out here: the exceptions it came from hold on to responses and connections.
        raise Refused(refusal.reason, refusal.detail)

    def counters(self) -> Counters:
        """A snapshot for progress, from any thread."""
        visitor = self._visitor
        return Counters(
            requests=visitor.requests,
            received_bytes=visitor.exchange.received_bytes,
            in_flight=visitor.gate.in_flight,
            in_flight_limit=visitor.gate.limit,
            waiting=visitor.gate.waiting,
            held_bytes=self._budget.held_bytes,
            hosts=len(visitor.hosts),
        )

    def close(self) -> None:
        """Cancel what runs and leave no socket, task or thread. Any number of times."""
        self._thread.close(last=self._visitor.close)

    def __enter__(self) -> "Web":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def _open(self, settings: FetchSettings, policy: FetchPolicy) -> Visitor:
        return Visitor(settings, policy, self._budget, agent=PRODUCT, user_agent=user_agent(settings.contact))

    async def _with_retries(self, target: Target, *, lease: Lease) -> Body:
        first: Refused | None = None
        for attempt in range(self._settings.max_retries + 1):
            try:
                found, answer = await self._visitor.visit(target, lease=lease)
                return Body(answer.data, found.text, answer.status, answer.content_type)
            except Refused as refused:
                # A host that paused because of our first attempt is refused for what it said then.
                shown = first if first and refused.refusal.reason is Reason.HOST_BACKOFF else refused
                if attempt == self._settings.max_retries or not self._is_worth_another(refused.refusal):
                    raise shown from None
                first = refused
            await asyncio.sleep(self._retry_wait_seconds(attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _is_worth_another(self, refusal: Refusal) -> bool:
        is_timeout = refusal.reason in _TIMEOUTS or refusal.detail == "timeout"
        if is_timeout:
            return self._settings.retry_timeouts
        return refusal.reason in _RETRIED_AT_ONCE and refusal.detail != "not_found"

    def _retry_wait_seconds(self, attempt: int) -> float:
        wait = min(self._settings.retry_wait_seconds * 2.0**attempt, self._settings.max_wait_seconds)
        return float(wait * random.uniform(0.5, 1.0))


def user_agent(contact: str) -> str:
    """The user agent of every request: the product, its version, and whom to ask."""
    return f"{PRODUCT}/{importlib.metadata.version(PRODUCT)} (+{contact})"
