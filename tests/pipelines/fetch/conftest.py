"""A hostile server and short deadlines; `outcome` runs one fetch to its body or its refusal."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipelines.fetch.client import Body, Web
from pipelines.fetch.policy import FetchPolicy, FetchSettings
from schemas.reasons import Refused
from tests.servers.hostile import HostileServer

SHORT: dict[str, Any] = {
    "contact": "mailto:tests@example.org",
    "dns_timeout_seconds": 1.0,
    "connect_timeout_seconds": 1.0,
    "first_byte_timeout_seconds": 0.6,
    "rate_window_seconds": 0.6,
    "total_timeout_seconds": 1.5,
    "max_retries": 0,
    "retry_wait_seconds": 0.01,
}


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with HostileServer() as running:
        yield running


@pytest.fixture
def settings() -> Callable[..., FetchSettings]:
    """Settings with short deadlines; keywords override them."""

    def build(**changed: Any) -> FetchSettings:
        return FetchSettings(**(SHORT | changed))

    return build


@pytest.fixture
def policy() -> Callable[..., FetchPolicy]:
    """A policy that reaches 127.0.0.1 and asks no robots.txt; keywords override it."""

    def build(**changed: Any) -> FetchPolicy:
        return FetchPolicy(**({"allowed_networks": ("127.0.0.0/8",), "respect_robots": False} | changed))

    return build


Outcome = Callable[[Web, str], Body | str]


@pytest.fixture
def outcome() -> Outcome:
    """The body of a URL, or `reason detail` of its refusal."""

    def run(web: Web, url: str) -> Body | str:
        async def fetch() -> Body | str:
            with web.lease() as lease:
                try:
                    return await web.fetch(url, lease=lease)
                except Refused as refused:
                    return str(refused)

        return web.submit(fetch()).result(timeout=60)

    return run
