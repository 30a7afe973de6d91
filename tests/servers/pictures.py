"""A small well-behaved web of generated pictures on 127.0.0.1, for tests that build corpora.

    with PictureServer() as web:
        write_laion(path, web.urls(100))

The path of a URL says what comes back, so equal URLs give equal bytes in every run: `/jpg/7` a JPEG, `/png/7`, `/gif/7` likewise,
`/tiny/7` a picture of 20 pixels, `/missing/7` 404, `/html/7` no picture, `/slow/300/7` a JPEG after 300 ms.
"""

import io
import ssl
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import trustme
from PIL import Image

Answer = tuple[int, str, bytes]
"""Status, content type, body."""

KINDS = ("jpg", "jpg", "jpg", "png", "jpg", "missing", "jpg", "gif", "jpg", "html", "jpg", "tiny")


class PictureServer:
    """Serves until the block ends; `requests` counts paths. `answer` says what a path gives, `tls` serves https."""

    def __init__(self, *, answer: Callable[[str], Answer] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.requests: Counter[str] = Counter()
        self._answer = answer or by_kind
        self._server = _Server(("127.0.0.1", 0), self._handler())
        if tls is not None:
            # Handshakes are left to the handler's thread: one that stalls must not hold up the others.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "PictureServer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def connect_to(self) -> tuple[str, ...]:
        """What a run needs so that every host name leads here."""
        return (f"::127.0.0.1:{self.port}",)

    def urls(self, count: int, *, kinds: tuple[str, ...] = KINDS, hosts: int = 50) -> list[str]:
        """URLs of several kinds on many hosts, the same in every run: the port is left to `connect_to`."""
        return [f"http://host{i % hosts}.example/{kinds[i % len(kinds)]}/{i}" for i in range(count)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        requests, answer = self.requests, self._answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                requests[self.path] += 1
                status, kind, body = answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # the default of 5 drops connections, which clients ask for again after a second
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is gone, or was killed, is no news here."""


def by_kind(path: str) -> Answer:
    """The answer that the first part of a path names."""
    kind, _, rest = path.strip("/").partition("/")
    if kind == "slow":
        milliseconds, _, rest = rest.partition("/")
        time.sleep(int(milliseconds) / 1000)
        kind = "jpg"
    if kind == "html":
        return 200, "image/jpeg", b"<!doctype html><title>gone</title>"
    if kind in ("jpg", "png", "gif", "tiny"):
        return 200, f"image/{kind}", picture(kind, int(rest))
    return 404, "text/plain", b"not found"


def by_hash(path: str) -> Answer:
    """An answer for any path at all: mostly pictures, some missing, some that are none."""
    if path == "/robots.txt":
        return 404, "text/plain", b""
    number = zlib.crc32(path.encode())
    return by_kind(f"/{KINDS[number % len(KINDS)]}/{number % 1000}")


def any_host(authority: trustme.CA) -> ssl.SSLContext:
    """A server's TLS context that holds a certificate of `authority` for whatever name a client asks for."""
    contexts: dict[str, ssl.SSLContext] = {}

    def context_for(name: str) -> ssl.SSLContext:
        if name not in contexts:
            contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(name).configure_cert(contexts[name])
        return contexts[name]

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = context_for(name or "localhost")

    chosen = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(chosen)
    chosen.sni_callback = choose  # type: ignore[assignment]
    return chosen


def picture(kind: str, number: int) -> bytes:
    """A picture of its own for every number; a JPEG carries the number in a comment."""
    if kind != "jpg":
        return _encoded(kind, number % 8)
    data = _encoded("jpg", number % 8)
    comment = str(number).encode()
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


def write_laion(path: Path, urls: list[str], *, row_group_size: int = 1000) -> Path:
    """A LAION-2B-style parquet of these URLs, with scores that pass."""
    count = len(urls)
    table = {
        "URL": pa.array(urls, pa.string()),
        "TEXT": pa.array([f"a photograph, number {i} of {count}" for i in range(count)], pa.string()),
        "WIDTH": pa.array([400.0] * count, pa.float64()),
        "HEIGHT": pa.array([300.0] * count, pa.float64()),
        "similarity": pa.array([0.3 + i % 7 / 100 for i in range(count)], pa.float64()),
        "hash": pa.array([(-1) ** i * (1 << 61) + i for i in range(count)], pa.int64()),
        "pwatermark": pa.array([0.1] * count, pa.float32()),
        "punsafe": pa.array([0.2] * count, pa.float32()),
    }
    pq.write_table(pa.table(table), path, row_group_size=row_group_size)
    return path


@cache
def _encoded(kind: str, variant: int) -> bytes:
    rng = np.random.default_rng(variant)
    height, width = (20, 20) if kind == "tiny" else (240 + 8 * variant, 320)
    ramp = np.linspace(0, 200, width)[None, :, None] * np.ones((height, 1, 3)) + rng.integers(0, 40, (height, width, 3))
    image = Image.fromarray(ramp.astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, {"png": "PNG", "gif": "GIF"}.get(kind, "JPEG"))
    return buffer.getvalue()
