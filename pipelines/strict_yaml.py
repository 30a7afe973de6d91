"""YAML as people mean it: safe, without duplicate keys, and without the surprises of YAML 1.1.

`no` and `on` are words, not booleans; `1e-3` is a number, not a word; `012`, `12:30` and `2024-01-01` are words; `50_000_000` is a
number, as in Python. Only mappings with string keys, lists, strings, numbers, true, false and null come out, so whatever is
loaded is JSON too. Anchors, aliases and merge keys work. Not here: what the keys mean.
"""

import re
from typing import Any, ClassVar

import yaml

from schemas.errors import UserError

_TAG = "tag:yaml.org,2002:"


def load(text: str, *, place: str) -> Any:
    """Parse one document. Raises `UserError` that names `place`, and the line and column where it can."""
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{place}{where}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{place}: not YAML: {error}") from None
    except RecursionError:
        raise UserError(f"{place}: nested too deep to be read") from None


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema on PyYAML's parser."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  (declared so by PyYAML's types)
    yaml_constructors: ClassVar[dict[Any, Any]] = {}  # none of SafeLoader's sets, dates and binaries

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping whose own keys are strings, each once; checked before keys are merged into it."""
        mapping: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in mapping.value:
            if key.tag == _TAG + "merge":
                continue
            if key.tag != _TAG + "str":
                raise _problem(key, f"the key {key.value!r:.60} is not a word; put it in quotes if it is meant")
            if key.value in seen:
                raise _problem(key, f"the key {key.value!r:.60} stands here twice; remove one")
            seen.add(key.value)
        return mapping


def _problem(node: yaml.Node, text: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def _undefined(loader: _Loader, node: yaml.Node) -> Any:
    raise _problem(node, f"the tag {node.tag.replace(_TAG, '!!')!r:.60} is not used here; write plain values")


def _resolve(name: str, pattern: str, first: str) -> None:
    """Read plain words of this pattern as this type; `first` are the characters that they can begin with."""
    _Loader.add_implicit_resolver(_TAG + name, re.compile(rf"(?:{pattern})\Z"), list(first) or [""])


_DIGITS = "-+0123456789"
_EXPONENT = "[eE][-+]?[0-9]+"
_resolve("null", "", "")
_resolve("null", "~|null|Null|NULL", "~nN")
_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("int", "[-+]?(?:0|[1-9][0-9_]*)", _DIGITS)
_resolve(
    "float", rf"[-+]?(?:[0-9][0-9_]*\.[0-9]*(?:{_EXPONENT})?|\.[0-9]+(?:{_EXPONENT})?|[0-9]+{_EXPONENT})", _DIGITS + "."
)
_resolve("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")
_resolve("merge", "<<", "<")

for _name in ("null", "bool", "int", "float", "str", "seq", "map"):
    _Loader.add_constructor(_TAG + _name, getattr(yaml.SafeLoader, f"construct_yaml_{_name}"))
_Loader.add_constructor(None, _undefined)
