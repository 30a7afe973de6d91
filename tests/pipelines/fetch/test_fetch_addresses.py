"""Addresses: public ones and those the policy names, however they are written."""

import ipaddress

import pytest

from pipelines.fetch.addresses import AddressRules
from pipelines.fetch.policy import FetchPolicy


@pytest.mark.parametrize(
    "text",
    ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1",
     "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"],
)  # fmt: skip
def test_public(text: str) -> None:
    assert AddressRules(FetchPolicy()).permits(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255",
        "192.0.0.1", "192.168.1.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
        "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b::7f00:1", "64:ff9b:1::808:808", "3fff::1",
        "2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1", "4000::1",
    ],
)  # fmt: skip
def test_not_public(text: str) -> None:
    assert not AddressRules(FetchPolicy()).permits(ipaddress.ip_address(text))


def test_networks_of_the_policy() -> None:
    rules = AddressRules(FetchPolicy(allowed_networks=("127.0.0.0/8", "fd00::/8")))
    for text in ("127.0.0.1", "::ffff:127.9.9.9", "fd00::1", "64:ff9b::7f00:1"):
        assert rules.permits(ipaddress.ip_address(text)), text
    for text in ("10.0.0.1", "::1", "fe80::1", "::ffff:10.0.0.1"):
        assert not rules.permits(ipaddress.ip_address(text)), text


def test_a_network_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"allowed_networks: '127\.0\.0\.1/8'"):
        FetchPolicy(allowed_networks=("127.0.0.1/8",))
