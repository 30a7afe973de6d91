"""Which addresses may be reached: those of the public internet, and networks that the policy names.

A name is never judged, only the addresses it resolves to, and only addresses judged here are connected to: a name that is
public when asked and private when used gains nothing. Addresses that carry another one inside (IPv4-mapped, 6to4, NAT64,
Teredo, ISATAP) are judged by both. IPv6 is public only inside 2000::/3, where all of it is that has been given out.
The list is IANA's of special-purpose addresses; Python's `is_global` is not used, because it changed between releases.
"""

import ipaddress
import socket
from collections.abc import Iterator

from pipelines.fetch.policy import FetchPolicy

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; 169.254.169.254 hands out cloud credentials
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast included
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo included
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRules:
    """Judges addresses by one policy."""

    def __init__(self, policy: FetchPolicy) -> None:
        self._allowed = tuple(ipaddress.ip_network(network) for network in policy.allowed_networks)

    def permits(self, address: IPAddress) -> bool:
        """Whether the policy lets this address be connected to, whichever way it is written."""
        if isinstance(address, ipaddress.IPv6Address):
            if address.scope_id is not None:
                return False
            if address.ipv4_mapped is not None:  # the kernel connects to the IPv4 address itself
                return self.permits(address.ipv4_mapped)
        if any(address in network for network in self._allowed):
            return True
        return _is_public(address) and all(self.permits(inner) for inner in _carried(address))


def numeric(text: str) -> IPAddress:
    """The address that a resolver or a socket call spells."""
    return ipaddress.ip_address(text)


def family_of(address: IPAddress) -> socket.AddressFamily:
    """The socket family that connects to this address."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    if address in _NAT64:
        return True  # as public as the address it carries
    return address in _GLOBAL_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def _carried(address: IPAddress) -> Iterator[ipaddress.IPv4Address]:
    """IPv4 addresses that a gateway may take this IPv6 address for."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if (int(address) >> 32) & 0xFCFFFFFF == 0x5EFE:  # ISATAP: …:0:5efe:a.b.c.d, with its two flag bits
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
