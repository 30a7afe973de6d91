"""From the host of a URL to the addresses that are connected to: `connect_to`, then a cache, then DNS, then the rules.

`route` returns only addresses that the policy permits at this moment; the connector uses exactly these, so what was checked
is what is used. Names are asked for as they stand: search domains would turn a public name into an internal one, and in
some clusters ask five questions for each. Names that do not exist are remembered as long as those that do; failures only
briefly. Simultaneous questions about a name are one question. Not here: connecting, and the health of the network.
"""

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import aiodns
import pycares

from pipelines.fetch.addresses import AddressRules, IPAddress, numeric
from pipelines.fetch.policy import FetchPolicy, FetchSettings
from pipelines.fetch.urls import Target
from schemas.reasons import Reason, Refusal, Refused

MAX_CACHED_NAMES = 50_000
_SILENCE_SECONDS = 10.0
_LOOKUPS_IN_FLIGHT = 256  # home routers drop questions beyond a few hundred; what is dropped looks like a dead name
_ADDRESSES_TRIED = 4
_ABSENT = (
    aiodns.error.ARES_ENOTFOUND,
    aiodns.error.ARES_ENODATA,
    aiodns.error.ARES_ENONAME,
    aiodns.error.ARES_EBADNAME,
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where to connect for one target: addresses in the order they are tried, and a port."""

    addresses: tuple[IPAddress, ...]
    port: int


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[IPAddress, ...]
    refusal: Refusal | None
    expires: float  # loop time


@dataclass(frozen=True, slots=True)
class _Mapping:
    host: str
    port: int | None
    to_host: str
    to_port: int | None

    @classmethod
    def parse(cls, text: str) -> "_Mapping":
        parts = _colon_parts(text)
        ports = [parts[1], parts[3]] if len(parts) == 4 else ["?"]
        if not all(port == "" or (port.isascii() and port.isdigit() and 0 < int(port) < 65_536) for port in ports):
            raise ValueError(
                f"connect_to: {text!r} is not HOST:PORT:TOHOST:TOPORT, as in example.org:443:127.0.0.1:8443"
            )
        host, port, to_host, to_port = parts
        return cls(host.lower(), int(port) if port else None, to_host, int(to_port) if to_port else None)

    def matches(self, target: Target) -> bool:
        return self.host in ("", target.host) and self.port in (None, target.port)


class Resolver:
    """Routes for targets. Lives on one loop."""

    def __init__(self, settings: FetchSettings, policy: FetchPolicy) -> None:
        self._settings = settings
        self._rules = AddressRules(policy)
        self._mappings = tuple(_Mapping.parse(text) for text in settings.connect_to)
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Answer]] = {}
        self._places = asyncio.Semaphore(_LOOKUPS_IN_FLIGHT)
        self._dns = _channel(settings)

    async def route(self, target: Target) -> Route:
        """Where to connect for `target`. Raises `Refused`: `dns` or `policy.private_address`."""
        self.refuse_private_literal(target)
        mapping = next((mapping for mapping in self._mappings if mapping.matches(target)), None)
        if mapping is not None:
            host = mapping.to_host or target.host
            return Route(await self._addresses(host), mapping.to_port or target.port)
        if target.address is not None:
            return Route((target.address,), target.port)
        addresses = tuple(a for a in await self._addresses(target.host) if self._rules.permits(a))
        if not addresses:
            raise Refused(Reason.POLICY_PRIVATE_ADDRESS, "name")
        return Route(addresses[:_ADDRESSES_TRIED], target.port)

    def refuse_private_literal(self, target: Target) -> None:
        """Raise `Refused` for a forbidden address in a URL, whatever `connect_to` says: outcomes follow the policy alone."""
        if target.address is not None and not self._rules.permits(target.address):
            raise Refused(Reason.POLICY_PRIVATE_ADDRESS, "url")

    async def close(self) -> None:
        """Stop asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dns.close()

    async def _addresses(self, host: str) -> tuple[IPAddress, ...]:
        with contextlib.suppress(ValueError):
            return (numeric(host.strip("[]")),)
        answer = self._answers.get(host)
        if answer is None or answer.expires <= asyncio.get_running_loop().time():
            answer = await asyncio.shield(self._question(host))  # others may wait for the same answer
        else:
            self._answers.move_to_end(host)
        if answer.refusal is not None:
            raise Refused(answer.refusal.reason, answer.refusal.detail)
        return answer.addresses

    def _question(self, host: str) -> "asyncio.Task[_Answer]":
        task = self._asking.get(host)
        if task is None:
            task = self._asking[host] = asyncio.create_task(self._ask(host), name=f"dns {host}")
            task.add_done_callback(lambda _: self._asking.pop(host, None))
        return task

    async def _ask(self, host: str) -> _Answer:
        async with self._places:
            addresses, refusal = await self._lookup(host)
        answer = _Answer(addresses, refusal, asyncio.get_running_loop().time() + self._kept_seconds(refusal))
        self._answers[host] = answer
        self._answers.move_to_end(host)
        while len(self._answers) > MAX_CACHED_NAMES:
            self._answers.popitem(last=False)
        return answer

    def _kept_seconds(self, refusal: Refusal | None) -> float:
        settled = refusal is None or refusal.detail == "not_found"
        # Silence costs seconds to find out about again; other failures are open again when a row tries again.
        brief = _SILENCE_SECONDS if refusal and refusal.detail == "timeout" else self._settings.retry_wait_seconds / 2
        return self._settings.dns_cache_seconds if settled else min(self._settings.dns_cache_seconds, brief)

    async def _lookup(self, host: str) -> tuple[tuple[IPAddress, ...], Refusal | None]:
        try:
            async with asyncio.timeout(self._settings.dns_timeout_seconds):
                found = await self._dns.getaddrinfo(
                    host, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
                )
        except TimeoutError:
            return (), Refusal(Reason.DNS, "timeout")
        except aiodns.error.DNSError as error:
            return (), Refusal(Reason.DNS, _failure(error))
        addresses = tuple(dict.fromkeys(numeric(node.addr[0].decode("ascii")) for node in found.nodes))
        return addresses, None if addresses else Refusal(Reason.DNS, "not_found")


def _channel(settings: FetchSettings) -> aiodns.DNSResolver:
    tries = 3
    return aiodns.DNSResolver(
        nameservers=settings.nameservers or None,
        loop=asyncio.get_running_loop(),
        timeout=max(0.1, settings.dns_timeout_seconds / tries / 2),  # doubles with each try, by server
        tries=tries,
        flags=pycares.ARES_FLAG_NOSEARCH,
    )


def _failure(error: aiodns.error.DNSError) -> str:
    code = error.args[0] if error.args else None
    if code in _ABSENT:
        return "not_found"
    return "timeout" if code == aiodns.error.ARES_ETIMEOUT else "failed"


def _colon_parts(text: str) -> Sequence[str]:
    """Split at colons outside of square brackets, which hold IPv6 addresses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == ":" and depth == 0:
            parts.append("")
        elif character not in "[]":
            parts[-1] += character
    return parts
