"""`emu import`: shards that others made become a corpus, without a single request; the same command goes on where it was stopped.

Not here: the work (`pipelines.run`), what shards may be (`pipelines.sources.foreign_shards`), the recipe (`recipes/import.yaml`).
"""

import shlex
from typing import Annotated

import typer

from jobs.arguments import JsonOption, SetOption, load_pipeline, with_workers
from jobs.build import exit_code, run_pipeline
from jobs.summary import print_summary, summary_json
from jobs.terminal import console, print_json
from pipelines.runners.local import LocalRunner
from pipelines.worker import RunSettings


def import_(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT…", help="Output folder of img2dataset, tars, parquet files, patterns.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="CORPUS", help="Folder of the corpus.")],
    name: Annotated[str | None, typer.Option(help="Name of the corpus; the recipe's if not given.")] = None,
    recipe: Annotated[
        str, typer.Option(metavar="FILE", help="A recipe of your own with an img2dataset source; see docs/import.md.")
    ] = "import",
    overrides: SetOption = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, max=1024, help="Processes; one for each core if not given, 0 imports in this one."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a corpus of a finished img2dataset output, or of WebDataset tars.

    Pictures are kept byte for byte, captions and metadata as they are; rows that img2dataset could not get become rejects with
    their reasons. Nothing is fetched, and the input is only read. Exit codes are those of `emu build`.
    """
    pipeline = load_pipeline(recipe, inputs=inputs, overrides=overrides or ())
    settings = with_workers(RunSettings(), workers)
    result = run_pipeline(pipeline, output, runner=LocalRunner(), settings=settings, name=name)
    if as_json:
        print_json(summary_json(result))
    else:
        print_summary(result, console=console())
        if not result.pending:
            folder = shlex.quote(output)
            console().print(f"Next: emu inspect {folder}, emu validate {folder}", markup=False)
    raise typer.Exit(exit_code(result))
