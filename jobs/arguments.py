"""What `emu plan`, `emu build` and `emu demo` are told: the arguments they share, and what is made of them.

A recipe is a bundled name or a YAML file; `--set` changes what decides content, `--fetch` and its kin how the run goes about it.
Everything is checked here, before any work. Not here: the fields of steps (`pipelines.recipe`), files (`Pipeline.check`).
"""

import difflib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import TypeAdapter, ValidationError

from pipelines.fetch.client import Web
from pipelines.fetch.policy import FetchSettings
from pipelines.pipeline import Pipeline
from pipelines.recipe import load_recipe
from pipelines.steps.images import Fetch
from pipelines.worker import Job, RunSettings
from schemas.errors import UserError

_RECIPES = Path(__file__).parent / "recipes"

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A bundled recipe such as laion-2b, or a YAML file.", show_default=False)
]
MoreInputArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[INPUT]", help="More inputs, such as a shell makes of a pattern.", hidden=True),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="PATH", help="Metadata file, folder, pattern or URL; repeat for more."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STEP.SETTING=VALUE", help="Change the recipe; STEP=null leaves a step out. Repeat."),
]
ContactOption = Annotated[
    str,
    typer.Option(
        metavar="mailto:… or URL",
        help="Who answers for the run; told to every site.",
        envvar="EMU_CONTACT",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")]


def load_pipeline(recipe: str, *, inputs: Sequence[str], contact: str = "", overrides: Sequence[str] = ()) -> Pipeline:
    """The pipeline of a bundled recipe or a YAML file. Raises `UserError` naming the place and the nearest name."""
    return load_recipe(_find(recipe), paths=inputs, contact=contact, overrides=overrides)


def fetch_settings(
    *,
    contact: str = "",
    connect_to: Sequence[str] = (),
    ca_file: Path | None = None,
    concurrency: int | None = None,
    others: Sequence[str] = (),
) -> FetchSettings:
    """How a run fetches, from flags; `others` are `name=value` with the names of `FetchSettings`. Raises `UserError`."""
    settings: dict[str, Any] = {"contact": contact, "connect_to": tuple(connect_to)}
    if ca_file is not None:
        settings["ca_file"] = str(ca_file)
    if concurrency is not None:
        defaults = FetchSettings(contact=contact)
        settings["max_in_flight"] = concurrency
        settings["initial_in_flight"] = min(defaults.initial_in_flight, concurrency)
        settings["min_in_flight"] = min(defaults.min_in_flight, concurrency)
    settings |= dict(_named(other) for other in others)
    try:
        built: FetchSettings = TypeAdapter(FetchSettings).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"--fetch {place}: {message}" if place else message) from None
    return built


def check_web(pipeline: Pipeline, settings: RunSettings) -> None:
    """Open and close what every worker will open, so that a bad contact, mapping or certificate file stops the run here."""
    if not any(isinstance(step, Fetch) for step in pipeline.steps):
        return
    job = Job(pipeline, "", settings, "")
    try:
        if not job.fetch_settings.contact:
            return  # `run` says what is missing, after it has looked at the files
        with Web(job.fetch_settings, job.fetch_policy):
            pass
    except ValueError as error:
        raise UserError(str(error)) from None


def _find(recipe: str) -> Path:
    bundled = {path.stem: path for path in sorted(_RECIPES.glob("*.yaml"))}
    if recipe in bundled:
        return bundled[recipe]
    if recipe.endswith((".yaml", ".yml")) or "/" in recipe:
        return Path(recipe)
    near = difflib.get_close_matches(recipe, bundled, n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(bundled)};"
    raise UserError(f"no recipe {recipe!r}: {advice} A recipe of your own is a file that ends in .yaml")


def _named(setting: str) -> tuple[str, Any]:
    name, equals, text = setting.partition("=")
    known = [field.name for field in fields(FetchSettings)]
    if not equals:
        raise UserError(f"--fetch {setting}: expected NAME=VALUE, such as total_timeout_seconds=60")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
        raise UserError(f"--fetch {setting}: unknown setting {name!r}; {advice}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--fetch {setting}: the value is not YAML ({error})") from None
    return name, tuple(value) if isinstance(value, list) else value


def with_workers(settings: RunSettings, workers: int | None) -> RunSettings:
    """The settings with a number of worker processes, where one is given."""
    return settings if workers is None else replace(settings, workers=workers)
