"""A recipe as YAML becomes a `Pipeline`: read, overridden, checked, built.

    name: laion-2b
    source: {kind: table, columns: {url: URL, text: TEXT}}
    steps:
      - min_similarity: {cosine: 0.28}
      - clean_text                        # all settings as they are by default
      - fetch: {policy: {respect_robots: true}}

Names of steps and sources are those of `registry`; their settings are the fields of their classes, checked against the types
there: nothing is guessed, so `"0.28"` is no number. An override is a setting's path and its value as YAML; null removes a step.
Everything wrong is a `UserError` that names the place. Not here: whether the source's files fit (`Pipeline.check`).
"""

import dataclasses
import difflib
import json
import reprlib
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipelines import strict_yaml
from pipelines.pipeline import Pipeline, Source, Step
from pipelines.registry import SOURCES, STEPS
from schemas.errors import UserError


def load_recipe(
    file: str | Path, *, paths: Sequence[str] = (), contact: str = "", overrides: Sequence[str] = ()
) -> Pipeline:
    """Read a recipe file; the rest as `parse_recipe`."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: the recipe cannot be read ({error}); check the path") from None
    return parse_recipe(text, place=str(file), paths=paths, contact=contact, overrides=overrides)


def parse_recipe(
    text: str, *, place: str, paths: Sequence[str] = (), contact: str = "", overrides: Sequence[str] = ()
) -> Pipeline:
    """Build the pipeline that the YAML `text` describes; `place` names it in messages.

    paths, contact: take the place of `source.paths` and of the contact of steps that fetch, where given.
    overrides: `min_similarity.cosine=0.3`, `source.rows_per_unit=1000`, `max_watermark=null`; applied in order.
    """
    recipe = _read(strict_yaml.load(text, place=place), place)
    for override in overrides:
        recipe = _override(recipe, override)
    if paths:
        recipe = replace(recipe, source=recipe.source.set(("paths",), list(paths)))
    if contact:
        recipe = replace(recipe, steps=tuple(_with_contact(part, contact) for part in recipe.steps))
    return Pipeline(
        name=recipe.name,
        source=_build(recipe.source, SOURCES[recipe.source.kind]),
        steps=tuple(_build(part, STEPS[part.kind]) for part in recipe.steps),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A step or the source as written. title: its name in paths. place: the file, and the overrides that changed it."""

    kind: str
    title: str
    settings: dict[str, Any]
    place: str

    def set(self, path: Sequence[str], value: Any) -> "_Part":
        """The part with one setting changed; what anchors share with other parts stays as it is there."""
        return replace(self, settings=self._changed(self.settings, path, value))

    def _changed(self, settings: Any, path: Sequence[str], value: Any) -> dict[str, Any]:
        if settings is not None and not isinstance(settings, dict):
            raise UserError(f"{self.place}: {self.title}: {_shown(settings)} has no setting {path[0]!r}")
        old = settings or {}
        inner = value if len(path) == 1 else self._changed(old.get(path[0]), path[1:], value)
        return {**old, path[0]: inner}


@dataclass(frozen=True, slots=True)
class _Recipe:
    name: str
    source: _Part
    steps: tuple[_Part, ...]
    place: str


def _read(data: Any, place: str) -> _Recipe:
    if not isinstance(data, dict):
        raise UserError(f"{place}: expected a recipe with name, source and steps, found {_shown(data)}")
    _known_only(data, ("name", "source", "steps"), place=place, what="key")
    for key in ("name", "source", "steps"):
        if data.get(key) is None:
            raise UserError(f"{place}: {key} is missing; a recipe has name, source and steps")
    name, source, steps = data["name"], data["source"], data["steps"]
    if not isinstance(name, str) or not name:
        raise UserError(f"{place}: name: expected a word, found {_shown(name)}")
    if not isinstance(source, dict) or not isinstance(source.get("kind"), str):
        raise UserError(f"{place}: source: expected a mapping with a kind ({_listed(SOURCES)}), found {_shown(source)}")
    if not isinstance(steps, list):
        raise UserError(f"{place}: steps: expected a list, each item a step with its settings, found {_shown(steps)}")
    kind = source["kind"]
    _known_only([kind], SOURCES, place=f"{place}: source", what="kind")
    settings = {key: value for key, value in source.items() if key != "kind"}
    parts = tuple(_read_step(item, place=place, number=number) for number, item in enumerate(steps, start=1))
    return _Recipe(name, _Part(kind, "source", settings, place), parts, place)


def _read_step(item: Any, *, place: str, number: int) -> _Part:
    """A step is its name, or a mapping of its name to its settings."""
    if isinstance(item, dict) and len(item) == 1:
        [(kind, settings)] = item.items()
    else:
        kind, settings = item, None
    if not isinstance(kind, str):
        raise UserError(
            f"{place}: step {number}: expected a name, or one name with its settings "
            f"(`- min_side: {{pixels: 150}}`), found {_shown(item)}"
        )
    _known_only([kind], STEPS, place=f"{place}: step {number}", what="step")
    if not isinstance(settings, dict | None):
        raise UserError(f"{place}: {kind}: expected its settings by name, found {_shown(settings)}")
    return _Part(kind, kind, settings or {}, place)


def _override(recipe: _Recipe, override: str) -> _Recipe:
    place = f"--set {override}"
    path, equals, text = override.partition("=")
    first, *rest = path.strip().split(".")
    if not equals or not text.strip() or not all((first, *rest)):
        raise UserError(
            f"{place}: expected SETTING=VALUE, such as min_similarity.cosine=0.3, or STEP=null to remove a step"
        )
    value = strict_yaml.load(text, place=place)
    if (first, rest) == ("name", []):
        return _read_name(recipe, value, place)
    if first == "source" and rest:
        return replace(recipe, source=_changed(recipe.source, rest, value, place))
    steps = list(recipe.steps)
    index = _find_step(recipe, first, place)
    if rest:
        steps[index] = _changed(steps[index], rest, value, place)
    elif value is None:
        del steps[index]
    else:
        steps[index] = replace(
            _read_step({first: value}, place=place, number=index + 1), place=f"{recipe.place} with {place}"
        )
    return replace(recipe, steps=tuple(steps))


def _read_name(recipe: _Recipe, value: Any, place: str) -> _Recipe:
    if not isinstance(value, str) or not value:
        raise UserError(f"{place}: expected a word, found {_shown(value)}")
    return replace(recipe, name=value)


def _changed(part: _Part, path: Sequence[str], value: Any, place: str) -> _Part:
    return replace(part, place=f"{part.place} with {place}").set(path, value)


def _find_step(recipe: _Recipe, kind: str, place: str) -> int:
    found = [index for index, part in enumerate(recipe.steps) if part.kind == kind]
    if len(found) > 1:
        raise UserError(
            f"{place}: {recipe.place} has {len(found)} steps `{kind}`; change the one you mean in the recipe"
        )
    if found:
        return found[0]
    present = [part.kind for part in recipe.steps]
    if kind in STEPS:
        raise UserError(
            f"{place}: {recipe.place} has no step `{kind}` to change; add it to its steps. It has {_listed(present)}"
        )
    _known_only([kind], [*present, "source", "name"], place=place, what="step")
    raise UserError(f"{place}: expected a setting of {kind}, such as source.rows_per_unit")


def _with_contact(part: _Part, contact: str) -> _Part:
    has_contact = any(field.name == "contact" for field in dataclasses.fields(STEPS[part.kind]))  # type: ignore[arg-type]
    return part.set(("contact",), contact) if has_contact else part


_Kind = typing.TypeVar("_Kind", Source, Step)


def _build(part: _Part, kind: type[_Kind]) -> _Kind:
    """Check the settings against the fields of `kind`, and build it."""
    place = f"{part.place}: {part.title}"
    _check_keys(kind, part.settings, place)
    try:
        data = json.dumps(part.settings)
    except (ValueError, RecursionError):
        raise UserError(f"{place}: an anchor contains itself") from None
    try:
        built: _Kind = TypeAdapter(kind).validate_json(data, strict=True)
    except ValidationError as error:
        raise UserError("\n".join(_told(found, place) for found in error.errors())) from None
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    return built


def _check_keys(kind: Any, settings: Any, place: str) -> None:
    """Refuse settings that `kind` does not have, also inside its settings that are records themselves."""
    if not isinstance(settings, dict):
        return
    types = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    _known_only(settings, names, place=place, what="setting")
    for name, value in settings.items():
        for option in (types[name], *typing.get_args(types[name])):
            if dataclasses.is_dataclass(option):
                _check_keys(option, value, f"{place}.{name}")


def _known_only(names: Iterable[str], known: Iterable[str], *, place: str, what: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name.lower(), known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"expected one of {_listed(known)}"
            raise UserError(f"{place}: unknown {what} {name!r}; {advice}")


def _told(found: Any, place: str) -> str:
    """One of pydantic's findings, in the words of a recipe."""
    where = ".".join([place, *(str(part) for part in found["loc"])])
    if found["type"] == "missing":
        return f"{where}: a value is required"
    if found["type"] == "value_error":
        return f"{where}: {found['ctx']['error']}"
    expected = found["msg"].replace("Input should be", "expected").replace("an object", "a mapping")
    advice = "; write true or false" if found["type"].startswith("bool") else ""
    return f"{where}: {expected}, found {_shown(found['input'])}{advice}"


def _shown(value: Any) -> str:
    """A value for a message: short, however large or entangled it is."""
    return "nothing" if value is None else reprlib.repr(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
