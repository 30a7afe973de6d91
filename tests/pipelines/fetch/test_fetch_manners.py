"""Manners, measured at the server: limits per host, pauses, robots.txt, opt-out headers; and concurrency that keeps its head."""

import asyncio
import email.utils
import time
from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipelines.fetch.client import Body, Web
from pipelines.fetch.exchange import StatusRefused
from pipelines.fetch.gate import Gate
from pipelines.fetch.hosts import Host, Hosts, Rate, retry_after_seconds
from pipelines.fetch.opt_out import opt_out
from pipelines.fetch.policy import FetchPolicy, FetchSettings
from schemas.reasons import Reason, Refusal, Refused
from tests.servers.hostile import (
    PNG,
    HostileServer,
    Request,
    answer,
    redirect,
    reset_at_once,
    response,
    slow_first_byte,
)

MakeSettings = Callable[..., FetchSettings]
Outcome = Callable[[Web, str], Body | str]


def by_name(server: HostileServer) -> tuple[str, ...]:
    return (f"::127.0.0.1:{server.port}",)


def fetch_all(web: Web, urls: list[str]) -> list[Body | str]:
    async def one(url: str) -> Body | str:
        with web.lease() as lease:
            try:
                return await web.fetch(url, lease=lease)
            except Refused as refused:
                return str(refused)

    return [future.result(60) for future in [web.submit(one(url)) for url in urls]]


def test_connections_and_requests_per_second_are_kept_at_the_server(settings: MakeSettings) -> None:
    with HostileServer() as server:

        async def takes_a_moment(_: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.02)
            writer.write(response(b"x"))

        server.route("/moment", takes_a_moment)
        limits = settings(
            connect_to=by_name(server), connections_per_host=3, requests_per_second_per_host=10.0, total_timeout_seconds=30.0
        )  # fmt: skip
        with Web(limits, FetchPolicy(respect_robots=False)) as web:
            urls = [f"http://host-{number % 3}.test/moment?{number}" for number in range(75)]
            assert all(isinstance(body, Body) for body in fetch_all(web, urls))
        begun = defaultdict(list)
        for request in server.requests:
            begun[request.host].append(request.begun)
        assert sorted(begun) == ["host-0.test", "host-1.test", "host-2.test"]
        for host, times in begun.items():
            assert len(times) == 25
            assert server.most_open[host] <= 3
            for first, eleventh in zip(times, times[10:], strict=False):
                assert eleventh - first > 0.9, "more than 10 in a second, less a tenth for the way to the server"


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    per_second=st.sampled_from([0.5, 1.0, 3.0, 10.0]),
    steps=st.lists(st.tuples(st.floats(0, 1.5), st.booleans()), min_size=1, max_size=80),
)
def test_no_schedule_exceeds_the_rate(per_second: float, steps: list[tuple[float, bool]]) -> None:
    """Whatever the waits between taking and beginning a start, any window holds at most its number of beginnings."""
    rate, now, taken, begun = Rate(per_second), 100.0, 0, []
    for wait, begin in steps:
        now += wait
        if rate.wait_seconds(now) <= 0:
            rate.take()
            taken += 1
        if begin and taken:
            taken -= 1
            rate.begin(now)
            begun.append(now)
    window, most = max(1.0, 1 / per_second), max(1, int(per_second))
    for start in begun:
        assert sum(start <= time_ < start + window - 1e-6 for time_ in begun) <= most


@hypothesis_settings(deadline=None, max_examples=40)
@given(visits=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), min_size=1, max_size=40))
def test_no_schedule_exceeds_the_connections_of_a_host(visits: list[tuple[int, int, bool]]) -> None:
    """Visits of any length to a few hosts, some cancelled at any place: limits hold, and every slot comes back."""
    limits = FetchSettings(
        contact="mailto:x@example.org", connections_per_host=2, requests_per_second_per_host=10_000.0
    )

    async def run() -> None:
        hosts, open_, most = Hosts(limits), defaultdict(int), defaultdict(int)

        async def visit(name: str, turns: int) -> None:
            async with hosts.slot(name) as slot:
                open_[name] += 1
                most[name] = max(most[name], open_[name])
                try:
                    await asyncio.sleep(0)
                    slot.begin()
                    for _ in range(turns):
                        await asyncio.sleep(0)
                finally:
                    open_[name] -= 1

        tasks = [asyncio.create_task(visit(f"{number}.test", turns)) for number, turns, _ in visits]
        for task, (_, turns, cancelled) in zip(tasks, visits, strict=True):
            if cancelled:
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert max(most.values(), default=0) <= 2
        for number, *_ in visits:
            async with hosts.slot(f"{number}.test") as slot:
                assert slot.host.users == 1
                assert slot.host.slots._value == 1, "all others came back"

    asyncio.run(run())


def test_a_host_that_asks_for_a_pause_gets_it(settings: MakeSettings) -> None:
    with HostileServer() as server:
        server.route("/busy", answer(response(b"", status="429 Slow Down", Retry_After="1")))
        with Web(settings(connect_to=by_name(server), max_retries=0), FetchPolicy(respect_robots=False)) as web:
            assert fetch_all(web, ["http://busy.test/busy"]) == ["http.429"]
            assert all(
                isinstance(body, Body)
                for body in fetch_all(web, ["http://busy.test/image.png", "http://other.test/image.png"])
            )
        busy, *later = sorted(server.requests, key=lambda request: request.begun)
        waits = {request.host: request.begun - busy.begun for request in later}  # the pause cannot begin before
        assert waits["busy.test"] >= 1
        assert waits["other.test"] < waits["busy.test"]


def test_a_host_that_asks_for_a_long_pause_is_left_alone(settings: MakeSettings) -> None:
    with HostileServer() as server:
        later = email.utils.formatdate(time.time() + 600, usegmt=True)
        server.route("/busy", answer(response(b"", status="503 Busy", Retry_After=later)))
        with Web(settings(connect_to=by_name(server), max_retries=2), FetchPolicy(respect_robots=False)) as web:
            assert fetch_all(web, ["http://busy.test/busy"]) == ["http.503"], (
                "what the host said, not what followed from it"
            )
            assert fetch_all(web, ["http://busy.test/image.png"]) == ["host.backoff"]
        assert len(server.requests) == 1


def test_time_outs_in_a_row_pause_a_host(settings: MakeSettings) -> None:
    with HostileServer() as server:
        server.route("/silent", slow_first_byte)
        quick = settings(connect_to=by_name(server), first_byte_timeout_seconds=0.1, max_wait_seconds=0.5)
        with Web(quick, FetchPolicy(respect_robots=False)) as web:
            for _ in range(3):
                assert fetch_all(web, ["http://silent.test/silent"]) == ["first_byte"]
            assert fetch_all(web, ["http://silent.test/image.png"]) == ["host.backoff"]


def test_pauses_double_with_each_trouble_and_not_with_each_request(settings: MakeSettings) -> None:
    async def run() -> None:
        host, now, pauses = Host(settings()), 100.0, []
        for _ in range(4):
            for _in_flight in range(4):
                host.failed(StatusRefused(503, {}), now)
            pauses.append(host.paused_until - now)
            now = host.paused_until
        assert pauses == [2.0, 4.0, 8.0, 16.0]
        host.succeeded()
        host.failed(StatusRefused(404, {}), now)
        assert host.paused_until == now
        host.failed(StatusRefused(429, {}), now)
        assert host.paused_until - now == 2.0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 30}, 1e9),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:59:29 GMT"}, 30.0),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


def test_twenty_thousand_hosts_do_not_grow_the_table(settings: MakeSettings) -> None:
    async def run() -> None:
        hosts = Hosts(settings(), max_hosts=500)
        async with hosts.slot("kept.test") as kept:
            kept.begin()
            for number in range(20_000):
                async with hosts.slot(f"host-{number}.test") as slot:
                    slot.begin()
                    if number % 10 == 0:
                        slot.host.failed(StatusRefused(429, {"Retry-After": "600"}), asyncio.get_running_loop().time())
                assert len(hosts) <= 1_001
            async with hosts.slot("kept.test") as again:
                assert again.host is kept.host, "a host in use is never forgotten"

    asyncio.run(run())


# robots.txt


def robots(body: bytes, status: str = "200 OK") -> bytes:
    return response(body, status=status)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"User-agent: *\nDisallow: /", "policy.robots"),
        (b"User-agent: *\nDisallow: /private", "ok"),
        (b"User-agent: Emu-Corpus\nDisallow: /\n\nUser-agent: *\nAllow: /", "policy.robots"),
        (b"User-agent: othertool\nDisallow: /\n", "ok"),
        (b"User-agent: *\nDisallow: /\nAllow: /image", "ok"),
        (b"\xef\xbb\xbfUser-agent: *\r\nDisallow: /*.png$", "policy.robots"),
        (b"<html>not found</html>", "ok"),
        (bytes(range(256)) * 100, "ok"),
        (b"", "ok"),
        (b"#" * 600_000 + b"\nUser-agent: *\nDisallow: /", "ok"),
        (b"User-agent: *\nDisallow: /\n" + b"#" * 600_000, "policy.robots"),
    ],
)
def test_robots_rules(settings: MakeSettings, text: bytes, expected: str) -> None:
    with HostileServer() as server:
        server.route("/robots.txt", answer(robots(text)))
        with Web(settings(connect_to=by_name(server)), FetchPolicy()) as web:
            results = [*fetch_all(web, ["http://a.test/image.png"] * 2), *fetch_all(web, ["http://b.test/image.png"])]
        assert ["ok" if isinstance(result, Body) else result for result in results] == [expected] * 3
        assert [request.host for request in server.requests if request.path == "/robots.txt"] == ["a.test", "b.test"]
        assert server.requests[0].path == "/robots.txt"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("404 Gone", "ok"),
        ("401 No", "ok"),
        ("403 No", "ok"),
        ("500 Oops", "http.500"),
        ("503 Busy", "http.503"),
        ("429 Slow", "http.429"),
    ],
)
def test_robots_that_cannot_be_had(settings: MakeSettings, outcome: Outcome, status: str, expected: str) -> None:
    with HostileServer() as server:
        server.route("/robots.txt", answer(robots(b"x", status)))
        with Web(settings(connect_to=by_name(server)), FetchPolicy()) as web:
            result = outcome(web, "http://a.test/image.png")
        assert ("ok" if isinstance(result, Body) else result) == expected
        assert (server.count("/image.png") == 1) == (expected == "ok")


def test_robots_slow_and_broken(settings: MakeSettings, outcome: Outcome) -> None:
    with HostileServer() as server, Web(settings(connect_to=by_name(server)), FetchPolicy()) as web:
        server.route("/robots.txt", slow_first_byte)
        assert outcome(web, "http://slow.test/image.png") == "first_byte"
        server.route("/robots.txt", reset_at_once)
        assert outcome(web, "http://reset.test/image.png") == "reset header"
        server.route("/robots.txt", redirect("http://169.254.169.254/robots.txt"))
        assert outcome(web, "http://private.test/image.png") == "policy.private_address url"
        assert server.count("/image.png") == 0


def test_robots_that_fail_once_are_asked_again(settings: MakeSettings, outcome: Outcome) -> None:
    with HostileServer() as server:
        answers = [response(b"", status="500 Oops"), robots(b"User-agent: *\nAllow: /")]

        async def once(_: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(answers.pop(0))

        server.route("/robots.txt", once)
        with Web(settings(connect_to=by_name(server), max_retries=1), FetchPolicy()) as web:
            assert isinstance(outcome(web, "http://a.test/image.png"), Body)


def test_robots_of_every_hop_and_switched_off(settings: MakeSettings, outcome: Outcome) -> None:
    with HostileServer() as server:

        async def by_host(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(
                robots(b"User-agent: *\nDisallow: /" if request.host == "closed.test" else b"User-agent: *\nAllow: /")
            )

        server.route("/robots.txt", by_host)
        server.route("/to-closed", redirect("http://closed.test/image.png"))
        with Web(settings(connect_to=by_name(server)), FetchPolicy()) as web:
            assert outcome(web, "http://open.test/to-closed") == "policy.robots"
        with Web(settings(connect_to=by_name(server)), FetchPolicy(respect_robots=False)) as web:
            asked = server.count("/robots.txt")
            assert isinstance(outcome(web, "http://open.test/to-closed"), Body)
            assert server.count("/robots.txt") == asked


def test_crawl_delay_is_kept_at_the_server(settings: MakeSettings) -> None:
    with HostileServer() as server:
        server.route("/robots.txt", answer(robots(b"User-agent: *\nCrawl-delay: 0.5")))
        with Web(settings(connect_to=by_name(server)), FetchPolicy()) as web:
            assert all(
                isinstance(body, Body) for body in fetch_all(web, [f"http://a.test/image.png?{n}" for n in range(5)])
            )
        times = [request.begun for request in server.requests if request.path == "/image.png"]
        for first, third in zip(times, times[2:], strict=False):
            assert third - first > 0.9, "two in a second"


# X-Robots-Tag


@pytest.mark.parametrize(
    ("headers", "directive"),
    [
        ([], None),
        (["all"], None),
        (["NoAI"], "noai"),
        (["nofollow, noimageai"], "noimageai"),
        (["nofollow", "noml"], "noml"),
        (["none"], "none"),
        (["googlebot: noindex"], None),
        (["googlebot: nofollow, noindex"], None),
        (["emu-corpus: noindex"], "noindex"),
        (["EMU-Corpus : noimageindex"], "noimageindex"),
        (["*: noai"], "noai"),
        (["googlebot: noindex, emu-corpus: noai"], "noai"),
        (["noai, googlebot: noindex"], "noai"),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, noindex"], "noindex"),
        (["max-snippet: 5, noai"], "noai"),
        (["noaii, xnoai"], None),
        (["", ",", ":", "::noai"], None),
    ],
)
def test_opt_out_directives(headers: list[str], directive: str | None) -> None:
    assert opt_out(headers, agent="emu-corpus") == directive


def test_opt_out_headers_refuse_the_body(settings: MakeSettings, outcome: Outcome) -> None:
    with HostileServer() as server:
        server.route("/opted-out", answer(response(PNG, X_Robots_Tag="noindex, noai")))
        with Web(settings(connect_to=by_name(server)), FetchPolicy(respect_robots=False)) as web:
            assert outcome(web, "http://a.test/opted-out") == "policy.opt_out noindex"
            assert web.counters().received_bytes == 0
        with Web(settings(connect_to=by_name(server)), FetchPolicy(respect_robots=False, respect_opt_out=False)) as web:
            assert isinstance(outcome(web, "http://a.test/opted-out"), Body)


# Concurrency


def run_gate(limits: FetchSettings, refusals: list[Refusal | None], *, hosts: int) -> Gate:
    """A gate that is always full, after these outcomes spread over so many hosts."""
    gate = Gate(limits)

    async def run() -> None:
        async def wait_for_ever() -> None:
            async with gate.place():
                await asyncio.sleep(3_600)

        crowd = [asyncio.create_task(wait_for_ever()) for _ in range(1_200)]
        await asyncio.sleep(0)
        for number, refusal in enumerate(refusals):
            gate.observe(f"host-{number % hosts}", refusal)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert gate.in_flight == gate.waiting == 0

    asyncio.run(run())
    return gate


DEAD, GONE = Refusal(Reason.FIRST_BYTE), Refusal(Reason.DNS, "not_found")
NO_DNS = Refusal(Reason.DNS, "timeout")


def test_a_ceiling_below_the_floor_holds(settings: MakeSettings) -> None:
    assert Gate(settings(max_in_flight=5)).limit == 5
    assert run_gate(settings(max_in_flight=5), [DEAD] * 2_000, hosts=2_000).limit == 5


def test_dead_links_do_not_lower_concurrency(settings: MakeSettings) -> None:
    some_dead = [DEAD if number % 25 == 0 else GONE if number % 33 == 0 else None for number in range(20_000)]
    assert run_gate(settings(), some_dead, hosts=20_000).limit == 1_024


def test_one_dead_host_does_not_lower_concurrency(settings: MakeSettings) -> None:
    refusals = [None, DEAD] * 4_000
    gate = Gate(settings())
    for number, refusal in enumerate(refusals):
        gate.observe("dead.test" if refusal else f"host-{number}", refusal)
    assert gate.limit == 64


@pytest.mark.parametrize("trouble", [DEAD, NO_DNS])
def test_trouble_at_many_hosts_lowers_concurrency_to_the_floor_and_no_further(
    settings: MakeSettings, trouble: Refusal
) -> None:
    calm: list[Refusal | None] = [None] * 4_000
    assert run_gate(settings(), calm, hosts=4_000).limit == 1_024
    stormy = calm + [trouble] * 200
    assert run_gate(settings(), stormy, hosts=10_000).limit < 1_024
    lowest = run_gate(settings(), [trouble] * 10_000, hosts=20_000).limit
    assert lowest >= 32


def test_concurrency_recovers(settings: MakeSettings) -> None:
    outcomes: list[Refusal | None] = [None] * 2_000 + [DEAD] * 600 + [None] * 4_000
    assert run_gate(settings(), outcomes, hosts=20_000).limit == 1_024
