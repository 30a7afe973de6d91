"""Manners towards each host: how many requests at a time, how many in a second, and pauses when it is in trouble.

A host is a name (or an address), whatever the scheme and port: one machine answers for all of them. A request takes a slot,
then its turn; both are first come, first served. A pause begins with 429 or 503 (for as long as `Retry-After` says, else
doubling), and with several time-outs in a row. A request that would wait longer for a pause than `max_wait_seconds` is
refused with `host.backoff`, so that one host in trouble holds up no unit. Waiting for a turn is not limited: a source
with one host only goes at that host's pace. The table of hosts is bounded; a host is forgotten when it is idle and at peace.
"""

import asyncio
import contextlib
import itertools
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

from pipelines.fetch.exchange import StatusRefused
from pipelines.fetch.policy import FetchSettings
from schemas.reasons import Reason, Refused

MAX_HOSTS = 20_000
_PAUSE_STATUSES = (429, 503)
_TIMEOUTS = frozenset({Reason.FIRST_BYTE, Reason.SLOW, Reason.DEADLINE})
_TIMEOUTS_BEFORE_PAUSE = 3
_FIRST_PAUSE_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 300.0
_LONGEST_RETRY_AFTER_SECONDS = 3_600.0
_LONGEST_CRAWL_DELAY_SECONDS = 30.0
_LOOKED_AT = 64  # hosts, when room is needed: a bounded price for each new host
_POLL_SECONDS = 0.02  # while others have taken the last starts and not begun them yet


class Rate:
    """At most so many starts in any window of time: exact for every window, not on average.

    A start is first taken, then begun: between the two lie waits of any length, and only the beginning is what a host feels.
    """

    def __init__(self, per_second: float) -> None:
        self._begun: deque[float] = deque()
        self._taken = 0
        self._set(per_second)

    def wait_seconds(self, now: float) -> float:
        """Time until a further start may be taken; 0 is now."""
        places_left = self._count - self._taken
        if places_left <= 0:
            return _POLL_SECONDS
        if len(self._begun) < places_left:
            return 0.0
        return max(0.0, self._begun[-places_left] + self._window_seconds - now)

    def is_spent(self, now: float) -> bool:
        """Whether something is still counted against the host's next starts."""
        return self._taken > 0 or bool(self._begun and self._begun[-1] + self._window_seconds > now)

    def take(self) -> None:
        """Take a start."""
        self._taken += 1

    def give_back(self) -> None:
        """Return a start that was never begun."""
        self._taken -= 1

    def begin(self, now: float) -> None:
        """Begin one that was taken."""
        self._taken -= 1
        self._begun.append(now)
        while len(self._begun) > self._count:
            self._begun.popleft()

    def slow_down(self, per_second: float) -> None:
        """Allow no more than `per_second` from now on; what has begun stays counted."""
        if per_second < self._per_second:
            self._set(per_second)

    def _set(self, per_second: float) -> None:
        self._per_second = per_second
        self._window_seconds = max(1.0, 1.0 / per_second)
        self._count = max(1, int(per_second * self._window_seconds))


class Host:
    """What is known about one host."""

    def __init__(self, settings: FetchSettings) -> None:
        self.slots = asyncio.Semaphore(settings.connections_per_host)
        self.rate = Rate(settings.requests_per_second_per_host)
        self.users = 0
        self.paused_until = 0.0  # loop time
        self._troubles = 0
        self._timeouts = 0

    def is_idle(self, now: float) -> bool:
        """Whether forgetting this host breaks no promise to it."""
        return self.users == 0 and self.paused_until <= now and not self.rate.is_spent(now)

    def succeeded(self) -> None:
        """An answer came."""
        self._troubles = self._timeouts = 0

    def failed(self, refused: Refused, now: float) -> None:
        """No answer came, or one that asks for a pause. Any other refusal is an answer."""
        reason = refused.refusal.reason
        if isinstance(refused, StatusRefused) and refused.status in _PAUSE_STATUSES:
            asked = retry_after_seconds(refused.headers)
            self._pause(now, asked if asked is not None else self._next_pause_seconds(now))
        elif reason in _TIMEOUTS or (reason is Reason.CONNECT and refused.refusal.detail == "timeout"):
            self._timeouts += 1
            if self._timeouts >= _TIMEOUTS_BEFORE_PAUSE:
                self._pause(now, self._next_pause_seconds(now))
        elif isinstance(refused, StatusRefused):
            self.succeeded()

    def _next_pause_seconds(self, now: float) -> float:
        if now < self.paused_until:
            return 0.0  # it was on its way when the pause began: one trouble, not several
        self._troubles += 1
        return float(min(_FIRST_PAUSE_SECONDS * 2 ** min(self._troubles - 1, 20), _LONGEST_PAUSE_SECONDS))

    def _pause(self, now: float, seconds: float) -> None:
        self.paused_until = max(self.paused_until, now + min(seconds, _LONGEST_RETRY_AFTER_SECONDS))


class Slot:
    """One request's place at a host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._begun = False

    def begin(self) -> None:
        """The host feels the request from now on."""
        if not self._begun:
            self._begun = True
            self.host.rate.begin(asyncio.get_running_loop().time())

    def end(self) -> None:
        """The request is over, or will not be made."""
        if not self._begun:
            self.host.rate.give_back()


class Hosts:
    """All hosts of a process. Lives on one loop."""

    def __init__(self, settings: FetchSettings, *, max_hosts: int = MAX_HOSTS) -> None:
        self._settings = settings
        self._max_hosts = max_hosts
        self._hosts: OrderedDict[str, Host] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._hosts)

    @asynccontextmanager
    async def slot(self, name: str) -> AsyncIterator[Slot]:
        """A slot at the host, entered when it is this request's turn. Raises `Refused(host.backoff)`."""
        host = self._host(name)
        host.users += 1
        try:
            self._refuse_long_pause(host)
            async with host.slots:
                await self._turn(host)
                slot = Slot(host)
                try:
                    yield slot
                finally:
                    slot.end()
        finally:
            host.users -= 1

    def crawl_delay(self, name: str, seconds: float) -> None:
        """The host's robots.txt asks for this long between requests; delays beyond half a minute are cut to that."""
        if seconds > 0:
            self._host(name).rate.slow_down(1.0 / min(seconds, _LONGEST_CRAWL_DELAY_SECONDS))

    def _host(self, name: str) -> Host:
        host = self._hosts.get(name)
        if host is None:
            self._make_room()
            host = self._hosts[name] = Host(self._settings)
        self._hosts.move_to_end(name)
        return host

    def _make_room(self) -> None:
        """Forget the least recently used: idle ones first, then, at twice the bound, any that nobody is using."""
        now = asyncio.get_running_loop().time()
        excess = len(self._hosts) + 1 - self._max_hosts
        if excess <= 0:
            return
        must = excess > self._max_hosts
        for name in list(itertools.islice(self._hosts, _LOOKED_AT)):
            host = self._hosts[name]
            if host.is_idle(now) or (must and host.users == 0):
                del self._hosts[name]
                excess -= 1
                if excess <= 0:
                    return

    def _refuse_long_pause(self, host: Host) -> None:
        if host.paused_until - asyncio.get_running_loop().time() > self._settings.max_wait_seconds:
            raise Refused(Reason.HOST_BACKOFF)

    async def _turn(self, host: Host) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._refuse_long_pause(host)
            now = loop.time()
            wait = max(host.paused_until - now, host.rate.wait_seconds(now))
            if wait <= 0:
                host.rate.take()
                return
            await asyncio.sleep(wait)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """The pause that `Retry-After` asks for, given in seconds or as a date; None if it says nothing that can be read."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:10]), 10**9))
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        # The server's own clock where it tells it, since pauses are short and clocks are wrong by minutes.
        then = parsedate_to_datetime(text).timestamp()
        date = headers.get("Date")
        now = parsedate_to_datetime(date).timestamp() if date else time.time()
        return max(0.0, then - now)
    return None
