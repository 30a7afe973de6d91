"""`emu build`: a recipe and metadata become a corpus; the same command goes on where it was stopped.

Check arguments -> open or begin the corpus and its plan -> build what is missing -> say what came of it. Progress goes to stderr,
the summary to stdout. Not here: the work (`pipelines.run`), the recipe (`pipelines.recipe`), exit codes' meaning (`cli`).
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from jobs.arguments import (
    ContactOption,
    InputOption,
    JsonOption,
    MoreInputArgument,
    RecipeArgument,
    SetOption,
    check_web,
    fetch_settings,
    load_pipeline,
    with_workers,
)
from jobs.cli import DONE, FAILED, STOPPED
from jobs.progress import progress
from jobs.stop_signals import stop_on_signal
from jobs.summary import print_summary, summary_json
from jobs.terminal import console, error_console, print_json
from pipelines.pipeline import Pipeline
from pipelines.run import Runner, RunResult, run
from pipelines.runners.local import LocalRunner
from pipelines.worker import RunSettings
from schemas.errors import UserError

_RUNNERS: dict[str, type[Runner]] = {"local": LocalRunner}


def build(
    recipe: RecipeArgument,
    output: Annotated[str, typer.Option("--output", "-o", metavar="CORPUS", help="Folder of the corpus.")],
    more_inputs: MoreInputArgument = None,
    inputs: InputOption = None,
    contact: ContactOption = "",
    name: Annotated[str | None, typer.Option(help="Name of the corpus; the recipe's if not given.")] = None,
    overrides: SetOption = None,
    runner: Annotated[str, typer.Option(help="Engine that maps the work: local.")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=0, max=1024, help="Processes; one for each core if not given, 0 builds in this one."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Most requests in flight of one process; 1024 if not given.")
    ] = None,
    connect_to: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT:TOHOST:TOPORT", help="Connect elsewhere for a host, as curl has it. Repeat."),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM certificates to trust besides the system's.")
    ] = None,
    fetch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Another setting of the fetcher; see docs/build.md. Repeat."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build a corpus from metadata, or go on with one.

    The recipe decides what the corpus holds, the other options how the run goes about it. Ctrl-C stops soon and loses nothing
    that is committed; the same command goes on. Ends with 0 when all units are committed, 1 when some are pending, 2 for input
    that cannot serve, 75 when a signal stopped it.
    """
    pipeline = load_pipeline(
        recipe, inputs=[*(inputs or ()), *(more_inputs or ())], contact=contact, overrides=overrides or ()
    )
    settings = RunSettings(
        fetch=fetch_settings(
            contact=contact,
            connect_to=connect_to or (),
            ca_file=ca_file,
            concurrency=concurrency,
            others=fetch or (),
        )
    )
    result = run_pipeline(pipeline, output, runner=_runner(runner), settings=with_workers(settings, workers), name=name)
    if as_json:
        print_json(summary_json(result))
    else:
        print_summary(result, console=console())
        if not result.pending:
            folder = shlex.quote(output)
            console().print(f"Next: emu inspect {folder}, emu validate {folder}", markup=False)
    raise typer.Exit(exit_code(result))


def run_pipeline(
    pipeline: Pipeline, output: str, *, runner: Runner, settings: RunSettings, name: str | None = None
) -> RunResult:
    """`run` with progress on stderr; the first Ctrl-C or SIGTERM lets it stop, the second ends the process."""
    check_web(pipeline, settings)
    errors = error_console()

    def announce(signal_name: str) -> None:
        errors.print(f"{signal_name}: stopping; what is committed stays. Once more ends at once.")

    with stop_on_signal(announce, exit_code=STOPPED) as stop, progress() as observe:
        return run(pipeline, output, runner=runner, settings=settings, name=name, observe=observe, stop=stop)


def exit_code(result: RunResult) -> int:
    """How the command ends."""
    if not result.pending:
        return DONE
    return STOPPED if result.stopped else FAILED


def _runner(name: str) -> Runner:
    if name not in _RUNNERS:
        raise UserError(f"--runner {name}: there is no such engine; there is {', '.join(_RUNNERS)}")
    return _RUNNERS[name]()
