"""A web server that misbehaves on purpose, on a loop thread of its own, and that counts what reaches it.

    with HostileServer() as server:
        settings = FetchSettings(contact="mailto:t@example.org", connect_to=(f"::127.0.0.1:{server.port}",))

Routes are paths; `ROUTES` below names what each does. `server.route(path, handler)` adds one. Every request is logged with
the host it was meant for, so that politeness can be measured here and not believed.
"""

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import brotli

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
"""A body of about 10 kB that looks like an image from outside."""

HTML = b"<!doctype html><title>not an image</title>"


@dataclass(slots=True)
class Request:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    begun: float
    """time.monotonic() when its header was complete."""
    ended: float = 0.0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def host(self) -> str:
        return self.headers.get("host", "")


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def response(body: bytes = PNG, *, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """A response with Content-Length (`length` overrides the true one); underscores in header names become dashes."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def redirect(location: str, status: str = "302 Found") -> Handler:
    """A handler that redirects to `location`."""

    async def handler(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"", status=status, Location=location))

    return handler


def answer(data: bytes) -> Handler:
    """A handler that sends `data` as it is."""

    async def handler(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return handler


@dataclass
class HostileServer:
    """Serves `ROUTES`, and what `route` adds, on a free port of 127.0.0.1."""

    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self._routes: dict[str, Handler] = dict(ROUTES)
        self._open: dict[str, int] = {}
        self.most_open: dict[str, int] = {}
        """Largest number of requests open at once, by the host they were meant for."""
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="hostile-server", daemon=True)

    def route(self, path: str, handler: Handler) -> None:
        """Serve `path` by `handler` from now on."""
        self._routes[path] = handler

    def count(self, path: str) -> int:
        """Requests for `path` so far."""
        return sum(request.path == path for request in self.requests)

    def __enter__(self) -> "HostileServer":
        self._thread.start()
        assert self._started.wait(10), "the server did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server did not stop"

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self.tls, limit=2**20, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            while await self._one(await reader.readuntil(b"\r\n\r\n"), writer):
                pass
        with contextlib.suppress(Exception):
            writer.close()

    async def _one(self, head: bytes, writer: asyncio.StreamWriter) -> bool:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        request = Request(method, target, headers, time.monotonic())
        self.requests.append(request)
        with self._counted(request):
            handler = self._routes.get(request.path, not_found)
            await handler(request, writer)
            if writer.transport.is_closing():
                return False
            await writer.drain()
            return True

    @contextlib.contextmanager
    def _counted(self, request: Request) -> Iterator[None]:
        host = request.host
        self._open[host] = self._open.get(host, 0) + 1
        self.most_open[host] = max(self.most_open.get(host, 0), self._open[host])
        try:
            yield
        finally:
            self._open[host] -= 1
            request.ended = time.monotonic()


async def not_found(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(response(b"no", status="404 Not Found"))


async def slow_first_byte(_: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def slow_header(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(600):
        writer.write(b"X-%d: y\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(response(b"", length=10_000))
    for _byte in range(10_000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def brisk_but_endless(_: Request, writer: asyncio.StreamWriter) -> None:
    """Above the minimum rate for ever, below any cap for a while: only the total deadline ends it."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 2_000)
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def endless_header(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Flood: " + b"y" * 1_000 + b"\r\n")
        await writer.drain()


async def stall(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(response(b"half", length=10_000))
    await writer.drain()
    await asyncio.sleep(60)


async def reset_at_once(_: Request, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def reset_in_header(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await _sent(writer)
    reset(writer)


async def close_in_header(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await writer.drain()
    writer.close()


def reset_in_body(head: bytes) -> Handler:
    async def handler(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await _sent(writer)
        reset(writer)

    return handler


def then_close(data: bytes) -> Handler:
    async def handler(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return handler


async def _sent(writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    await asyncio.sleep(0.1)  # a reset may overtake bytes that the client has not read yet


def bomb(coding: str, megabytes: int = 200) -> bytes:
    """A small body that decompresses to `megabytes`."""
    zeros = bytes(megabytes * 1_000_000)
    return gzip.compress(zeros, 6) if coding == "gzip" else brotli.compress(zeros, quality=1)


ROUTES: dict[str, Handler] = {
    "/image.png": answer(response(Content_Type="image/PNG; charset=x")),
    "/html-as-jpeg": answer(response(HTML, Content_Type="image/jpeg")),
    "/empty": answer(response(b"")),
    "/no-content": answer(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "/no-length": then_close(b"HTTP/1.1 200 OK\r\n\r\n" + PNG),
    "/slow-first-byte": slow_first_byte,
    "/slow-header": slow_header,
    "/drip": drip,
    "/brisk-but-endless": brisk_but_endless,
    "/endless": endless,
    "/endless-header": endless_header,
    "/stall": stall,
    "/reset-at-once": reset_at_once,
    "/reset-in-header": reset_in_header,
    "/close-in-header": close_in_header,
    "/reset-in-body": reset_in_body(response(b"half", length=10_000)),
    "/reset-without-length": reset_in_body(b"HTTP/1.1 200 OK\r\n\r\nhalf"),
    "/reset-in-chunks": reset_in_body(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
    "/length-too-long": then_close(response(b"half", length=10_000)),
    "/length-too-short": then_close(response(PNG, length=100)),
    "/length-huge": answer(response(b"x", length=10**12)),
    "/length-twice": then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhalf"),
    "/chunks": answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfull\r\n0\r\n\r\n"),
    "/chunks-cut": then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
    "/chunks-garbage": then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n"),
    "/not-http": then_close(b"220 mail.example.org ESMTP\r\n"),
    "/many-headers": answer(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000 + b"Content-Length: 1\r\n\r\nx"),
    "/long-header": answer(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\nContent-Length: 1\r\n\r\nx"),
    "/gzip": answer(response(gzip.compress(PNG), Content_Encoding="gzip")),
    "/br": answer(response(brotli.compress(PNG), Content_Encoding="br")),
    "/gzip-gzip": answer(response(gzip.compress(gzip.compress(PNG)), Content_Encoding="gzip, gzip")),
    "/gzip-thrice": answer(response(gzip.compress(PNG), Content_Encoding="gzip, gzip, gzip")),
    "/gzip-lie": answer(response(PNG, Content_Encoding="gzip")),
    "/br-lie": answer(response(PNG, Content_Encoding="br")),
    "/gzip-cut": answer(response(gzip.compress(PNG)[:-20], Content_Encoding="gzip")),
    "/zstd": answer(response(PNG, Content_Encoding="zstd")),
    "/redirect-loop": redirect("/redirect-loop"),
    "/redirect-a": redirect("/redirect-b"),
    "/redirect-b": redirect("/redirect-a"),
    "/redirect-nowhere": answer(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
    "/redirect-once": redirect("image.png?from=once#fragment", "301 Moved"),
}
"""What each path does; see the handlers."""
