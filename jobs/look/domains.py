"""The domain of a URL, near enough to whom somebody registered it, for counting by site.

Without a list of public suffixes, which changes weekly and is large: the last two labels of the host, or the last three
where the second last is one of the words that country registries sell names under (`co.uk`, `com.br`). So blogs of one host
count as that host, and a few registries with words of their own (`*.k12.ca.us`) count as one. Not here: counting (`tally`).
"""

import re

NO_HOST = "(no host)"

_SOLD_UNDER = frozenset(
    {
        "ac",
        "asn",
        "co",
        "com",
        "edu",
        "firm",
        "gen",
        "go",
        "gob",
        "gouv",
        "gov",
        "govt",
        "gv",
        "id",
        "in",
        "info",
        "ltd",
        "me",
        "mil",
        "mod",
        "ne",
        "net",
        "nhs",
        "nic",
        "nom",
        "or",
        "org",
        "plc",
        "police",
        "sch",
        "school",
        "web",
    }
)
_ADDRESS = re.compile(r"[0-9.]+|\[[0-9a-f:.]+\]")
_HOST_ENDS = re.compile(r"[/?#\\]")
_MOST_HOST_CHARS = 253


def domain_of(url: str | None) -> str:
    """`example.co.uk` of `https://www.example.co.uk:8080/x`; addresses as they are; `NO_HOST` where there is none."""
    _, separator, rest = (url or "").strip().partition("://")
    if not separator:
        return NO_HOST
    host = _HOST_ENDS.split(rest, maxsplit=1)[0].rpartition("@")[2].lower()
    host = re.sub(r":[0-9]*$", "", host).rstrip(".")
    if not host or len(host) > _MOST_HOST_CHARS or any(character.isspace() for character in host):
        return NO_HOST
    if _ADDRESS.fullmatch(host):
        return host
    labels = host.split(".")
    deep = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SOLD_UNDER
    return ".".join(labels[-3:] if deep else labels[-2:])
