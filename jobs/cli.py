"""The `emu` command: a table of subcommands, each imported when it is asked for.

So `emu --help` and the commands that only read start at once: nothing here, and nothing in the modules of `inspect` and
`validate`, imports an engine, a decoder or torch. `main` is where errors become messages and exit codes:

    0 done    1 finished, but a check failed or units are pending    2 bad usage or input    75 stopped by a signal: run it again
"""

import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from keyword import iskeyword
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from schemas.errors import UserError

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 75
"""Exit codes, as scripts and schedulers know them."""

TRACEBACK_VARIABLE = "EMU_TRACEBACK"


@dataclass(frozen=True, slots=True)
class _Command:
    """Where a subcommand's function of the same name stands (`import_` for a name that Python keeps), and its line in the list."""

    module: str
    help: str


_COMMANDS = {
    "demo": _Command("jobs.demo.command", "Build a small corpus from a web of photographs on this machine."),
    "plan": _Command("jobs.plan", "Show what a build would do; writes nothing."),
    "build": _Command("jobs.build", "Build a corpus from metadata, or go on with one."),
    "import": _Command("jobs.import_", "Make a corpus of an img2dataset output or of WebDataset tars."),
    "index": _Command("jobs.index", "Write indexes for WebDataset tars that stay where they are."),
    "validate": _Command("jobs.validate", "Check every promise of a corpus; --fix sweeps what no record names."),
    "inspect": _Command("jobs.inspect", "Show what a corpus, a tar or a folder of them holds, or one sample of it."),
}


class _LazyCommands(TyperGroup):
    """Lists all commands from the table; imports the one that runs."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, command in _COMMANDS.items():
            self.add_command(TyperCommand(name, help=command.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command in full, with its arguments, in place of its entry."""
        name, entry, rest = super().resolve_command(ctx, args)
        return name, entry if name is None else _load(name), rest


app = typer.Typer(cls=_LazyCommands, name="emu", add_completion=False, no_args_is_help=True, rich_markup_mode="rich")


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"emu-corpus {version('emu-corpus')}")
        raise typer.Exit(DONE)


@app.callback()
def _emu(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Multimodal corpora from the open web: build, check and look at interleaved image–text shards."""


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        app()
    except UserError as error:
        _complain(f"{error}")
        sys.exit(BAD_INPUT)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        _complain(
            f"{type(error).__name__}: {error}\n"
            f"This is a fault of emu, not of your input. {TRACEBACK_VARIABLE}=1 shows where; please report it."
        )
        sys.exit(FAILED)


def _load(name: str) -> Any:
    function = getattr(importlib.import_module(_COMMANDS[name].module), f"{name}_" if iskeyword(name) else name)
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command(name)(function)
    return typer.main.get_command(single)


def _complain(message: str) -> None:
    from jobs.terminal import error_console, shown

    console = error_console()
    console.print("[bold red]error:[/] ", end="")
    console.print(shown(message), markup=False, highlight=False, soft_wrap=True)
