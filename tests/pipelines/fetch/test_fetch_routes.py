"""Where requests go: never to private addresses, by whatever way; elsewhere where the user says so; over verified TLS."""

import asyncio
import concurrent.futures
import datetime
import itertools
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from pipelines.fetch.client import Body, Web
from pipelines.fetch.policy import FetchPolicy, FetchSettings
from tests.servers.hostile import PNG, HostileServer, redirect
from tests.servers.names import NameServer

MakeSettings = Callable[..., FetchSettings]
MakePolicy = Callable[..., FetchPolicy]
Outcome = Callable[[Web, str], Body | str]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "0177.1", "127.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]",
     "[::ffff:7f00:1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "0.0.0.0", "10.0.0.1", "[fd00:ec2::254]"],
)  # fmt: skip
def test_private_addresses_are_refused_in_urls_and_in_redirects(
    settings: MakeSettings, server: HostileServer, outcome: Outcome, host: str
) -> None:
    server.route("/to-private", redirect(f"http://{host}:{server.port}/secret"))
    by_name = settings(connect_to=(f"public.test::127.0.0.1:{server.port}", f"::127.0.0.1:{server.port}"))
    with Web(by_name, FetchPolicy(respect_robots=False)) as web:
        assert outcome(web, f"http://{host}:{server.port}/secret") == "policy.private_address url"
        assert outcome(web, "http://public.test/to-private") == "policy.private_address url"
    assert server.count("/secret") == 0


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://public.test/a", "gopher://public.test/", "http://u:p@public.test/"]
)
def test_redirects_to_other_schemes(
    settings: MakeSettings, server: HostileServer, outcome: Outcome, location: str
) -> None:
    server.route("/elsewhere", redirect(location))
    with Web(settings(connect_to=(f"::127.0.0.1:{server.port}",)), FetchPolicy(respect_robots=False)) as web:
        result = outcome(web, "http://public.test/elsewhere")
    assert isinstance(result, str)
    assert result.startswith("redirect.invalid ")


def test_a_name_that_changes_its_mind(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome
) -> None:
    """Public when first asked, private ever after: every request asks, and goes only where it was told it may."""
    answers = itertools.chain([["127.0.0.1"]], itertools.repeat(["10.0.0.1", "169.254.169.254"]))
    said: dict[int, list[str]] = {}

    with NameServer(lambda _: said[0]) as names:
        with Web(
            settings(nameservers=(names.address,), dns_cache_seconds=0.0, keep_alive_seconds=0.0), policy()
        ) as web:
            said[0] = next(answers)
            assert isinstance(outcome(web, f"http://rebind.test:{server.port}/image.png"), Body)
            said[0] = next(answers)
            assert outcome(web, f"http://rebind.test:{server.port}/image.png") == "policy.private_address name"
        assert names.asked == ["rebind.test"] * 2


def test_a_socket_is_only_made_for_an_address_that_was_checked(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second guard, for the day that aiohttp resolves names in another way."""

    async def another_way(_: object, host: str, port: int, traces: object = None) -> list[dict[str, object]]:
        return [{"hostname": host, "host": "127.0.0.2", "port": port, "family": 2, "proto": 0, "flags": 0}]

    with NameServer(lambda _: ["127.0.0.1"]) as names, Web(settings(nameservers=(names.address,)), policy()) as web:
        monkeypatch.setattr("pipelines.fetch.connector.Connector._resolve_host", another_way)
        assert outcome(web, f"http://checked.test:{server.port}/image.png") == "policy.private_address unchecked"


def test_a_name_with_public_and_private_addresses_is_reached_by_the_permitted_ones(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome
) -> None:
    addresses = ["10.0.0.1", "127.0.0.1", "::1", "169.254.169.254"]
    with NameServer(lambda _: addresses) as names, Web(settings(nameservers=(names.address,)), policy()) as web:
        assert isinstance(outcome(web, f"http://mixed.test:{server.port}/image.png"), Body)


@pytest.mark.parametrize(
    ("answer", "expected"), [(3, "dns not_found"), ([], "dns not_found"), (2, "dns failed"), (None, "dns timeout")]
)
def test_names_without_addresses(
    settings: MakeSettings, policy: MakePolicy, outcome: Outcome, answer: list[str] | int | None, expected: str
) -> None:
    with NameServer(lambda _: answer) as names, Web(settings(nameservers=(names.address,)), policy()) as web:
        assert outcome(web, "http://nowhere.test/") == expected
        if expected == "dns failed":
            return
        asked = len(names.asked)
        assert outcome(web, "http://nowhere.test/b") == expected
        assert len(names.asked) == asked, "what was just learned is not asked again"


def test_a_name_server_that_fails_once_is_asked_again(
    settings: MakeSettings, policy: MakePolicy, server: HostileServer, outcome: Outcome
) -> None:
    answers: list[list[str] | int] = [2] * 6 + [["127.0.0.1"]] * 100  # c-ares itself tries three times, for A and AAAA
    with (
        NameServer(lambda _: answers.pop(0)) as names,
        Web(settings(nameservers=(names.address,), max_retries=4), policy()) as web,
    ):
        assert isinstance(outcome(web, f"http://shaky.test:{server.port}/image.png"), Body)


def test_closing_while_a_name_is_asked_for(settings: MakeSettings, policy: MakePolicy) -> None:
    with NameServer(lambda _: None) as names:
        web = Web(settings(nameservers=(names.address,), dns_timeout_seconds=30.0), policy())

        async def row() -> None:
            with web.lease() as lease:
                await web.fetch("http://silent.test/", lease=lease)

        future = web.submit(row())
        while not names.asked:
            time.sleep(0.01)
        web.close()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)


def test_names_are_asked_once_for_many(settings: MakeSettings, policy: MakePolicy, server: HostileServer) -> None:
    with NameServer(lambda _: ["127.0.0.1"]) as names, Web(settings(nameservers=(names.address,)), policy()) as web:

        async def rows() -> None:
            async with web.lease() as lease:
                await asyncio.gather(
                    *(web.fetch(f"http://many.test:{server.port}/image.png", lease=lease) for _ in range(8))
                )

        web.submit(rows()).result(30)
        assert names.asked == ["many.test"]


def test_connect_to(settings: MakeSettings, server: HostileServer, outcome: Outcome) -> None:
    mappings = (f"a.test:80:127.0.0.1:{server.port}", f"b.test::127.0.0.1:{server.port}", f":{server.port}:127.0.0.1:")
    with Web(settings(connect_to=mappings), FetchPolicy(respect_robots=False)) as web:
        for url in ("http://a.test/image.png", "http://b.test:81/image.png", f"http://c.test:{server.port}/image.png"):
            body = outcome(web, url)
            assert isinstance(body, Body), (url, body)
            assert body.url == url
        assert server.requests[-2].headers["host"] == "b.test:81"
        with (
            NameServer(lambda _: 3) as names,
            Web(
                settings(connect_to=mappings, nameservers=(names.address,)), FetchPolicy(respect_robots=False)
            ) as strict,
        ):
            assert outcome(strict, "http://a.test:81/") == "dns not_found"


@pytest.mark.parametrize("text", ["a:1:b", "a:b:c:d", "a:0:b:1", "", "a:1:b:1:c"])
def test_connect_to_that_is_none(settings: MakeSettings, policy: MakePolicy, text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT:TOHOST:TOPORT"):
        Web(settings(connect_to=(text,)), policy())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(path)
    return made, path


def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(made)
    return made


def test_tls_is_verified_against_the_host_of_the_url(
    settings: MakeSettings, authority: tuple[trustme.CA, Path], outcome: Outcome
) -> None:
    issuer, ca_file = authority
    with HostileServer(tls=context(issuer.issue_cert("good.test"))) as server:
        connect_to = (f"::127.0.0.1:{server.port}",)
        with Web(settings(connect_to=connect_to, ca_file=str(ca_file)), FetchPolicy(respect_robots=False)) as web:
            body = outcome(web, "https://good.test/image.png")
            assert isinstance(body, Body), body
            assert body.data == PNG
            assert outcome(web, "https://other.test/image.png") == "tls certificate:wrong_host"
        with Web(settings(connect_to=connect_to), FetchPolicy(respect_robots=False)) as web:
            result = outcome(web, "https://good.test/image.png")
            assert result in ("tls certificate:unknown_issuer", "tls certificate:self_signed")
        assert server.count("/image.png") == 1


def test_tls_expired_unknown_and_none(
    settings: MakeSettings, authority: tuple[trustme.CA, Path], outcome: Outcome, server: HostileServer
) -> None:
    issuer, ca_file = authority
    long_ago = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    cases = {
        "tls certificate:expired": issuer.issue_cert("good.test", not_after=long_ago),
        "tls certificate:unknown_issuer": trustme.CA().issue_cert("good.test"),
    }
    for expected, certificate in cases.items():
        with HostileServer(tls=context(certificate)) as secure:
            connect_to = (f"::127.0.0.1:{secure.port}",)
            with Web(settings(connect_to=connect_to, ca_file=str(ca_file)), FetchPolicy(respect_robots=False)) as web:
                assert outcome(web, "https://good.test/image.png") == expected
    with Web(settings(connect_to=(f"::127.0.0.1:{server.port}",)), FetchPolicy(respect_robots=False)) as web:
        assert outcome(web, "https://plain.test/image.png") == "connect timeout"


def test_tls_self_signed(
    settings: MakeSettings, authority: tuple[trustme.CA, Path], outcome: Outcome, tmp_path: Path
) -> None:
    _, ca_file = authority
    own = trustme.CA()
    pem = tmp_path / "own.pem"
    pem.write_bytes(own.private_key_pem.bytes() + own.cert_pem.bytes())
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pem)
    with HostileServer(tls=made) as server:
        connect_to = (f"::127.0.0.1:{server.port}",)
        with Web(settings(connect_to=connect_to, ca_file=str(ca_file)), FetchPolicy(respect_robots=False)) as web:
            assert outcome(web, "https://good.test/image.png") == "tls certificate:self_signed"


def test_a_ca_file_that_cannot_be_read(settings: MakeSettings, policy: MakePolicy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ca_file: .*nothing\.pem"):
        Web(settings(ca_file=str(tmp_path / "nothing.pem")), policy())
