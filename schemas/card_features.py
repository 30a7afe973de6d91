"""What Hugging Face `datasets` must be told about samples: the type of every field, in the notation of a card's front matter.

Types are read off the classes of `sample`, so that the two cannot disagree; only attributes depend on the corpus. A union of
segments becomes one struct with the fields of both, since Arrow has no other way. Not here: the card (`card`).
"""

from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from schemas.record import Totals
from schemas.sample import Sample

_SCALARS = {str: "string", int: "int64", float: "float64", bool: "bool"}
_ATTRIBUTES = {"bool": "bool", "int": "int64", "float": "float64", "string": "string", "null": "string"}


def declared_features(samples: Totals) -> list[dict[str, Any]]:
    """`json`, one image for each media member that some sample may have, and the two keys that `datasets` adds."""
    members = [f"{number}.{ending}" for number in range(samples.max_members) for ending in samples.extensions]
    return [
        {"name": "json", "struct": _struct(Sample, attributes=samples.attributes)},
        *({"name": member, "dtype": "image"} for member in members),
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def undeclared_attributes(attributes: dict[str, str]) -> list[str]:
    """Attributes whose values have no one Arrow type: `datasets` leaves them out."""
    return [name for name, kind in attributes.items() if _attribute(kind) is None]


def _struct(cls: type, *, attributes: dict[str, str]) -> list[dict[str, Any]]:
    hints = get_type_hints(cls)
    named = []
    for field in fields(cls):
        if (cls, field.name) == (Sample, "attributes"):
            declared = [{"name": n, **node} for n, k in attributes.items() if (node := _attribute(k)) is not None]
            named += [{"name": "attributes", "struct": declared}] if declared else []
        else:
            named.append({"name": field.name, **_node(hints[field.name])})
    return named


def _node(hint: Any) -> dict[str, Any]:
    """The notation for a type hint: `{"dtype": …}`, `{"list": …}` or `{"struct": …}`."""
    if hint in _SCALARS:
        return {"dtype": _SCALARS[hint]}
    if is_dataclass(hint) and isinstance(hint, type):
        return {"struct": _struct(hint, attributes={})}
    if get_origin(hint) is Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        return {"dtype": "string"}
    if get_origin(hint) is tuple:
        return _list(_node(get_args(hint)[0]))
    if get_origin(hint) in (Union, UnionType):
        return _merged([_node(branch) for branch in get_args(hint) if branch is not NoneType])
    raise TypeError(f"{hint!r} is a type of the sample that a card cannot declare; teach `schemas.card_features`")


def _merged(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """One node for a union: itself if there is one branch, else a struct with the fields of all."""
    if len(nodes) == 1:
        return nodes[0]
    named = {field["name"]: field for node in nodes for field in node["struct"]}
    return {"struct": list(named.values())}


def _list(inner: dict[str, Any]) -> dict[str, Any]:
    """A list as front matter has it: of a plain type by its name, of a struct by its fields."""
    if list(inner) == ["dtype"]:
        return {"list": inner["dtype"]}
    return {"list": inner.get("struct", inner)}


def _attribute(kind: str) -> dict[str, Any] | None:
    """The notation for a JSON type as records name it, or None for `mixed` and lists of it."""
    if kind.startswith("list<"):
        inner = _attribute(kind[5:-1])
        return None if inner is None else _list(inner)
    return {"dtype": _ATTRIBUTES[kind]} if kind in _ATTRIBUTES else None
