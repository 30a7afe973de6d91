"""Why a row or an image is not in the corpus: one enum for every step, engine and source.

Each reason is retryable (the web or a machine may answer differently tomorrow) or final (the same bytes would be refused
again). A `Refusal` adds a detail, a word of this code and never of the web, so that rejects are the same bytes in every run.
Not here: counting (the ledger) and rows on disk (`schemas.rejects`).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

_DETAIL = re.compile(r"[A-Za-z0-9_.:/<>=+-]{0,120}")


class Reason(StrEnum):
    """Why something was refused. The part before the dot is the family that terminals group by."""

    URL_INVALID = "url.invalid"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    RESET = "reset"
    FIRST_BYTE = "first_byte"
    SLOW = "slow"
    DEADLINE = "deadline"
    REDIRECT_TOO_MANY = "redirect.too_many"
    REDIRECT_INVALID = "redirect.invalid"
    HTTP_401 = "http.401"
    HTTP_403 = "http.403"
    HTTP_404 = "http.404"
    HTTP_408 = "http.408"
    HTTP_410 = "http.410"
    HTTP_425 = "http.425"
    HTTP_429 = "http.429"
    HTTP_451 = "http.451"
    HTTP_4XX = "http.4xx"
    HTTP_500 = "http.500"
    HTTP_502 = "http.502"
    HTTP_503 = "http.503"
    HTTP_504 = "http.504"
    HTTP_5XX = "http.5xx"
    HTTP_OTHER = "http.other"
    HTTP_MALFORMED = "http.malformed"
    LENGTH_MISMATCH = "length_mismatch"
    BODY_TOO_LARGE = "body.too_large"
    BODY_EMPTY = "body.empty"
    BODY_ENCODING = "body.encoding"
    HOST_BACKOFF = "host.backoff"
    PROXY = "proxy"
    POLICY_PRIVATE_ADDRESS = "policy.private_address"
    POLICY_ROBOTS = "policy.robots"
    POLICY_OPT_OUT = "policy.opt_out"
    DECODE_UNSUPPORTED = "decode.unsupported"
    DECODE_TRUNCATED = "decode.truncated"
    DECODE_CORRUPT = "decode.corrupt"
    DECODE_BOMB = "decode.bomb"
    DECODE_CRASH = "decode.crash"
    DECODE_TIMEOUT = "decode.timeout"
    SOURCE_MALFORMED = "source.malformed"
    FILTER_SCORE_MISSING = "filter.score_missing"
    FILTER_SIMILARITY = "filter.similarity"
    FILTER_UNSAFE = "filter.unsafe"
    FILTER_WATERMARK = "filter.watermark"
    FILTER_AESTHETIC = "filter.aesthetic"
    FILTER_SIDE = "filter.side"
    FILTER_ASPECT = "filter.aspect"
    TEXT_EMPTY = "text.empty"
    TEXT_TOO_SHORT = "text.too_short"
    TEXT_TOO_LONG = "text.too_long"
    TEXT_LANGUAGE = "text.language"
    DUPLICATE_URL = "duplicate.url"
    DUPLICATE_CONTENT = "duplicate.content"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Whether asking again may help: the cause may lie with a network, a server or this code, not with the bytes."""
        return self in _RETRYABLE

    @property
    def family(self) -> str:
        """The part before the dot: `http` of `http.404`."""
        return self.value.partition(".")[0]

    @classmethod
    def of_status(cls, status: int) -> "Reason":
        """The reason for an HTTP status that is not success: its own member, else that of its hundred."""
        own = f"http.{status}"
        if own in cls._value2member_map_:
            return cls(own)
        return {4: cls.HTTP_4XX, 5: cls.HTTP_5XX}.get(status // 100, cls.HTTP_OTHER)


_RETRYABLE = frozenset(
    {
        Reason.DNS,
        Reason.CONNECT,
        Reason.RESET,
        Reason.FIRST_BYTE,
        Reason.SLOW,
        Reason.DEADLINE,
        Reason.HTTP_408,
        Reason.HTTP_425,
        Reason.HTTP_429,
        Reason.HTTP_500,
        Reason.HTTP_502,
        Reason.HTTP_503,
        Reason.HTTP_504,
        Reason.HTTP_5XX,
        Reason.LENGTH_MISMATCH,
        Reason.HOST_BACKOFF,
        Reason.PROXY,
        Reason.INTERNAL,
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal: the reason, and a detail from this code (a setting, a status, a place), never text from the web."""

    reason: Reason
    detail: str = ""

    def __post_init__(self) -> None:
        if not _DETAIL.fullmatch(self.detail):
            raise ValueError(
                f"detail {self.detail!r} of {self.reason} is not a word of this code: "
                f"letters, digits and . _ : / < > = + - only, at most 120"
            )


class Refused(Exception):
    """Raised where a refusal has to cross several calls, inside the fetcher and the decoders; steps return `Refusal`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value} {detail}".rstrip())
        self.refusal = Refusal(reason, detail)

    def __reduce__(self) -> tuple[type["Refused"], tuple[Reason, str]]:
        return Refused, (self.refusal.reason, self.refusal.detail)
