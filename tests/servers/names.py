"""A DNS server on 127.0.0.1 whose answers a test decides: for names that change their mind, do not exist, or stay silent.

Answers live for 0 seconds: c-ares has a cache of its own, which otherwise answers in this server's stead.
"""

import asyncio
import contextlib
import ipaddress
import struct
import threading
from collections.abc import Callable

Answers = Callable[[str], list[str] | int | None]
"""Addresses for a name, a DNS error code (2 server failure, 3 no such name), or None for silence."""


class NameServer:
    """Answers questions by `answers`; `asked` lists the names of A questions in order."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.asked: list[str] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="name-server", daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> "NameServer":
        self._thread.start()
        assert self._started.wait(10), "the name server did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the name server did not stop"

    def reply(self, question: bytes) -> bytes | None:
        """The datagram that answers `question`."""
        name, end = _name(question, 12)
        (kind,) = struct.unpack_from("!H", question, end)
        if kind == 1:
            self.asked.append(name)
        found = self._answers(name)
        if found is None:
            return None
        code = found if isinstance(found, int) else 0
        version = {1: 4, 28: 6}.get(kind)
        addresses = [ipaddress.ip_address(text) for text in ([] if isinstance(found, int) else found)]
        records = [
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(address.packed)) + address.packed
            for address in addresses
            if address.version == version
        ]
        header = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        return header + question[12 : end + 4] + b"".join(records)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        transport, _ = await self._loop.create_datagram_endpoint(lambda: _Protocol(self), local_addr=("127.0.0.1", 0))
        self.port = transport.get_extra_info("sockname")[1]
        self._started.set()
        await self._stop.wait()
        transport.close()


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        reply = self._server.reply(data)
        if reply is not None:
            self._transport.sendto(reply, address)  # type: ignore[attr-defined]


def _name(packet: bytes, offset: int) -> tuple[str, int]:
    labels = []
    while size := packet[offset]:
        labels.append(packet[offset + 1 : offset + 1 + size].decode("ascii"))
        offset += 1 + size
    return ".".join(labels).lower(), offset + 1
