"""The budget: in order, within bounds, and every byte comes back."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipelines.fetch.budget import Budget, Lease
from pipelines.fetch.clock import Clock
from pipelines.fetch.gate import Gate
from pipelines.fetch.policy import FetchSettings
from schemas.reasons import Reason, Refused


def test_the_first_reservation_waits_and_growth_does_not() -> None:
    async def run() -> None:
        budget = Budget(100, asyncio.get_running_loop())
        first, second = Lease(budget), Lease(budget)
        async with first.reservation(80) as room:
            waiting = asyncio.create_task(_hold(second, 30))
            await asyncio.sleep(0)
            assert not waiting.done()
            async with first.reservation(500):
                assert budget.held_bytes == 580
                room.hold(10)
            room.hold(0)
            assert not waiting.done(), "the lease still holds 500"
        first.close()
        await asyncio.wait_for(waiting, 5)
        assert budget.held_bytes == 30
        second.close()
        await asyncio.sleep(0.01)
        assert budget.held_bytes == 0

    asyncio.run(run())


def test_room_for_several_lets_in_several_and_a_row_that_holds_bytes_stands_in_no_queue() -> None:
    async def run() -> None:
        budget = Budget(100, asyncio.get_running_loop())
        full, row, others = Lease(budget), Lease(budget), [Lease(budget) for _ in range(2)]
        async with full.reservation(100):
            first, second = (asyncio.create_task(_hold(row, 40)) for _ in range(2))
            queue = [asyncio.create_task(_hold(other, 30)) for other in others]
            await asyncio.sleep(0)
        full.close()
        await asyncio.wait_for(asyncio.gather(first, second, *queue), 5)
        assert budget.held_bytes == 140, "the second of the row is growth: it was let in although there was no room"

    asyncio.run(run())


def test_a_reservation_larger_than_the_budget_is_let_in_alone() -> None:
    async def run() -> None:
        budget = Budget(100, asyncio.get_running_loop())
        lease = Lease(budget)
        await asyncio.wait_for(_hold(lease, 1_000), 5)
        lease.close()

    asyncio.run(run())


def test_a_refused_body_returns_its_bytes_and_a_closed_lease_takes_none() -> None:
    async def run() -> None:
        budget = Budget(100, asyncio.get_running_loop())
        lease = Lease(budget)

        async def refused_body() -> None:
            async with lease.reservation(60) as room:
                room.hold(90)
                raise Refused(Reason.RESET)

        with pytest.raises(Refused):
            await refused_body()
        assert budget.held_bytes == lease.held_bytes == 0
        lease.close()
        with pytest.raises(ValueError, match="the lease is closed"):
            await _hold(lease, 1)

    asyncio.run(run())


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 150), st.integers(0, 200), st.integers(0, 3), st.booleans()), min_size=1, max_size=25
    )
)
def test_every_schedule_ends_with_nothing_held(rows: list[tuple[int, int, int, bool]]) -> None:
    """Rows that reserve, grow, wait and are cancelled in any order: none waits for ever, and every byte comes back."""

    async def row(budget: Budget, first: int, more: int, turns: int) -> None:
        with Lease(budget) as lease:
            async with lease.reservation(first) as room:
                for _ in range(turns):
                    await asyncio.sleep(0)
                room.hold(first + more)
            await _hold(lease, more)

    async def run() -> None:
        budget = Budget(200, asyncio.get_running_loop())
        tasks = [asyncio.create_task(row(budget, first, more, turns)) for first, more, turns, _ in rows]
        await asyncio.sleep(0)
        for task, (*_, cancelled) in zip(tasks, rows, strict=True):
            if cancelled:
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        await asyncio.sleep(0.001)
        assert budget.held_bytes == 0

    asyncio.run(run())


def test_the_guess_follows_the_bodies() -> None:
    async def run() -> None:
        budget = Budget(10**9, asyncio.get_running_loop())
        small = budget.guess_bytes
        for _ in range(200):
            budget.learn(2_000_000)
        assert budget.guess_bytes > 2_000_000 > small > 0

    asyncio.run(run())


def test_places_in_flight_survive_cancelled_waiters(settings: Callable[..., FetchSettings]) -> None:
    async def run() -> None:
        gate = Gate(settings(min_in_flight=1, initial_in_flight=2, max_in_flight=2))
        most = 0

        async def one() -> None:
            nonlocal most
            async with gate.place():
                most = max(most, gate.in_flight)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(one()) for _ in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert (gate.in_flight, gate.waiting, most) == (0, 0, 2)

    asyncio.run(run())


def test_a_clock_counts_only_while_it_runs_and_names_the_deadline_that_passed() -> None:
    async def run() -> None:
        clock = Clock(0.3)
        async with clock.running():
            clock.phase(Reason.CONNECT, 5.0)
        await asyncio.sleep(0.4)  # waiting for ourselves

        async def stall(*phases: tuple[Reason, float]) -> None:
            async with clock.running():
                for reason, seconds in phases:
                    clock.phase(reason, seconds)
                await asyncio.sleep(10)

        with pytest.raises(Refused) as first_byte:
            await stall((Reason.CONNECT, 0.01), (Reason.FIRST_BYTE, 0.05))
        with pytest.raises(Refused) as deadline:
            await stall((Reason.SLOW, 5.0))
        assert first_byte.value.refusal.reason is Reason.FIRST_BYTE
        assert deadline.value.refusal.reason is Reason.DEADLINE
        with pytest.raises(TimeoutError):
            async with Clock(10.0).running():
                raise TimeoutError  # somebody else's

    asyncio.run(run())


async def _hold(lease: Lease, count: int) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        async with lease.reservation(count):
            return
