"""One URL followed to its end: robots, slots, a route, a request, and again for each redirect.

What may be waited for is taken in one order, so that no two visits wait for each other: memory, then a slot at the host,
then a place in flight, then the network. All but memory are returned between hops. Each hop is judged like a URL of its own.
"""

import asyncio
from collections.abc import Callable

from multidict import CIMultiDictProxy

from pipelines.fetch.budget import Budget, Lease, Reservation
from pipelines.fetch.clock import Clock
from pipelines.fetch.connector import Hop
from pipelines.fetch.exchange import Answer, Exchange, Limits
from pipelines.fetch.gate import Gate
from pipelines.fetch.hosts import Hosts
from pipelines.fetch.opt_out import opt_out
from pipelines.fetch.policy import FetchPolicy, FetchSettings
from pipelines.fetch.resolver import Resolver
from pipelines.fetch.robots import MAX_ROBOTS_BYTES, Robots
from pipelines.fetch.urls import Target, redirected
from schemas.reasons import Reason, Refusal, Refused

ROBOTS_REDIRECTS = 5
"""Redirects followed for a robots.txt: RFC 9309 asks for at least five."""

_LEFTOVERS = (Refusal(Reason.RESET, "header"), Refusal(Reason.HTTP_MALFORMED))


class Visitor:
    """Everything that the visits of a process share. Lives on one loop: build and close it there."""

    def __init__(
        self, settings: FetchSettings, policy: FetchPolicy, budget: Budget, *, agent: str, user_agent: str
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._budget = budget
        self._agent = agent
        self._resolver = Resolver(settings, policy)
        self.exchange = Exchange(settings, user_agent=user_agent)
        self.hosts = Hosts(settings)
        self.gate = Gate(settings)
        self.requests = 0
        self._robots = Robots(
            self._ask_robots,
            agent=agent,
            retry_wait_seconds=settings.retry_wait_seconds,
            on_crawl_delay=self.hosts.crawl_delay,
        )

    async def visit(self, target: Target, *, lease: Lease) -> tuple[Target, Answer]:
        """The body behind `target`, and the URL it came from. Raises `Refused`."""
        judge = self._refuse_opt_out if self._policy.respect_opt_out else None
        async with lease.reservation(self._budget.guess_bytes) as room:
            limits = Limits(self._policy.max_body_bytes)
            found = await self._follow(target, self._policy.max_redirects, room=room, limits=limits, judge=judge)
        self._budget.learn(len(found[1].data))
        return found

    async def close(self) -> None:
        """Stop asking and close all connections."""
        await self._robots.close()
        await self.exchange.close()
        await self._resolver.close()

    async def _follow(
        self,
        target: Target,
        max_redirects: int,
        *,
        room: Reservation,
        limits: Limits,
        judge: Callable[[CIMultiDictProxy[str]], None] | None = None,
        obey_robots: bool = True,
    ) -> tuple[Target, Answer]:
        clock = Clock(self._settings.total_timeout_seconds)
        seen = {target.text}
        for _ in range(max_redirects + 1):
            if self._policy.respect_robots and obey_robots:
                await self._robots.check(target)
            answer = await self._request(target, clock, room=room, limits=limits, judge=judge)
            if not answer.is_redirect:
                return target, answer
            target = redirected(target, answer.headers.get("Location"))
            if target.text in seen:  # without cookies the same question has the same answer
                raise Refused(Reason.REDIRECT_TOO_MANY, "loop")
            seen.add(target.text)
        raise Refused(Reason.REDIRECT_TOO_MANY)

    async def _request(
        self,
        target: Target,
        clock: Clock,
        *,
        room: Reservation,
        limits: Limits,
        judge: Callable[[CIMultiDictProxy[str]], None] | None,
    ) -> Answer:
        self._resolver.refuse_private_literal(target)  # before it takes anybody's slot
        async with self.hosts.slot(target.host) as slot, self.gate.place():
            try:
                route = await self._resolver.route(target)
                answer = await self._send(target, Hop(route, clock, slot.begin), room=room, limits=limits, judge=judge)
            except Refused as refused:
                slot.host.failed(refused, asyncio.get_running_loop().time())
                self.gate.observe(target.host, refused.refusal)
                raise
            slot.host.succeeded()
            self.gate.observe(target.host, None)
            return answer

    async def _send(
        self,
        target: Target,
        hop: Hop,
        *,
        room: Reservation,
        limits: Limits,
        judge: Callable[[CIMultiDictProxy[str]], None] | None,
    ) -> Answer:
        while True:
            hop.is_new_connection = False
            self.requests += 1
            try:
                async with hop.clock.running():
                    return await self.exchange.get(target, hop, room=room, limits=limits, judge=judge)
            except Refused as refused:
                # A kept connection may have been closed by the server as we wrote, or hold bytes left over from a body longer
                # than its Content-Length: that says nothing about this request. Each round uses up one kept connection.
                if hop.is_new_connection or refused.refusal not in _LEFTOVERS:
                    raise

    def _refuse_opt_out(self, headers: CIMultiDictProxy[str]) -> None:
        directive = opt_out(headers.getall("X-Robots-Tag", ()), agent=self._agent)
        if directive is not None:
            raise Refused(Reason.POLICY_OPT_OUT, directive)

    async def _ask_robots(self, target: Target) -> bytes:
        limits = Limits(MAX_ROBOTS_BYTES, cut=True)
        with Lease(self._budget) as lease:
            async with lease.reservation(self._budget.guess_bytes, wait=False) as room:
                _, answer = await self._follow(target, ROBOTS_REDIRECTS, room=room, limits=limits, obey_robots=False)
        return answer.data
