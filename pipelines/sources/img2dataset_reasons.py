"""What img2dataset says of a row that failed, in our reasons: `REASONS` is the map, `docs/import.md` shows it.

img2dataset writes `status` and, as `error_message`, whatever text Python's exception had; so the map goes by what that text holds.
The first line that fits decides. None of the text gets into the rejects: the detail is a word of the map.
"""

import re
from dataclasses import dataclass
from typing import Any

from schemas.reasons import Reason, Refusal

SUCCESS = "success"
_DOWNLOAD, _RESIZE = "failed_to_download", "failed_to_resize"
_MAX_CHARS = 1000  # of a message that is looked at
_STATUS = re.compile(r"HTTP Error ([0-9]{3})\b")


@dataclass(frozen=True, slots=True)
class Mapped:
    """Messages that hold `pattern` (case ignored) mean `reason`; `detail` tells them apart from a build's own refusals."""

    pattern: str
    reason: Reason
    detail: str


REASONS: dict[str, tuple[Mapped, ...]] = {
    _DOWNLOAD: (
        Mapped(r"X-Robots-Tag", Reason.POLICY_OPT_OUT, "img2dataset"),
        Mapped(r"hash mismatch", Reason.SOURCE_MALFORMED, "img2dataset.hash_mismatch"),
        Mapped(r"infinite loop", Reason.REDIRECT_TOO_MANY, "img2dataset"),
        Mapped(r"redirect.*not allowed", Reason.REDIRECT_INVALID, "img2dataset"),
        Mapped(
            r"getaddrinfo|name resolution|Name or service not known|No address associated|nodename nor servname",
            Reason.DNS,
            "img2dataset",
        ),
        Mapped(r"handshake operation timed out|urlopen error timed out", Reason.CONNECT, "img2dataset.timeout"),
        Mapped(r"timed out|timeout", Reason.FIRST_BYTE, "img2dataset"),
        Mapped(r"\[SSL|SSL:|certificate|violation of protocol", Reason.TLS, "img2dataset"),
        Mapped(r"IncompleteRead|more expected", Reason.LENGTH_MISMATCH, "img2dataset"),
        Mapped(r"Connection reset|Remote end closed|Broken pipe|Connection aborted", Reason.RESET, "img2dataset"),
        Mapped(
            r"Connection refused|No route to host|unreachable|Cannot assign requested|Host is down",
            Reason.CONNECT,
            "img2dataset",
        ),
        Mapped(
            r"unknown url type|no host given|nonnumeric port|control characters|Invalid IPv6|idna|can't encode|"
            r"label (?:empty|too long)|not a valid URL|Invalid URL|expected str|no attribute 'timeout'",
            Reason.URL_INVALID,
            "img2dataset",
        ),
        Mapped(r"BadStatusLine|bytes when reading|more than 100 headers", Reason.HTTP_MALFORMED, "img2dataset"),
        Mapped(r"", Reason.CONNECT, "img2dataset.other"),
    ),
    _RESIZE: (
        Mapped(r"image too small", Reason.FILTER_SIDE, "img2dataset"),
        Mapped(r"aspect ratio too large", Reason.FILTER_ASPECT, "img2dataset"),
        Mapped(r"area too large|MAX_IMAGE_PIXELS|too many pixels", Reason.DECODE_BOMB, "img2dataset"),
        Mapped(r"blurrer not defined", Reason.SOURCE_MALFORMED, "img2dataset.blurrer"),
        Mapped(r"", Reason.DECODE_CORRUPT, "img2dataset"),
    ),
}
"""By status; the last line of each takes what no other line knows. `HTTP Error NNN` goes by its number, but for redirects."""

_COMPILED = {
    status: [(re.compile(line.pattern, re.IGNORECASE | re.DOTALL), line) for line in lines]
    for status, lines in REASONS.items()
}


def refusal(status: Any, message: Any) -> Refusal | None:
    """Why img2dataset has no picture for a row, or None if it says that it has one (or nothing at all)."""
    if status is None or status == SUCCESS:
        return None
    if status not in _COMPILED:
        return Refusal(Reason.SOURCE_MALFORMED, "img2dataset.status")
    text = str(message or "")[:_MAX_CHARS]
    line = next(line for pattern, line in _COMPILED[status] if pattern.search(text))
    found = _STATUS.search(text)
    if status == _DOWNLOAD and found is not None and line.reason not in _BEFORE_STATUS:
        return Refusal(Reason.of_status(int(found[1])), "img2dataset")
    return Refusal(line.reason, line.detail)


_BEFORE_STATUS = frozenset({Reason.REDIRECT_TOO_MANY, Reason.REDIRECT_INVALID, Reason.POLICY_OPT_OUT})
