"""`emu plan`: what a build would do, before anything runs: units, steps with their settings, rows, expected size. Writes nothing.

Sizes of a corpus that has units are measured on them. Before that they are a rule of thumb, and say so: `KEPT_SHARE` of the rows,
each a 4:3 picture of the recipe's size at `BYTES_PER_PIXEL`. Not here: cutting files into units (`pipelines.sources`).
"""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from jobs.arguments import (
    ContactOption,
    InputOption,
    JsonOption,
    MoreInputArgument,
    RecipeArgument,
    SetOption,
    load_pipeline,
)
from jobs.terminal import console, count, print_json, rows, shown, size
from pipelines.media.image import OutputFormat, ResizeMode
from pipelines.pipeline import Pipeline
from pipelines.plan import refuse_overlap
from pipelines.steps.images import EncodeImage
from schemas.corpus import SAMPLES, Corpus, RecipeChangedError, diff_settings
from schemas.errors import CorpusError
from schemas.plan import Unit
from schemas.record import Totals

KEPT_SHARE = 0.6
"""Of the rows: links die, and LAION's were collected in 2021."""

BYTES_PER_PIXEL = {OutputFormat.JPEG: 0.32, OutputFormat.WEBP: 0.23, OutputFormat.PNG: 1.5}
"""JPEG and WebP at quality 95; `tests/jobs/test_plan_estimate.py` measures it."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a build would do. units_missing: those without a record; rows_missing is None where only reading tells.

    expected_samples, expected_bytes: of the units that are missing. is_measured: on units of this corpus.
    """

    units: int
    units_missing: int
    rows_missing: int | None
    expected_samples: int | None
    expected_bytes: int | None
    is_measured: bool


def plan(
    recipe: RecipeArgument,
    more_inputs: MoreInputArgument = None,
    inputs: InputOption = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="CORPUS", help="A corpus to go on with, if it is there.")
    ] = None,
    contact: ContactOption = "",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a build would do; writes nothing.

    Reads the recipe and the footers of the metadata files, and checks both as a build would. With `--output`, units that the
    corpus has already are left out, and the size is measured on them.
    """
    pipeline = load_pipeline(
        recipe, inputs=[*(inputs or ()), *(more_inputs or ())], contact=contact, overrides=overrides or ()
    )
    pipeline.check()
    corpus = None if output is None else _opened(output, pipeline)
    found = outlook(pipeline, corpus)
    if as_json:
        print_json(_as_json(pipeline, found))
    else:
        _print(pipeline, found, output=output)


def outlook(pipeline: Pipeline, corpus: Corpus | None) -> Outlook:
    """Count what is planned and what would be, and estimate what comes of it. Raises `UserError` for files that cannot serve."""
    planned = [] if corpus is None else corpus.plan()
    units = planned + pipeline.source.units(first_ordinal=len(planned), planned=planned)
    committed = set() if corpus is None else corpus.committed(SAMPLES)
    missing = [unit for unit in units if unit.ordinal not in committed]
    totals = Totals() if corpus is None else corpus.totals(SAMPLES)
    row_count = _row_count(missing)
    if row_count is None:
        return Outlook(len(units), len(missing), None, None, None, is_measured=False)
    if totals.counts.rows:
        samples = row_count * totals.counts.samples / totals.counts.rows
        data_bytes = row_count * totals.data_bytes / totals.counts.rows
        return Outlook(len(units), len(missing), row_count, round(samples), round(data_bytes), is_measured=True)
    samples = KEPT_SHARE * row_count
    data_bytes = samples * _picture_bytes(pipeline)
    return Outlook(len(units), len(missing), row_count, round(samples), round(data_bytes), is_measured=False)


def _opened(output: str, pipeline: Pipeline) -> Corpus | None:
    """The corpus, if there is one of this recipe yet."""
    refuse_overlap(output, getattr(pipeline.source, "paths", ()))
    try:
        corpus = Corpus.open(output)
    except CorpusError:
        return None
    if corpus.manifest.recipe_hash != pipeline.recipe_hash:
        raise RecipeChangedError(corpus.url, diff_settings(corpus.manifest.recipe, pipeline.recipe()))
    return corpus


def _row_count(units: list[Unit]) -> int | None:
    known = [unit.rows for unit in units if unit.rows is not None]
    return sum(known) if len(known) == len(units) else None


def _picture_bytes(pipeline: Pipeline) -> float:
    """Of one sample by the rule of thumb; tar headers and JSON are small beside it."""
    step = next((step for step in pipeline.steps if isinstance(step, EncodeImage)), None)
    if step is None:
        return 2_000.0
    longer = 4 / 3 if step.mode is ResizeMode.KEEP_RATIO else 1.0
    return step.side_pixels**2 * longer * BYTES_PER_PIXEL[step.format]


def _as_json(pipeline: Pipeline, found: Outlook) -> dict[str, Any]:
    return {
        "name": pipeline.name,
        "recipe_hash": pipeline.recipe_hash,
        "recipe": pipeline.recipe(),
        "notes": pipeline.source.notes(),
        "units": found.units,
        "units_missing": found.units_missing,
        "rows_missing": found.rows_missing,
        "expected_samples": found.expected_samples,
        "expected_bytes": found.expected_bytes,
        "expectation": "measured" if found.is_measured else "assumed",
    }


def _print(pipeline: Pipeline, found: Outlook, *, output: str | None) -> None:
    out = console()
    recipe = pipeline.recipe()
    out.print(rows([("recipe", f"{shown(pipeline.name)}, hash {pipeline.recipe_hash[:8]}")]))
    out.print("[bold]source[/]")
    out.print(rows([(f"  {recipe['source']['kind']}", _settings(recipe["source"]))]))
    for note in pipeline.source.notes():
        out.print(f"  note: {shown(note)}", markup=False, highlight=False)
    out.print("[bold]steps[/]")
    out.print(rows([(f"  {step['kind']}", _settings(step)) for step in recipe["steps"]]))
    todo = f"{count(found.units_missing)} of {count(found.units)} units"
    pairs = [("to build", todo if found.rows_missing is None else f"{todo}, {count(found.rows_missing)} rows")]
    if found.expected_samples is not None and found.expected_bytes is not None:
        basis = "measured on the units it has" if found.is_measured else f"assumed: {KEPT_SHARE:.0%} of rows are kept"
        pairs.append(("expected", f"{count(found.expected_samples)} samples, {size(found.expected_bytes)} ({basis})"))
    out.print(rows(pairs))
    if output is None:
        out.print("Nothing was written. Next: the same with `build`, --output and --contact", markup=False)


def _settings(part: dict[str, Any]) -> str:
    return shown(
        ", ".join(f"{name} {_value(value)}" for name, value in part.items() if name not in ("kind", "version"))
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{name} {_value(item)}" for name, item in value.items() if item is not None)
        return f"({inner})"
    if isinstance(value, list):
        return "none" if not value else "/".join(_value(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 10_000:
        return count(value)
    return "none" if value is None else str(value)
