"""The deadlines of one attempt: a total for its time on the network, and a shorter one for the phase it is in.

`running()` is entered while the network is waited for and left while we wait for ourselves (slots, memory, back-off), so a
busy machine makes no dead links. Whichever deadline passes first gives the reason. Not here: cancelling for other causes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.reasons import Reason, Refused


class Clock:
    """Counts the time that one attempt spends on the network."""

    def __init__(self, total_seconds: float) -> None:
        self._left_seconds = total_seconds
        self._reason = Reason.DEADLINE
        self._timer: asyncio.Timeout | None = None
        self._end = 0.0  # loop time, while running

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the clock run. Raises `Refused` with the reason of the deadline that passed."""
        loop = asyncio.get_running_loop()
        self._reason = Reason.DEADLINE
        self._end = loop.time() + self._left_seconds
        timer = self._timer = asyncio.timeout_at(self._end)
        try:
            async with timer:
                yield
        except TimeoutError:
            if not timer.expired():
                raise  # somebody else's
            raise Refused(self._reason, "timeout" if self._reason is Reason.CONNECT else "") from None
        finally:
            self._timer = None
            self._left_seconds = max(0.0, self._end - loop.time())

    def phase(self, reason: Reason, seconds: float) -> None:
        """From here on, refuse with `reason` after `seconds`, or with `deadline` when the total ends before that."""
        if self._timer is None or self._timer.expired():
            return
        when = asyncio.get_running_loop().time() + seconds
        self._reason = reason if when < self._end else Reason.DEADLINE
        self._timer.reschedule(min(when, self._end))
