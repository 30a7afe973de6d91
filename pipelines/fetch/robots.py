"""robots.txt, asked for once per origin and remembered, by RFC 9309.

No file (4xx), or one that says nothing readable, allows everything. A server that cannot answer (5xx, time-out, no
connection) has not allowed anything: the row is refused, but with the server's reason, so that it can be retried; so does
429, which asks for patience. Only the first 512 kB count. A file is read as text whatever it is; lines that are no rules
are ignored. `Crawl-delay` is not in the RFC, and is honoured up to half a minute. Simultaneous questions are one question.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protego import Protego

from pipelines.fetch.exchange import StatusRefused
from pipelines.fetch.urls import Target, parse
from schemas.reasons import Reason, Refusal, Refused

MAX_ROBOTS_BYTES = 512_000
MAX_ORIGINS = 20_000
_KEPT_SECONDS = 86_400.0  # the longest that RFC 9309 allows
_SILENCE_KEPT_SECONDS = 60.0  # each question costs seconds, and rows that it refuses are not tried again at once
_SILENCE = (Reason.FIRST_BYTE, Reason.SLOW, Reason.DEADLINE)
_NOTHING_SAID = (Reason.BODY_EMPTY, Reason.BODY_ENCODING)

Ask = Callable[[Target], Awaitable[bytes]]
"""Fetches a robots.txt, cut to `MAX_ROBOTS_BYTES`; raises `Refused`."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    rules: Protego | None  # None allows everything, unless there is a refusal
    refusal: Refusal | None
    crawl_delay_seconds: float
    expires: float  # loop time


class Robots:
    """The rules of all origins that were asked. Lives on one loop."""

    def __init__(
        self, ask: Ask, *, agent: str, retry_wait_seconds: float, on_crawl_delay: Callable[[str, float], None]
    ) -> None:
        self._ask = ask
        self._failure_kept_seconds = retry_wait_seconds / 2  # a row that tries again finds the question open again
        self._agent = agent
        self._on_crawl_delay = on_crawl_delay
        self._verdicts: OrderedDict[str, _Verdict] = OrderedDict()  # least recently used first
        self._asking: dict[str, asyncio.Task[_Verdict]] = {}

    async def check(self, target: Target) -> None:
        """Return if the origin of `target` allows it. Raises `Refused`: `policy.robots`, or why the rules are not known."""
        origin = str(target.url.origin())
        verdict = self._verdicts.get(origin)
        if verdict is None or verdict.expires <= asyncio.get_running_loop().time():
            verdict = await asyncio.shield(self._question(origin))
        else:
            self._verdicts.move_to_end(origin)
        if verdict.crawl_delay_seconds > 0:
            self._on_crawl_delay(
                target.host, verdict.crawl_delay_seconds
            )  # each time: hosts are forgotten before rules
        if verdict.refusal is not None:
            raise Refused(verdict.refusal.reason, verdict.refusal.detail)
        if verdict.rules is not None and not verdict.rules.can_fetch(target.text, self._agent):
            raise Refused(Reason.POLICY_ROBOTS)

    async def close(self) -> None:
        """Stop asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _question(self, origin: str) -> "asyncio.Task[_Verdict]":
        task = self._asking.get(origin)
        if task is None:
            task = self._asking[origin] = asyncio.create_task(self._learn(origin), name=f"robots {origin}")
            task.add_done_callback(lambda _: self._asking.pop(origin, None))
        return task

    async def _learn(self, origin: str) -> _Verdict:
        rules, refusal = await self._rules(origin)
        delay = (rules.crawl_delay(self._agent) if rules is not None else None) or 0.0
        expires = asyncio.get_running_loop().time() + self._kept_seconds(refusal)
        verdict = _Verdict(rules, refusal, delay, expires)
        self._verdicts[origin] = verdict
        self._verdicts.move_to_end(origin)
        while len(self._verdicts) > MAX_ORIGINS:
            self._verdicts.popitem(last=False)
        return verdict

    async def _rules(self, origin: str) -> tuple[Protego | None, Refusal | None]:
        try:
            body = await self._ask(parse(f"{origin}/robots.txt"))
        except StatusRefused as refused:
            allows = 400 <= refused.status < 500 and refused.status != 429
            return None, None if allows else refused.refusal
        except Refused as refused:
            return None, None if refused.refusal.reason in _NOTHING_SAID else refused.refusal
        return Protego.parse(body.decode("utf-8-sig", "replace")), None

    def _kept_seconds(self, refusal: Refusal | None) -> float:
        if refusal is None:
            return _KEPT_SECONDS
        silent = refusal.reason in _SILENCE or refusal.detail in ("timeout", "not_found")
        return _SILENCE_KEPT_SECONDS if silent else self._failure_kept_seconds
