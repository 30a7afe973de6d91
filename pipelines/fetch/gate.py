"""How many requests are in flight over all hosts: grows while it helps, shrinks only when our own side is in trouble.

A dead link, a dead host, a slow host say nothing about us: time-outs are a constant few per cent of the web, and control
that halves on each (as TCP does) ends at the floor. What tells is the share of distinct hosts that time out or whose names
cannot be looked up, over the last few hundred of them: only when it is high, and well above what it usually is, the limit
falls by a third. Each answer that comes while others wait raises it by one, which doubles it about once a round trip.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipelines.fetch.policy import FetchSettings
from schemas.reasons import Reason, Refusal

_WINDOW_HOSTS = 200
"""Distinct hosts between two judgements: at 4 % dead ones, a share of 15 % is seven standard deviations away."""

_ALARMING_SHARE = 0.15
_ALARMING_RISE = 2.5  # times the usual share
_SHRINK = 2 / 3
_MEMORY = 0.2  # weight of the newest window in the usual share
_OURS = frozenset({Reason.FIRST_BYTE, Reason.SLOW, Reason.DEADLINE})


class Gate:
    """Places for requests in flight, first come, first served. Lives on one loop."""

    def __init__(self, settings: FetchSettings) -> None:
        self._floor = min(settings.min_in_flight, settings.max_in_flight)
        self._ceiling = settings.max_in_flight
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._troubled: dict[str, bool] = {}  # hosts of this window, and whether nothing but trouble came from them
        self._usual_share = 0.0
        self.limit = min(settings.initial_in_flight, settings.max_in_flight)
        self.in_flight = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place in flight."""
        await self._enter()
        try:
            yield
        finally:
            self.in_flight -= 1
            self._let_in()

    def observe(self, host: str, refusal: Refusal | None) -> None:
        """How one request to `host` ended; None is an answer."""
        trouble = refusal is not None and _is_trouble(refusal)
        self._troubled[host] = trouble and self._troubled.get(host, True)
        if not trouble and self._waiting and self.limit < self._ceiling:
            self.limit += 1
            self._let_in()
        if len(self._troubled) >= _WINDOW_HOSTS:
            self._judge(sum(self._troubled.values()) / len(self._troubled))
            self._troubled.clear()

    def _judge(self, share: float) -> None:
        if share > max(_ALARMING_SHARE, _ALARMING_RISE * self._usual_share):
            self.limit = max(self._floor, int(self.limit * _SHRINK))
        # Learned in bad windows too: a web that stays bad at every limit is not our trouble, and the limit recovers.
        self._usual_share += (share - self._usual_share) * _MEMORY

    async def _enter(self) -> None:
        if self.in_flight < self.limit and not self._waiting:
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.in_flight -= 1
            elif turn in self._waiting:
                self._waiting.remove(turn)
            self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self.in_flight < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)


def _is_trouble(refusal: Refusal) -> bool:
    """Whether the cause may be on our side: silence, or names that could not be asked for. "No such name" is an answer."""
    if refusal.reason is Reason.DNS:
        return refusal.detail != "not_found"
    return refusal.reason in _OURS or (
        refusal.reason is Reason.CONNECT and refusal.detail in ("timeout", "unreachable")
    )
