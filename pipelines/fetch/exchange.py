"""One request and its response: send, judge the header, read the body within its caps and deadlines.

The order is the promise: the header is judged before a byte of the body is read, bytes are counted before they are decoded,
decoded blocks before they are kept. aiohttp's own redirects, cookies, decompression, proxies, time-outs and silent second
requests are off; each is done here or above, or not at all.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDictProxy

from pipelines.fetch.budget import Reservation
from pipelines.fetch.codings import Decoder
from pipelines.fetch.connector import HOP, Connector, Hop
from pipelines.fetch.failures import refused, refused_in_body, was_reset
from pipelines.fetch.policy import FetchSettings
from pipelines.fetch.urls import Target
from schemas.reasons import Reason, Refused

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEPT = frozenset({200, 203})
_BODILESS = frozenset({204, 205})
_READ_BYTES = 64 * 1024
_MAX_HEADER_LINES = 128
_MAX_HEADER_LINE_BYTES = 16_384  # real servers send content security policies of 10 kB


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that ended as it should: a body, or a redirect without one."""

    status: int
    headers: CIMultiDictProxy[str]
    data: bytes

    @property
    def is_redirect(self) -> bool:
        """Whether the answer is elsewhere."""
        return self.status in REDIRECTS

    @property
    def content_type(self) -> str:
        """The media type that the server claims, without parameters; empty if it claims none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()[:127]


class StatusRefused(Refused):
    """A status that is not success, with its headers: `Retry-After` is among them."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        reason = Reason.of_status(status)
        super().__init__(reason, "" if reason.value == f"http.{status}" else f"status={status}")
        self.status = status
        self.headers = headers


JudgeHeaders = Callable[[CIMultiDictProxy[str]], None]
"""Raises `Refused` if the headers forbid keeping the body."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a body is read, and what becomes of one that is longer: refused, or cut there."""

    body_bytes: int
    cut: bool = False


class Exchange:
    """Makes single requests over one session. Lives on one loop."""

    def __init__(self, settings: FetchSettings, *, user_agent: str) -> None:
        self._settings = settings
        self._connector = Connector(settings)
        self.received_bytes = 0
        # Identity, because images do not shrink, and a body compressed on its way has no length to be checked against.
        headers = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BYTES,
            max_headers=_MAX_HEADER_LINES,
            max_line_size=_MAX_HEADER_LINE_BYTES,
            max_field_size=_MAX_HEADER_LINE_BYTES,
            middlewares=(_no_silent_second_request,),
        )

    async def get(
        self, target: Target, hop: Hop, *, room: Reservation, limits: Limits, judge: JudgeHeaders | None = None
    ) -> Answer:
        """GET `target` over `hop`. Raises `Refused` and nothing else of its own. What is read is held by `room`."""
        HOP.set(hop)
        try:
            response = await self._session.get(target.url, allow_redirects=False)
        except Exception as error:
            raise refused(error) from error
        try:
            return await self._answer(response, hop, room=room, limits=limits, judge=judge)
        finally:
            response.close()  # a connection whose body was read to its end is in the pool already

    async def close(self) -> None:
        """Close all connections, without waiting for peers to agree to the end of TLS."""
        await self._connector.close(abort_ssl=True)
        await self._session.close()

    async def _answer(
        self,
        response: aiohttp.ClientResponse,
        hop: Hop,
        *,
        room: Reservation,
        limits: Limits,
        judge: JudgeHeaders | None,
    ) -> Answer:
        status, headers = response.status, response.headers
        if status in REDIRECTS:
            return Answer(status, headers, b"")
        if status in _BODILESS:
            raise Refused(Reason.BODY_EMPTY, f"status={status}")
        if status not in _KEPT:
            raise StatusRefused(status, headers)
        if judge is not None:
            judge(headers)
        reader = _BodyReader(response, self._settings, room=room, limits=limits)
        try:
            data = await reader.read(hop)
        finally:
            self.received_bytes += reader.received_bytes
        return Answer(status, headers, data)


async def _no_silent_second_request(
    request: aiohttp.ClientRequest, handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
) -> aiohttp.ClientResponse:
    """aiohttp repeats a GET by itself when the connection breaks; only the host's limits may decide on a second request."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise refused(error) from error


class _BodyReader:
    """Reads one body: counts, decodes, caps, and keeps the reservation in step with the bytes held."""

    def __init__(
        self, response: aiohttp.ClientResponse, settings: FetchSettings, *, room: Reservation, limits: Limits
    ) -> None:
        self._response = response
        self._settings = settings
        self._room = room
        self._limits = limits
        self._decoder = Decoder(",".join(response.headers.getall("Content-Encoding", ())))
        self._data = bytearray()
        self.received_bytes = 0

    async def read(self, hop: Hop) -> bytes:
        """The decoded body; leaves the reservation holding exactly its length."""
        connection = self._response.connection
        protocol: ResponseHandler | None = connection.protocol if connection is not None else None
        self._check_length()
        await self._receive(hop, protocol)
        if not self._data:
            raise Refused(Reason.BODY_EMPTY)
        self._room.hold(len(self._data))
        return bytes(self._data)

    def _check_length(self) -> None:
        length = self._response.content_length
        if length is None:
            return
        if length > self._limits.body_bytes and not self._limits.cut:
            raise Refused(Reason.BODY_TOO_LARGE, "declared")
        self._room.hold(max(self._room.count, min(length, self._limits.body_bytes)))

    async def _receive(self, hop: Hop, protocol: ResponseHandler | None) -> None:
        window_seconds = self._settings.rate_window_seconds
        quota = max(1, round(self._settings.min_rate_bytes_per_second * window_seconds))
        slow = self._settings.min_rate_bytes_per_second > 0
        in_window = 0
        hop.clock.phase(Reason.SLOW if slow else Reason.DEADLINE, window_seconds if slow else 1e9)
        while chunk := await self._chunk(protocol):
            self.received_bytes += len(chunk)
            in_window += len(chunk)
            if slow and in_window >= quota:
                hop.clock.phase(Reason.SLOW, window_seconds)
                in_window = 0
            if not self._keep(chunk):
                return
        if was_reset(protocol):
            raise Refused(Reason.RESET, "body")
        self._decoder.finish()

    async def _chunk(self, protocol: ResponseHandler | None) -> bytes:
        try:
            return await self._response.content.readany()
        except Exception as error:
            raise refused_in_body(error, protocol) from error

    def _keep(self, chunk: bytes) -> bool:
        """Decode and keep `chunk`; False when the body is cut here."""
        limit = self._limits.body_bytes
        if self.received_bytes > limit and not self._limits.cut:
            raise Refused(Reason.BODY_TOO_LARGE, "received")
        for block in self._decoder.feed(chunk):
            self._data += block
            if len(self._data) > limit:
                if self._limits.cut:
                    del self._data[limit:]
                    return False
                raise Refused(Reason.BODY_TOO_LARGE, "received" if self._decoder.is_identity else "decoded")
            if len(self._data) > self._room.count:
                self._room.hold(min(limit, 2 * len(self._data)))
        return True
