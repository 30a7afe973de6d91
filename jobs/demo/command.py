"""`emu demo`: the whole way on this machine, without the internet: a web, metadata, a corpus, a check.

    photographs -> a web on 127.0.0.1 -> LAION-style metadata -> `emu build laion-2b` -> `emu validate` -> what to try next

The pipeline is the one of `emu build`; only the web is ours. Names and ports differ nowhere in the corpus, so every run makes the
same bytes, and a second one has nothing to do. Not here: the pages (`site`), the server (`web`).
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from jobs.arguments import fetch_settings, load_pipeline, with_workers
from jobs.build import exit_code, run_pipeline
from jobs.cli import DONE, FAILED
from jobs.demo.site import write_metadata
from jobs.demo.web import DemoWeb
from jobs.summary import print_summary
from jobs.terminal import console
from pipelines.run import RunResult
from pipelines.runners.local import LocalRunner
from pipelines.worker import RunSettings
from schemas.corpus import Corpus
from schemas.errors import UserError
from schemas.shard_reader import CorpusReader
from schemas.validate import validate

CONTACT = "mailto:demo@example.org"
OVERRIDES = ("source.rows_per_unit=120", "source.name=demo")
"""Three units instead of one, so that there is something to see."""


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where metadata and corpus go.")
    ] = Path("emu-demo"),
    workers: Annotated[
        int | None, typer.Option(min=0, max=64, help="Processes; one for each core if not given.")
    ] = None,
) -> None:
    """Build a small corpus from a web of photographs on this machine.

    Serves some hundred photographs, and what goes wrong on the web, from 127.0.0.1; builds a LAION corpus of them with the real
    pipeline; checks it; says what is in it. Needs no network. The same command again finds nothing left to do.
    """
    out = console()
    files = _metadata(output / "metadata")
    corpus = str(output / "corpus")
    with DemoWeb() as web:
        out.print(
            f"A web of photographs is up on 127.0.0.1:{web.port}; its metadata is in {output / 'metadata'}.",
            markup=False,
        )
        result = build_demo(files, corpus, web=web, workers=workers)
    print_summary(result, console=out)
    if result.pending:
        raise typer.Exit(exit_code(result))
    problems = list(validate(result.corpus))
    for problem in problems:
        out.print(str(problem), markup=False)
    out.print(f"The corpus {'holds' if not problems else 'is damaged'}: every file, key and byte was checked.")
    _say_what_next(result.corpus, corpus)
    raise typer.Exit(FAILED if problems else DONE)


def build_demo(files: Sequence[Path], corpus: str, *, web: DemoWeb, workers: int | None = None) -> RunResult:
    """Build the demo's corpus from a web that is up."""
    pipeline = load_pipeline("laion-2b", inputs=[str(file) for file in files], contact=CONTACT, overrides=OVERRIDES)
    settings = RunSettings(fetch=fetch_settings(contact=CONTACT, connect_to=web.connect_to))
    return run_pipeline(pipeline, corpus, runner=LocalRunner(), settings=with_workers(settings, workers), name="demo")


def _metadata(folder: Path) -> list[Path]:
    try:
        return write_metadata(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with --output"
        ) from None


def _say_what_next(corpus: Corpus, folder: str) -> None:
    key = next(CorpusReader(corpus).keys())
    quoted = shlex.quote(folder)
    out = console()
    out.print("Try next:")
    out.print(f"  emu inspect {quoted}", markup=False)
    out.print(f"  emu inspect {quoted} {key} --extract picture", markup=False)
    out.print(f"  emu validate {quoted}", markup=False)
    shard = next(part.data.name for part in CorpusReader(corpus).parts())
    out.print(f"  tar tf {shlex.quote(f'{folder}/{shard}')}", markup=False)
