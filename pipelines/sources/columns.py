"""Columns of tables: which one is what, and what their values become, whatever type a file gives them.

Releases of one data set disagree (LAION's WIDTH is int32, int64 or float64), and text files have no types at all.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import pyarrow as pa

_NULL_WORDS = frozenset({"", "null", "none", "nan", "na", "n/a", "\\n"})


class Kind(StrEnum):
    """The type an attribute has in every sample, whatever the file had; `id` is an integer of up to 64 bits, kept as a string."""

    FLOAT = "float"
    INT = "int"
    STRING = "string"
    ID = "id"
    LIST_FLOAT = "list_float"
    LIST_STRING = "list_string"
    BOXES = "boxes"
    """Lists of numbers in a list, such as the corners of faces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairColumns:
    """Which source column holds what.

    url, text: of the image and of its caption; without text (null), a sample is its image alone.
    captions, captions_similarity: parallel lists of candidate captions.
    licence, id: of the pair, where the source states them.
    """

    url: str = "URL"
    text: str | None = "TEXT"
    captions: str | None = None
    captions_similarity: str | None = None
    licence: str | None = None
    id: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Every column named, each once."""
        return tuple(dict.fromkeys(self.roles))

    @property
    def roles(self) -> dict[str, str]:
        """The setting that names it, by column."""
        roles: dict[str, str] = {}
        for item in fields(self):
            if (name := getattr(self, item.name)) is not None:
                roles.setdefault(name, item.name)
        return roles


def cast(value: Any, kind: Kind) -> Any:
    """A source value as a JSON value of the attribute's type; null and NaN are None. Raises `ValueError` or `TypeError`.

    Text stands for the number that it spells, or for nothing (`NULL`, `nan`), and for the list that it is in JSON.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and kind is not Kind.STRING:
        value = _from_text(value, kind)
    return None if value is None else _CASTS[kind](value)


def can_hold(kind: Kind, type: pa.DataType) -> bool:
    """Whether a column declared so can serve: nothing but lists where lists are wanted, and none where they are not."""
    types = pa.types
    if is_text(type) or types.is_null(type):
        return True
    if kind in (Kind.LIST_FLOAT, Kind.LIST_STRING, Kind.BOXES):
        return bool(types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type))
    is_number = types.is_integer(type) or types.is_floating(type) or types.is_decimal(type)
    return bool(is_number or (kind is Kind.STRING and (types.is_boolean(type) or types.is_temporal(type))))


def is_text(type: pa.DataType) -> bool:
    """Whether a column declared so holds strings."""
    if pa.types.is_dictionary(type):
        type = type.value_type
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))


def word(name: str) -> str:
    """A column's name as the detail of a refusal, which allows fewer characters."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in name)[:60]


def _from_text(text: str, kind: Kind) -> Any:
    text = text.strip()
    if kind is Kind.ID:
        return text or None
    if text.lower() in _NULL_WORDS:
        return None
    if kind in (Kind.LIST_FLOAT, Kind.LIST_STRING, Kind.BOXES):
        found = json.loads(text)
        if not isinstance(found, list):
            raise ValueError("not a list in JSON")
        return found
    if "_" in text:
        raise ValueError("an underscore is no part of a number")  # to Python it is
    return text


def _whole(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = float(value)  # pandas writes whole numbers as `640.0` where one of them is missing
    whole = int(value)
    if whole != value:
        raise ValueError(f"{value!r} is not a whole number")
    return whole


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _spelt(value: Any) -> str:
    if isinstance(value, list | dict | bytes):
        raise TypeError(f"{type(value).__name__} is no text")
    return str(value)


_CASTS: dict[Kind, Callable[[Any], Any]] = {
    Kind.FLOAT: lambda value: _finite(float(value)),
    Kind.INT: _whole,
    Kind.STRING: lambda value: value if isinstance(value, str) else _spelt(value),
    Kind.ID: lambda value: value if isinstance(value, str) else str(_whole(value)),
    Kind.LIST_FLOAT: lambda values: [cast(item, Kind.FLOAT) for item in values],
    Kind.LIST_STRING: lambda values: [cast(item, Kind.STRING) for item in values],
    Kind.BOXES: lambda values: [cast(item, Kind.LIST_FLOAT) for item in values],
}
