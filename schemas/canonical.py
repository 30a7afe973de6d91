"""One serializer for every JSON file of a corpus: equal values give equal bytes.

Keys sorted, no spaces, UTF-8 as it is, floats in their shortest form, NaN and infinities null, lone surrogates U+FFFD.
Not here: what the values mean (`sample`, `record`, `corpus`).
"""

import hashlib
import json
import math
import re
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_SURROGATE = re.compile("[\ud800-\udfff]")


def dumps(value: Any) -> bytes:
    """Serialize plain dicts, lists, strings, numbers, booleans and None. Raises `TypeError` for anything else."""
    try:
        return _encode(value)
    except (ValueError, UnicodeEncodeError):
        return _encode(_clean(value))


def sha256_of(value: Any) -> str:
    """Hex sha256 of the canonical bytes: how recipes and settings are compared."""
    return hashlib.sha256(dumps(value)).hexdigest()


def _encode(value: Any) -> bytes:
    return _ENCODER.encode(value).encode()


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
