"""What the fetcher may do (`FetchPolicy`) and how a run does it (`FetchSettings`): two records, kept apart on purpose.

A policy decides which bytes a URL yields, so it is part of the recipe hash: two corpora of one recipe had the same policy.
Settings decide how fast, how patiently and through which machines; changing them between two runs changes no sample that
both runs get, so they are never part of the hash. Values are checked when the records are built. A contact is checked by
`Web`, which alone needs one: planning without a contact is fine.
"""

import ipaddress
import re
from dataclasses import dataclass, fields

_CONTACT = re.compile(r"[\x21-\x7e]+( [\x21-\x7e]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """What may be fetched and kept. Part of the recipe hash: every field decides content."""

    max_body_bytes: int = 20_000_000
    """Largest body kept, in bytes after decompression; no more than this is read from the network either."""

    max_redirects: int = 5
    """Redirects followed for one URL. Each hop is checked like a URL of its own."""

    allowed_networks: tuple[str, ...] = ()
    """Networks in CIDR form that may be reached although they are not public, such as `10.1.0.0/16`."""

    respect_robots: bool = True
    """Whether `robots.txt` is asked first and obeyed."""

    respect_opt_out: bool = True
    """Whether an `X-Robots-Tag` of noai, noimageai, noml, noindex or noimageindex refuses the body."""

    def __post_init__(self) -> None:
        _at_least(self, "max_body_bytes", 1)
        _at_least(self, "max_redirects", 0)
        for network in self.allowed_networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(
                    f"allowed_networks: {network!r} is not a network in CIDR form such as 10.1.0.0/16"
                ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """How a run fetches. Never part of the recipe hash."""

    contact: str
    """Who answers for the run: `mailto:` or a URL. Put in the user agent of every request; `Web` refuses to start without."""

    dns_timeout_seconds: float = 5.0
    """Longest wait for a name's addresses."""

    connect_timeout_seconds: float = 5.0
    """Longest wait for a connection, its TLS handshake included."""

    first_byte_timeout_seconds: float = 10.0
    """Longest wait from the connection to the last byte of the response's header."""

    min_rate_bytes_per_second: int = 1_000
    """A body that brings less than this, averaged over `rate_window_seconds`, is `slow`. 0 turns the rule off."""

    rate_window_seconds: float = 5.0
    """Time over which the rate of a body is averaged; also the longest stall inside a body."""

    total_timeout_seconds: float = 30.0
    """Longest time on the network for one attempt, all its redirects included. Waiting for our own slots does not count."""

    max_retries: int = 2
    """Further attempts after a refusal that may pass. With `retry_timeouts` off, time-outs are left to another run."""

    retry_timeouts: bool = False
    """Whether time-outs are tried again too. Off: a stall holds a slot as long as a hundred good answers do."""

    retry_wait_seconds: float = 1.0
    """Wait before the first retry; doubles with each, and is drawn between half and all of that."""

    max_wait_seconds: float = 30.0
    """Longest wait before a retry, and for a host that asked for a pause. A host that asks for more gives `host.backoff`."""

    connections_per_host: int = 4
    """Requests open at one host at a time."""

    requests_per_second_per_host: float = 10.0
    """Requests begun at one host in any second."""

    initial_in_flight: int = 64
    """Requests in flight, over all hosts, before anything is known about the network."""

    min_in_flight: int = 32
    """Floor of the requests in flight: however bad the network looks, this many go on."""

    max_in_flight: int = 1_024
    """Ceiling of the requests in flight, over all hosts; a ceiling below the floor or the initial number lowers these too."""

    body_budget_bytes: int = 256_000_000
    """Bytes of bodies held at a time, by leases; `pipelines.fetch.budget` says by how much it may be exceeded."""

    keep_alive_seconds: float = 5.0
    """How long an idle connection is kept for the next request to its host."""

    dns_cache_seconds: float = 300.0
    """How long addresses are remembered; a name that does not exist is remembered as long, a failed lookup 10 s at most.

    c-ares keeps answers too, for as long as they say they hold.
    """

    nameservers: tuple[str, ...] = ()
    """Name servers as `ADDRESS` or `ADDRESS:PORT`; empty: those of the machine."""

    connect_to: tuple[str, ...] = ()
    """`HOST:PORT:TOHOST:TOPORT`, as `curl --connect-to`: connect elsewhere for this host; an empty part means any, or the same.

    The user named the target, so it is not checked for being public; addresses written in URLs still are.
    """

    ca_file: str | None = None
    """PEM file of certificate authorities trusted in addition to those of the system."""

    def __post_init__(self) -> None:
        if self.contact and not _CONTACT.fullmatch(self.contact):
            raise ValueError(f"contact: {self.contact!r} must be printable ASCII without leading or trailing spaces")
        if self.contact and not self.contact.startswith(("mailto:", "http://", "https://")):
            raise ValueError(
                f"contact: {self.contact!r} must be an address that can be written to: mailto:… or https://…"
            )
        for field in fields(self):
            if field.name.endswith("_seconds"):
                _at_least(self, field.name, 0)
        for name in ("min_rate_bytes_per_second", "max_retries"):
            _at_least(self, name, 0)
        for name in (
            "connections_per_host",
            "min_in_flight",
            "initial_in_flight",
            "max_in_flight",
            "body_budget_bytes",
        ):
            _at_least(self, name, 1)
        if not self.requests_per_second_per_host > 0:
            raise ValueError("requests_per_second_per_host must be above 0")


def _at_least(record: object, name: str, smallest: int) -> None:
    value = getattr(record, name)
    if not value >= smallest:
        raise ValueError(f"{name}: found {value!r}, expected at least {smallest}")
