"""How many bytes of bodies a process holds at a time, and who holds them.

A row of work takes one `Lease` and holds every body it fetches through it until it is done. The first reservation of a lease
may wait until the budget has room; a lease that already holds bytes never waits, so no two rows can wait for each other's
bytes. Nothing else is held during that wait, neither a slot nor a connection, so no chain of waits closes either.
The price: the budget can be exceeded, but only by leases that grow after they were let in. As long as it is exceeded nobody
is let in, and the first reservation follows the mean size of recent bodies, so the excess is that of bodies larger than
what came before them: each at most `max_body_bytes`, for at most the requests in flight. Waiters are served in order.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

_SMALLEST_GUESS_BYTES = 64_000
_HEADROOM = 1.5  # of the mean: image sizes are skewed, and a guess too small lets too many in
_MEMORY = 0.05  # weight of the newest body in the mean


class Budget:
    """Bytes in use and leases waiting for room. Lives on one loop; only `Lease.close` may be called from other threads."""

    def __init__(self, total_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        self._total_bytes = total_bytes
        self._loop = loop
        self._mean_body_bytes = 0.0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.held_bytes = 0

    @property
    def guess_bytes(self) -> int:
        """What is reserved for a body of unknown size: follows the bodies seen."""
        return max(_SMALLEST_GUESS_BYTES, round(self._mean_body_bytes * _HEADROOM))

    def learn(self, body_bytes: int) -> None:
        """Take the size of a finished body into the guess."""
        self._mean_body_bytes += (body_bytes - self._mean_body_bytes) * _MEMORY

    async def admit(self, count: int) -> None:
        """Take `count` bytes, after those who wait already and as soon as there is room for them (or nothing is held)."""
        if not self._waiting and self._fits(count):
            self.held_bytes += count
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        entry = (count, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(count)
            else:
                self._waiting.remove(entry)
                self._let_in()
            raise

    def take(self, count: int) -> None:
        """Take `count` bytes without waiting."""
        self.held_bytes += count

    def give_back(self, count: int) -> None:
        """Return `count` bytes and let in whoever fits now."""
        self.held_bytes -= count
        self._let_in()

    def give_back_from_any_thread(self, count: int) -> None:
        """`give_back`, from a thread that is not the loop's; does nothing once the loop is gone."""
        try:
            self._loop.call_soon_threadsafe(self.give_back, count)
        except RuntimeError:  # the loop is closed: nobody counts any more
            return

    def _fits(self, count: int) -> bool:
        return self.held_bytes == 0 or self.held_bytes + count <= self._total_bytes

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            count, turn = self._waiting.popleft()
            if not turn.done():
                self.held_bytes += count
                turn.set_result(None)


class Reservation:
    """The part of a lease that one body uses."""

    def __init__(self, lease: "Lease", count: int) -> None:
        self._lease = lease
        self.count = count

    def hold(self, count: int) -> None:
        """Hold `count` bytes from now on, without waiting."""
        self._lease.grow(count - self.count)
        self.count = count


class Lease:
    """The bytes that one row of work holds. Leaving the `with` block returns them all; works in and outside of coroutines."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._closed = False
        self._admission = asyncio.Lock()
        self.held_bytes = 0

    @asynccontextmanager
    async def reservation(self, count: int, *, wait: bool = True) -> AsyncIterator["Reservation"]:
        """Hold `count` bytes for one body, returned if the block raises. Waits for room only if the lease holds nothing yet.

        `wait=False` is for what a waiting row depends on, such as its robots.txt: it must not wait for that row's bytes.
        """
        if self._closed:
            raise ValueError("the lease is closed: take one for each row and keep it open while its bodies are used")
        if self.held_bytes or not wait:
            self.grow(count)
        else:
            await self._admitted(count)
        reservation = Reservation(self, count)
        try:
            yield reservation
        except BaseException:
            reservation.hold(0)
            raise

    async def _admitted(self, count: int) -> None:
        # One admission at a time: the others of this lease must not stand in the queue once it holds bytes.
        async with self._admission:
            if self.held_bytes:
                self.grow(count)
                return
            await self._budget.admit(count)
            if self._closed:  # closed by another thread during the wait
                self._budget.give_back(count)
                raise asyncio.CancelledError
            self.held_bytes += count

    def grow(self, count: int) -> None:
        """Hold `count` more bytes at once; negative returns bytes. On the loop's thread only."""
        if self._closed:
            return
        self.held_bytes += count
        if count >= 0:
            self._budget.take(count)
        else:
            self._budget.give_back(-count)

    def close(self) -> None:
        """Return all bytes. From any thread, any number of times."""
        if self._closed:
            return
        self._closed = True
        count, self.held_bytes = self.held_bytes, 0
        if count:
            self._budget.give_back_from_any_thread(count)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> "Lease":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
