"""URLs: what is meant is kept, what is not clear is refused."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.fetch.urls import parse, redirected
from schemas.reasons import Reason, Refused


@pytest.mark.parametrize(
    ("text", "requested"),
    [
        ("http://example.org", "http://example.org/"),
        ("  HTTPS://Example.ORG:443/A%2fb?x=%41#top\n", "https://example.org/A%2fb?x=%41"),
        ("http://example.org.:8080/", "http://example.org:8080/"),
        ("http://example.org:/a", "http://example.org/a"),
        ("http://example.org?q", "http://example.org/?q"),
        ("http://example.org/a b/é?q=ü&[1]", "http://example.org/a%20b/%C3%A9?q=%C3%BC&[1]"),
        ("http://example.org/100%/%zz/%4", "http://example.org/100%25/%25zz/%254"),
        ("http://example.org/../a//./b", "http://example.org/../a//./b"),
        ("http://example.org\\@evil.test/", "http://example.org/%5C@evil.test/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://EXAMPLE。org/", "http://example.org/"),
        ("http://a_b.-c.example/", "http://a_b.-c.example/"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://0177.0.0.01/", "http://127.0.0.1/"),
        ("http://１２７.0.0.1/", "http://127.0.0.1/"),
        ("http://[::FFFF:127.0.0.1]:80/", "http://[::ffff:7f00:1]/"),
    ],
)
def test_what_is_requested(text: str, requested: str) -> None:
    assert parse(text).text == requested


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "empty"),
        (" \t ", "empty"),
        ("UNLIKELY", "shape"),
        ("www.example.org/a.jpg", "shape"),
        ("//example.org/a.jpg", "shape"),
        ("http:/example.org", "shape"),
        ("file:///etc/passwd", "scheme"),
        ("ftp://example.org/a", "scheme"),
        ("data:image/png;base64,AAAA", "shape"),
        ("http://", "host"),
        ("http:///path", "host"),
        ("http://user:secret@example.org/", "userinfo"),
        ("http://example.org@127.0.0.1/", "userinfo"),
        ("http://example.org:0/", "port"),
        ("http://example.org:65536/", "port"),
        ("http://example.org:80a/", "host"),
        ("http://exa mple.org/", "host"),
        ("http://exam%70le.org/", "host"),
        ("http://a..b/", "host"),
        ("http://" + "a" * 64 + ".org/", "host"),
        ("http://" + "a." * 130 + "org/", "host"),
        ("http://[::1/", "host"),
        ("http://[fe80::1%25eth0]/", "host"),
        ("http://1.2.3.4.5/", "host"),
        ("http://256.1.1.1/", "host"),
        ("http://08.1/", "host"),
        ("http://4294967296/", "host"),
        ("http://xn--/", "ok"),
        ("http://example.org/a\nb", "control_character"),
        ("http://example.org/\x00", "control_character"),
        ("http://example.org/\ud800", "surrogate"),
        ("http://example.org/" + "a" * 65_536, "too_long"),
        ("http://example.org/" + "é" * 2_000, "too_long"),
    ],
)
def test_what_is_refused(text: str, detail: str) -> None:
    if detail == "ok":
        assert parse(text).text == text
        return
    with pytest.raises(Refused) as caught:
        parse(text)
    assert (caught.value.refusal.reason, caught.value.refusal.detail) == (Reason.URL_INVALID, detail)


@given(st.text(max_size=60).map(lambda tail: "http://" + tail) | st.text(max_size=60))
def test_any_text_parses_or_is_refused_and_a_parsed_one_parses_to_itself(text: str) -> None:
    try:
        target = parse(text)
    except Refused as refused:
        if refused.refusal.reason is not Reason.URL_INVALID:
            raise
        return
    assert target.text.isascii()
    assert not any(character in target.text for character in " \r\n\t")
    assert parse(target.text) == target


@given(st.integers(0, 2**32 - 1))
def test_every_spelling_of_an_address_is_one_address(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    a, b, c, d = address.packed
    for text in (f"{number}", f"{number:#x}", f"0{number:o}", f"{a}.{number & 0xFFFFFF}", f"{a:#x}.0{b:o}.{c}.{d}"):
        assert parse(f"http://{text}/").address == address


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b?c#d", "http://example.org/b?c"),
        ("b", "http://example.org/a/b"),
        ("//other.test", "http://other.test/"),
        ("https://other.test/x y", "https://other.test/x%20y"),
        ("/caf\u00e9", "http://example.org/caf%C3%A9"),
        (b"/caf\xe9".decode("utf-8", "surrogateescape"), "http://example.org/caf%E9"),
    ],
)
def test_where_a_redirect_leads(location: str, expected: str) -> None:
    assert redirected(parse("http://example.org/a/"), location).text == expected


@pytest.mark.parametrize(
    "location", [None, "", "  ", "file:///etc/passwd", "ftp://a/", "javascript:1", "http://[::1", "http://a:b/"]
)
def test_where_no_redirect_leads(location: str | None) -> None:
    with pytest.raises(Refused) as caught:
        redirected(parse("http://example.org/a/"), location)
    assert caught.value.refusal.reason is Reason.REDIRECT_INVALID
