"""Every way in which the hostile server fails a request ends in its own reason, and nothing is left behind."""

import asyncio
import concurrent.futures
import contextlib
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.fetch.client import Body, Web
from pipelines.fetch.policy import FetchPolicy, FetchSettings
from schemas.reasons import Reason, Refused
from tests.servers.hostile import HTML, PNG, HostileServer, bomb, redirect, reset, response

MakeSettings = Callable[..., FetchSettings]
MakePolicy = Callable[..., FetchPolicy]
Outcome = Callable[[Web, str], Body | str]


@pytest.fixture
def web(settings: MakeSettings, policy: MakePolicy) -> Iterator[Web]:
    generous = settings(requests_per_second_per_host=1_000.0, connections_per_host=64)
    with Web(generous, policy(max_body_bytes=1_000_000)) as opened:
        yield opened


def url(server: HostileServer, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def test_a_body(web: Web, server: HostileServer, outcome: Outcome) -> None:
    body = outcome(web, url(server, "/image.png?a=%2F&b=c%20d"))
    assert body == Body(PNG, url(server, "/image.png?a=%2F&b=c%20d"), 200, "image/png")
    request = server.requests[-1]
    assert request.target == "/image.png?a=%2F&b=c%20d"
    assert request.headers["user-agent"].startswith("emu-corpus/")
    assert request.headers["user-agent"].endswith(" (+mailto:tests@example.org)")
    assert set(request.headers) == {"host", "user-agent", "accept", "accept-encoding"}


def test_bodies_that_only_look_odd(web: Web, server: HostileServer, outcome: Outcome) -> None:
    for path, data in {
        "/html-as-jpeg": HTML,
        "/no-length": PNG,
        "/chunks": b"full",
        "/gzip": PNG,
        "/br": PNG,
        "/gzip-gzip": PNG,
        "/redirect-once": PNG,
    }.items():
        body = outcome(web, url(server, path))
        assert isinstance(body, Body), (path, body)
        assert body.data == data, path
    assert body.url == url(server, "/image.png?from=once")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/nothing-here", "http.404"),
        ("/empty", "body.empty"),
        ("/no-content", "body.empty status=204"),
        ("/slow-first-byte", "first_byte"),
        ("/slow-header", "first_byte"),
        ("/drip", "slow"),
        ("/stall", "slow"),
        ("/brisk-but-endless", "deadline"),
        ("/endless", "body.too_large received"),
        ("/endless-header", "http.malformed"),
        ("/many-headers", "http.malformed"),
        ("/long-header", "http.malformed"),
        ("/not-http", "http.malformed"),
        ("/reset-at-once", "reset header"),
        ("/reset-in-header", "reset header"),
        ("/close-in-header", "reset header"),
        ("/reset-in-body", "reset body"),
        ("/reset-without-length", "reset body"),
        ("/reset-in-chunks", "reset body"),
        ("/length-too-long", "length_mismatch short"),
        ("/length-huge", "body.too_large declared"),
        ("/length-twice", "http.malformed"),
        ("/chunks-cut", "length_mismatch chunked"),
        ("/chunks-garbage", "http.malformed"),
        ("/gzip-thrice", "body.encoding too_many"),
        ("/gzip-lie", "body.encoding corrupt"),
        ("/br-lie", "body.encoding corrupt"),
        ("/gzip-cut", "body.encoding truncated"),
        ("/zstd", "body.encoding unknown"),
        ("/redirect-loop", "redirect.too_many loop"),
        ("/redirect-a", "redirect.too_many loop"),
        ("/redirect-nowhere", "redirect.invalid location"),
    ],
)
def test_refusals(web: Web, server: HostileServer, outcome: Outcome, path: str, expected: str) -> None:
    assert outcome(web, url(server, path)) == expected
    assert web.counters().held_bytes == 0
    assert web.counters().in_flight == 0


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (410, "http.410"),
        (418, "http.4xx status=418"),
        (429, "http.429"),
        (503, "http.503"),
        (599, "http.5xx status=599"),
        (206, "http.other status=206"),
        (304, "http.other status=304"),
    ],
)
def test_statuses(web: Web, server: HostileServer, outcome: Outcome, status: int, expected: str) -> None:
    async def handler(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"" if status == 304 else b"x", status=f"{status} Some"))

    server.route(f"/status-{status}", handler)
    assert outcome(web, url(server, f"/status-{status}")) == expected


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_a_bomb_is_stopped_early(web: Web, server: HostileServer, outcome: Outcome, coding: str) -> None:
    packed = bomb(coding, megabytes=60)

    async def handler(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(response(packed, Content_Encoding=coding))

    server.route(f"/bomb-{coding}", handler)
    before = psutil.Process().memory_info().rss
    assert outcome(web, url(server, f"/bomb-{coding}")) == "body.too_large decoded"
    assert psutil.Process().memory_info().rss - before < 40_000_000


def test_bytes_after_a_body_do_not_harm_the_next_one(web: Web, server: HostileServer, outcome: Outcome) -> None:
    async def longer_than_said(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(response(PNG))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"left over")

    server.route("/left-over", longer_than_said)
    for _ in range(5):
        body = outcome(web, url(server, "/left-over"))
        assert isinstance(body, Body)
        assert body.data == PNG
        time.sleep(0.06)


def test_compressed_nothing_without_end_is_stopped(web: Web, server: HostileServer, outcome: Outcome) -> None:
    nothing = gzip.compress(b"") * 1_000

    async def handler(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        while True:
            writer.write(nothing)
            await writer.drain()

    server.route("/gzip-nothing", handler)
    assert outcome(web, url(server, "/gzip-nothing")) == "body.too_large received"


def test_a_lease_holds_exactly_the_bodies_it_fetched(web: Web, server: HostileServer) -> None:
    async def row() -> list[int]:
        held = []
        async with web.lease() as lease:
            for path in ("/image.png", "/no-length", "/nothing-here", "/gzip"):
                with contextlib.suppress(Refused):
                    await web.fetch(url(server, path), lease=lease)
                held.append(lease.held_bytes)
        return held

    size = len(PNG)
    assert web.submit(row()).result(30) == [size, 2 * size, 2 * size, 3 * size]
    assert web.counters().held_bytes == 0


def test_a_body_longer_than_its_length_is_cut_or_refused_but_never_mixed(
    web: Web, server: HostileServer, outcome: Outcome
) -> None:
    """Which of the two depends on packets: aiohttp cannot parse a header when nonsense follows its body in one packet."""
    for _ in range(3):
        result = outcome(web, url(server, "/length-too-short"))
        assert result == "http.malformed" or (isinstance(result, Body) and result.data == PNG[:100])


def test_nobody_listens(web: Web, outcome: Outcome) -> None:
    assert outcome(web, "http://127.0.0.1:9/") == "connect refused"


def test_redirects_are_counted_and_followed_up_to_the_limit(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome
) -> None:
    for number in range(8):
        server.route(f"/chain-{number}", redirect(f"/chain-{number - 1}" if number else "/image.png"))
    with Web(settings(), policy(max_redirects=3)) as web:
        assert isinstance(outcome(web, url(server, "/chain-2")), Body)
        assert outcome(web, url(server, "/chain-3")) == "redirect.too_many"
        assert server.count("/chain-0") == 2


@pytest.mark.parametrize(
    ("status", "then"),
    [("503 Busy", "/image.png"), ("500 Oops", "/image.png"), ("408 Late", "/image.png")],
)
def test_a_second_attempt_after_a_failure_that_may_pass(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome, status: str, then: str
) -> None:
    path = f"/once-{status[:3]}"
    answers = [response(b"", status=status, Retry_After="0"), response()]

    async def handler(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))

    server.route(path, handler)
    with Web(settings(max_retries=1), policy()) as web:
        body = outcome(web, url(server, path))
    assert isinstance(body, Body)
    assert body.data == PNG


@pytest.mark.parametrize(
    ("path", "requests"), [("/reset-in-header", 3), ("/nothing-here", 1), ("/stall", 1), ("/gzip-lie", 1)]
)
def test_attempts_are_counted_at_the_server(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome, path: str, requests: int
) -> None:
    before = server.count(path)
    with Web(settings(max_retries=2), policy()) as web:
        outcome(web, url(server, path))
        assert web.counters().requests == requests
    assert server.count(path) - before == requests


def test_time_outs_are_tried_again_when_asked(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome
) -> None:
    before = server.count("/stall")
    with Web(settings(max_retries=1, retry_timeouts=True), policy()) as web:
        assert outcome(web, url(server, "/stall")) == "slow"
    assert server.count("/stall") - before == 2


def test_a_kept_connection_that_the_server_closed_costs_nothing(
    settings: MakeSettings, policy: MakePolicy, outcome: Outcome
) -> None:
    with HostileServer() as server:

        async def answer_then_close(_: object, writer: asyncio.StreamWriter) -> None:
            writer.write(response(b"x"))
            await writer.drain()
            writer.close()

        server.route("/closes", answer_then_close)
        with Web(settings(), policy()) as web:
            for _ in range(5):
                assert isinstance(outcome(web, url(server, "/closes")), Body)
        assert server.count("/closes") == 5


def test_a_kept_connection_that_breaks_when_used_again_costs_nothing(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome
) -> None:
    used: set[asyncio.StreamWriter] = set()

    async def once_a_connection(_: object, writer: asyncio.StreamWriter) -> None:
        if writer in used:
            reset(writer)
        else:
            used.add(writer)
            writer.write(response(b"x"))

    server.route("/once-a-connection", once_a_connection)
    with Web(settings(), policy()) as web:
        for _ in range(3):
            assert isinstance(outcome(web, url(server, "/once-a-connection")), Body)
        assert web.counters().requests == 5, "two were asked again, over connections of their own"


def test_no_cookies_are_kept_and_no_proxy_is_taken_from_the_environment(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def handler(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"x", Set_Cookie="a=b; Path=/"))

    server.route("/cookie", handler)
    with Web(settings(), policy()) as web:
        assert isinstance(outcome(web, url(server, "/cookie")), Body)
        assert isinstance(outcome(web, url(server, "/cookie")), Body)
    assert "cookie" not in server.requests[-1].headers


def test_memory_stays_within_the_budget_while_many_rows_fetch(settings: MakeSettings, policy: MakePolicy) -> None:
    size, rows = 1_000_000, 200
    with HostileServer() as server:
        big = response(bytes(size))

        async def handler(_: object, writer: asyncio.StreamWriter) -> None:
            writer.write(big)

        server.route("/big", handler)
        generous = settings(
            requests_per_second_per_host=10_000.0, connections_per_host=1_000, body_budget_bytes=8_000_000,
            first_byte_timeout_seconds=30.0, total_timeout_seconds=60.0, rate_window_seconds=30.0, initial_in_flight=1_000,
        )  # fmt: skip
        with Web(generous, policy()) as web:
            most = 0

            async def row() -> int:
                nonlocal most
                with web.lease() as lease:
                    body = await web.fetch(url(server, "/big"), lease=lease)
                    most = max(most, web.counters().held_bytes)
                    await asyncio.sleep(0.001)
                    return len(body.data)

            assert [future.result(60) for future in [web.submit(row()) for _ in range(rows)]] == [size] * rows
            assert web.counters().held_bytes == 0
        # At first 8 MB / 64 kB = 125 are let in and grow to 1 MB each; all 200 at a time would be 200 MB.
        assert 0 < most <= 130_000_000


def test_rows_of_many_bodies_never_wait_for_each_other(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer
) -> None:
    generous = settings(
        requests_per_second_per_host=10_000.0, connections_per_host=8, body_budget_bytes=70_000,
        min_in_flight=1, initial_in_flight=1, max_in_flight=2, total_timeout_seconds=30.0, first_byte_timeout_seconds=30.0,
    )  # fmt: skip
    with Web(generous, policy()) as web:

        async def row() -> int:
            async with web.lease() as lease:
                bodies = await asyncio.gather(*(web.fetch(url(server, "/image.png"), lease=lease) for _ in range(5)))
                return len(bodies)

        assert [future.result(60) for future in [web.submit(row()) for _ in range(20)]] == [5] * 20
        assert web.counters().held_bytes == 0


def test_closing_leaves_no_socket_task_or_thread(settings: MakeSettings, policy: MakePolicy) -> None:
    async def row(web: Web, path: str, port: int) -> None:
        with web.lease() as lease:
            await web.fetch(f"http://127.0.0.1:{port}{path}", lease=lease)

    def open_and_close() -> None:
        with HostileServer() as server:
            web = Web(settings(total_timeout_seconds=60.0, first_byte_timeout_seconds=60.0), policy())
            done = web.submit(row(web, "/image.png", server.port))
            stuck = [web.submit(row(web, path, server.port)) for path in ("/slow-first-byte", "/slow-header", "/drip")]
            done.result(10)
            _wait_until(lambda: len(server.requests) == 4)
            assert len(_connections_to(server.port)) >= 3
            web.close()
            web.close()
            assert _connections_to(server.port) == []
            for future in stuck:
                with pytest.raises(concurrent.futures.CancelledError):
                    future.result(0)
            with pytest.raises(RuntimeError, match="closed"):
                web.submit(row(web, "/", server.port))

    open_and_close()  # whatever is created once per process is created here
    files, threads, kernel_threads = _open_files(), set(threading.enumerate()), _kernel_threads()
    for _ in range(3):
        open_and_close()
    assert set(threading.enumerate()) == threads
    _wait_until(lambda: _open_files() <= files)
    _wait_until(lambda: _kernel_threads() <= kernel_threads)


def test_only_refused_leaves_fetch_and_unforeseen_errors_are_internal(
    web: Web, server: HostileServer, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pipelines.fetch.visits.Visitor.visit", broken)
    assert outcome(web, url(server, "/image.png")) == f"{Reason.INTERNAL.value} fetch:ZeroDivisionError"


def test_nothing_is_fetched_without_a_contact(settings: MakeSettings, policy: MakePolicy) -> None:
    with pytest.raises(ValueError, match="contact is empty"):
        Web(settings(contact=""), policy())
    with pytest.raises(ValueError, match="printable ASCII"):
        settings(contact="a\r\nX-Evil: b")


def _connections_to(port: int) -> list[object]:
    """Sockets of this process that are connected to `port`: the client's, not the server's."""
    return [found for found in psutil.Process().net_connections("tcp") if found.raddr and found.raddr.port == port]


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _kernel_threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)
