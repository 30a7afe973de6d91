"""`emu index`: indexes for WebDataset tars that stay where they are, so that readers fetch one sample by its range.

Writes `X.arrow` beside `X.tar`, or into `--output`; the tars are only read. Not here: what stands in an index (`schemas.foreign`).
"""

from pathlib import Path
from typing import Annotated

import typer

from jobs.arguments import JsonOption
from jobs.cli import DONE, FAILED
from jobs.terminal import console, count, error_console, print_json, shown
from pipelines.sources.files import base_name, find_files, is_remote, open_binary
from schemas.errors import CorpusError, UserError
from schemas.foreign import ForeignIndex, index_foreign_tar, read_foreign_index


def index(
    tars: Annotated[list[str], typer.Argument(metavar="TAR…", help="Tars, folders of them, patterns or URLs.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Put the indexes there, not beside the tars."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write indexes for WebDataset tars that stay where they are.

    Ends with 0 when every tar is whole, 1 when some break off: their indexes hold the samples before the break.
    """
    files = find_files(tars, endings=(".tar",))
    places = [_place(file, output) for file in files]
    if len(set(places)) < len(places):
        raise UserError(f"two tars of one name would share an index in {output}; index their folders apart")
    made_of: dict[str, ForeignIndex] = {}
    for file, place in zip(files, places, strict=True):
        with open_binary(file) as tar:
            made = made_of[file] = index_foreign_tar(tar, name=base_name(file))
        _write(place, made)
        if made.broken:
            told = f"{file}: breaks off ({made.broken}); {count(made.samples)} whole samples are before it"
            error_console().print(shown(told), markup=False)
    if as_json:
        pairs = zip(made_of.items(), places, strict=True)
        print_json(
            {
                "indexes": [
                    {"tar": file, "index": str(place), "samples": made.samples, "broken": made.broken}
                    for (file, made), place in pairs
                ]
            }
        )
    else:
        samples = sum(made.samples for made in made_of.values())
        console().print(f"Indexed {count(samples)} samples of {count(len(files))} tars.")
    raise typer.Exit(FAILED if any(made.broken for made in made_of.values()) else DONE)


def _place(file: str, output: Path | None) -> Path:
    if output is None and is_remote(file):
        raise UserError(f"{file}: nothing is written beside a remote tar; name a folder with --output")
    name = base_name(file).removesuffix(".tar") + ".arrow"
    return (output if output is not None else Path(file).parent) / name


def _write(place: Path, made: ForeignIndex) -> None:
    """Write whole or not at all, over an older index of ours and over nothing else."""
    if place.exists():
        try:
            read_foreign_index(place.read_bytes(), name=str(place))
        except CorpusError as error:
            raise UserError(f"{error}; it is left as it is. Name another folder with --output") from None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.new")
        draft.write_bytes(made.data)
        draft.replace(place)
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error.strerror}); name a folder with --output") from None
