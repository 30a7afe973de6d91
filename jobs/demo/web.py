"""The demo's web: every page of `site`, served from 127.0.0.1 by a thread of its own.

    with DemoWeb() as web:
        settings = FetchSettings(contact=..., connect_to=web.connect_to)

All hosts are one server; requests say which they mean. The port differs from run to run, the names in the metadata do not.
"""

import asyncio
import socket
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from aiohttp import web

from jobs.demo.site import PRIVATE_ROBOTS, UNREACHABLE_HOST, Behaviour, Page, pages

_LATE_SECONDS = 2.0
_STALL_SECONDS = 60.0
_CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


class DemoWeb:
    """A context manager: the web is up inside of it. `requests` counts what reached it, by path."""

    def __init__(self) -> None:
        self._pages = {(page.host, page.path): page for page in pages()}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="demo-web", daemon=True)
        self._port: Future[int] = Future()
        # Bound and never listened to: connections to it are refused, and nobody else can take its port.
        self._closed_door = socket.socket()
        self._closed_door.bind(("127.0.0.1", 0))
        self.requests: dict[str, int] = {}

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port.result()

    @property
    def connect_to(self) -> tuple[str, ...]:
        """The run setting that leads every host to this server, and one host to a closed door."""
        return f"{UNREACHABLE_HOST}:80:127.0.0.1:{self._closed_door.getsockname()[1]}", f"::127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._port.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._closed_door.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        try:
            self._loop.run_until_complete(self._start(runner))
            self._loop.run_forever()
        except BaseException as error:
            if self._port.done():
                raise
            self._port.set_exception(error)
        finally:
            self._loop.run_until_complete(_end(runner))
            self._loop.close()

    async def _start(self, runner: web.AppRunner) -> None:
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        await web.SockSite(runner, listener).start()
        self._port.set_result(listener.getsockname()[1])

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests[request.path] = self.requests.get(request.path, 0) + 1
        if request.path == "/robots.txt":
            return web.Response(text=PRIVATE_ROBOTS)
        page = self._pages.get((request.host, request.path))
        if page is None or page.behaviour is Behaviour.NOT_FOUND:
            return web.Response(status=404, text="Not here.")
        if page.behaviour is Behaviour.HTML:
            return web.Response(text="<!doctype html><p>This picture has moved.", content_type="text/html")
        if page.behaviour is Behaviour.BROKEN_SERVER:
            return web.Response(status=500, text="Something broke.")
        if page.behaviour is Behaviour.BUSY_ONCE and self.requests[request.path] == 1:
            return web.Response(status=503, headers={"Retry-After": "1"})
        return await self._picture(request, page)

    async def _picture(self, request: web.Request, page: Page) -> web.StreamResponse:
        data = await asyncio.to_thread(page.picture.encode)
        headers = {"Content-Type": _CONTENT_TYPES[page.picture.extension]}
        if page.behaviour is Behaviour.LATE:
            await asyncio.sleep(_LATE_SECONDS)
        if page.behaviour is Behaviour.STALL:
            return await _stall(request, data, headers)
        if page.behaviour is Behaviour.CUT_OFF:
            data = data[: len(data) // 2]
        if page.behaviour is Behaviour.OPT_OUT:
            headers["X-Robots-Tag"] = "noai"
        return web.Response(body=data, headers=headers)


async def _stall(request: web.Request, data: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """Send a few bytes, then nothing for so long that any crawler has to give up."""
    response = web.StreamResponse(headers={**headers, "Content-Length": str(len(data))})
    await response.prepare(request)
    await response.write(data[:100])
    await asyncio.sleep(_STALL_SECONDS)
    return response


async def _end(runner: web.AppRunner) -> None:
    """Leave no task behind: a server that stalls would otherwise be heard of at exit."""
    await runner.cleanup()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
