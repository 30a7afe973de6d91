"""From the text of a URL to the one form that is requested: strict about what is meant, lenient about how it is spelled.

Everything that later decides on a URL (addresses, robots, host states, TLS) sees this one parse, so there is no second
parser to disagree with. Percent-encoding is kept as written where it is legal, because servers sign and cache by it;
what may not stand in a request is encoded as UTF-8. Hosts become lower-case ASCII (IDNA, UTS 46), and the short, octal,
hexadecimal and decimal spellings of IPv4 become the four numbers that browsers take them for, before anything judges them.
Refused as `url.invalid`: other schemes, user names and passwords (nothing of ours may send credentials that a data set
carries), control characters, more than 8,000 characters. Not here: whether an address may be reached.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin

import idna
from yarl import URL

from schemas.reasons import Reason, Refused

MAX_URL_CHARS = 8_000
"""Longest URL requested, after encoding. RFC 9110 asks servers for at least this; longer ones in data sets are inlined data."""

_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#\\]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_PORTS = {"http": 80, "https": 443}
_SAFE_IN_PATH = "%/:@!$&'()*+,;=~[]|"
_SAFE_IN_QUERY = _SAFE_IN_PATH + "?"


@dataclass(frozen=True, slots=True)
class Target:
    """One URL, parsed: what is requested (`url`) and what is decided on."""

    url: URL
    host: str
    """Lower-case ASCII name without a final dot, or an IP address in its canonical form, without brackets."""
    port: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    """The address, where the URL names one instead of a host name."""

    @property
    def text(self) -> str:
        """The URL as requested."""
        return str(self.url)


def parse(text: str) -> Target:
    """The target that `text` means. Raises `Refused(url.invalid)` with what is wrong in a word."""
    text = text.strip(" \t\r\n\f")
    if not text:
        raise _invalid("empty")
    if len(text) > MAX_URL_CHARS:
        raise _invalid("too_long")
    match = _SHAPE.match(text)
    if match is None:
        raise _invalid("shape")
    scheme = match["scheme"].lower()
    if scheme not in _PORTS:
        raise _invalid("scheme")
    if _CONTROL.search(text):
        raise _invalid("control_character")
    host_text, port = _authority(match["authority"], default_port=_PORTS[scheme])
    host, address = _host(host_text)
    path = _encoded(match["path"] or "/", safe=_SAFE_IN_PATH)
    query = _encoded((match["query"] or "")[1:], safe=_SAFE_IN_QUERY)
    authority = f"[{host}]" if ":" in host else host
    if port != _PORTS[scheme]:
        authority = f"{authority}:{port}"
    # A backslash right after the authority starts the path in browsers; it reaches the server encoded, as path.
    url = URL(
        f"{scheme}://{authority}{path if path.startswith('/') else '/' + path}{'?' + query if query else ''}",
        encoded=True,
    )
    if len(str(url)) > MAX_URL_CHARS:
        raise _invalid("too_long")
    return Target(url=url, host=host, port=port, address=address)


def redirected(base: Target, location: str | None) -> Target:
    """The target that a `Location` header means, seen from `base`. Raises `Refused(redirect.invalid)`."""
    if not location or not location.strip():
        raise Refused(Reason.REDIRECT_INVALID, "location")
    try:
        return parse(urljoin(base.text, _header_text(location.strip(" \t"))))
    except Refused as refused:
        raise Refused(Reason.REDIRECT_INVALID, refused.refusal.detail) from None
    except ValueError:  # urljoin on brackets that do not match
        raise Refused(Reason.REDIRECT_INVALID, "shape") from None


def _invalid(detail: str) -> Refused:
    return Refused(Reason.URL_INVALID, detail)


def _authority(text: str, *, default_port: int) -> tuple[str, int]:
    """Host and port. `host:` without a number means the default port, as in browsers."""
    if "@" in text:
        raise _invalid("userinfo")
    match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,5}))?", text)
    if match is None:
        raise _invalid("host")
    port = int(match[2]) if match[2] else default_port
    if not 1 <= port <= 65_535:
        raise _invalid("port")
    return match[1], port


def _host(text: str) -> tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address | None]:
    if text.startswith("["):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            raise _invalid("host") from None
        if address.scope_id is not None:
            raise _invalid("host")
        return str(address), address
    name = _ascii_name(text)
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        number = _ipv4(name)
        return str(number), number
    return name, None


def _ascii_name(text: str) -> str:
    name = text.lower() if text.isascii() else _idna(text)
    name = name.removesuffix(".")
    if not 1 <= len(name) <= 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise _invalid("host")
    return name


def _idna(text: str) -> str:
    try:
        return idna.encode(text, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise _invalid("host") from None


def _ipv4(name: str) -> ipaddress.IPv4Address:
    """IPv4 in any spelling that browsers accept: one to four parts, decimal, `0` octal or `0x` hexadecimal (WHATWG URL, 3.5)."""
    parts = name.split(".")
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        raise _invalid("host") from None
    last_limit = 256 ** (5 - len(numbers))
    if len(numbers) > 4 or any(number > 255 for number in numbers[:-1]) or numbers[-1] >= last_limit:
        raise _invalid("host")
    value = numbers[-1]
    for place, number in enumerate(numbers[:-1]):
        value += number << (8 * (3 - place))
    return ipaddress.IPv4Address(value)


def _number(part: str) -> int:
    if not _NUMBER.fullmatch(part):
        raise ValueError(part)
    if part[:2].lower() == "0x":
        return int(part[2:] or "0", 16)
    return int(part, 8) if len(part) > 1 and part.startswith("0") else int(part)


def _encoded(text: str, *, safe: str) -> str:
    """`text` with what may not stand in a request encoded as UTF-8, and a `%` that introduces nothing made `%25`."""
    try:
        return quote(_BAD_PERCENT.sub("%25", text), safe=safe)
    except UnicodeEncodeError:  # a lone surrogate
        raise _invalid("surrogate") from None


def _header_text(location: str) -> str:
    """A header's bytes as text: UTF-8 where they are, otherwise each byte above ASCII percent-encoded as it came."""
    raw = location.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw)
