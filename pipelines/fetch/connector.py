"""aiohttp's connector, told where to connect by our own resolver and telling the clock what it is doing.

For each request the `Hop` in a context variable says which addresses may be used. aiohttp resolves nothing itself: it would
skip a resolver for addresses in URLs. As a second guard, should aiohttp ever find another way, sockets are only made for
addresses of the hop. TLS names and certificates stay those of the URL, whatever `connect_to` says.
"""

import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import ResolveResult

from pipelines.fetch.addresses import family_of, numeric
from pipelines.fetch.clock import Clock
from pipelines.fetch.policy import FetchSettings
from pipelines.fetch.resolver import Route
from schemas.reasons import Reason

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.connector import Connection


@dataclass(slots=True)
class Hop:
    """One request on its way: where it may connect, its deadlines, and whether it got a connection of its own."""

    route: Route
    clock: Clock
    begin: Callable[[], None]
    """Called when the request goes out, or when no connection was to be had for it."""
    is_new_connection: bool = False


HOP: ContextVar[Hop] = ContextVar("hop")


class UncheckedAddressError(OSError):
    """Somebody tried to connect to an address that no rule has seen."""


class Connector(aiohttp.TCPConnector):
    """Connects where the current hop says; a connection of the pool was checked when it was made."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        super().__init__(
            limit=0,  # slots are counted by the host states and the gate, before a request gets here
            ssl=_tls(settings.ca_file),
            use_dns_cache=False,
            resolver=_NoResolver(),
            keepalive_timeout=settings.keep_alive_seconds,
            socket_factory=_checked_socket,
        )

    async def connect(self, req: aiohttp.ClientRequest, traces: "list[Any]", timeout: "ClientTimeout") -> "Connection":
        """A connection for `req`, from the pool or new, within the connect deadline."""
        hop = HOP.get()
        clock = hop.clock
        clock.phase(Reason.CONNECT, self._settings.connect_timeout_seconds)
        try:
            connection = await super().connect(req, traces, timeout)
        finally:
            hop.begin()
        clock.phase(Reason.FIRST_BYTE, self._settings.first_byte_timeout_seconds)
        return connection

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Any] | None = None) -> list[ResolveResult]:
        hop = HOP.get()
        hop.is_new_connection = True
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=hop.route.port,
                family=family_of(address),
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in hop.route.addresses
        ]


class _NoResolver(aiohttp.abc.AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise UncheckedAddressError("unchecked address")

    async def close(self) -> None:
        return


def _checked_socket(address_info: Any) -> socket.socket:
    family, kind, protocol, _, address = address_info
    route = HOP.get().route
    if numeric(address[0]) not in route.addresses or address[1] != route.port:
        raise UncheckedAddressError("unchecked address")
    return socket.socket(family, kind, protocol)


def _tls(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"ca_file: {ca_file!r} cannot be read as PEM certificates: {error}") from error
    return context


def raise_open_files_limit(count: int) -> None:
    """Let this process open `count` files and sockets, as far as the system allows; never lowers the limit.

    Shells give 1,024 by default, which the requests in flight and the connections kept would use up; the limit that an
    administrator set is a different one and is respected.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
