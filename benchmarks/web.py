"""A web of pictures on 127.0.0.1, in a process of its own, whose CPU is no contestant's. Every path ends in a picture's number.

It does as little as an HTTP server can, so that it is nobody's bottleneck: answers are put together before the first request,
any host name is served, as is any request that came through a proxy setting (img2dataset has no `connect_to`). Connections are
kept for who wants them kept. Not here: politeness, robots, delays, errors; `tests/servers` has those.
"""

import asyncio
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

_START_SECONDS = 30.0
_HEADER_END = b"\r\n\r\n"


class PictureWeb:
    """Serves the files of a folder, in order of name, until the block ends; picture N is file N modulo their number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._folder)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        out = self._process.stdout
        if out is None or not select.select([out], [], [], _START_SECONDS)[0]:
            self._process.kill()
            raise SystemExit(f"the benchmark's web did not start within {_START_SECONDS:g} s")
        self.port = int(out.readline())
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def connect_to(self) -> str:
        """For `emu build --connect-to`: whatever the host, it is here."""
        return f"::127.0.0.1:{self.port}"

    @property
    def proxy(self) -> str:
        """The same for programs that know nothing but `http_proxy`."""
        return f"http://127.0.0.1:{self.port}"


class _Pictures(asyncio.Protocol):
    """One connection."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = answers
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._received += data
        while (end := self._received.find(_HEADER_END)) >= 0:
            head, self._received = self._received[:end], self._received[end + len(_HEADER_END) :]
            path = head.split(b" ", 2)[1]
            number = int(path[path.rindex(b"/") + 1 :])
            self._transport.write(self._answers[number % len(self._answers)])  # type: ignore[attr-defined]
            if b"connection: close" in head.lower():
                self._transport.close()


def _answer(picture: Path) -> bytes:
    body = picture.read_bytes()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _serve(folder: Path) -> None:
    answers = [_answer(path) for path in sorted(folder.glob("*.jpg"))]
    server = await asyncio.get_running_loop().create_server(
        lambda: _Pictures(answers), "127.0.0.1", 0, backlog=4096, reuse_address=True
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # ends by itself when the benchmark was killed
        await asyncio.sleep(1)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(Path(sys.argv[1])))
