"""`X-Robots-Tag`: whether a response asks not to be used for machine learning or not to be indexed.

The header may come several times and hold several directives; `agent: directive` limits it, and what follows it in the same
header, to one crawler. Everything is compared without regard to case. `none` means noindex and nofollow.
"""

from collections.abc import Iterable

OPT_OUT = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
"""Directives that refuse a body."""

_WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Directives that contain a colon themselves; what stands before it is no crawler's name."""


def opt_out(headers: Iterable[str], *, agent: str) -> str | None:
    """The first directive in `X-Robots-Tag` headers that refuses the body to `agent`, or None."""
    for header in headers:
        scope: str | None = None
        for part in header.lower().split(","):
            name, colon, rest = part.partition(":")
            directive = part
            if colon and name.strip() not in _WITH_VALUE:
                scope, directive = name.strip(), rest
            if scope in (None, "*", agent) and directive.strip() in OPT_OUT:
                return directive.strip()
    return None
