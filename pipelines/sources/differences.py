"""The files of one source side by side: what is wrong with one of them is refused by name, what merely differs is told.

Refused: a column that the pair or a step needs is missing in some file, or its type cannot serve. Told: a kept column that some
files lack, other types of number, other formats in one list. Columns that nobody asked for are nobody's concern.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from pipelines.sources.columns import Kind, PairColumns, can_hold, is_text
from pipelines.sources.files import base_name
from pipelines.sources.formats import Format
from schemas.errors import UserError

_SHOWN = 3


class TableFile(Protocol):
    """What is compared of a file. typed: whether the types of its columns are declared, not guessed."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def format(self) -> Format: ...  # noqa: D102
    @property
    def schema(self) -> pa.Schema: ...  # noqa: D102
    @property
    def typed(self) -> bool: ...  # noqa: D102


def refuse_unfit(
    files: Sequence[TableFile], *, columns: PairColumns, needs: dict[str, str], keep: dict[str, Kind]
) -> None:
    """Raise `UserError` for a file that lacks a column of the pair or of a step (`needs`), or whose type of one cannot serve."""
    for file in files:
        for name in (*columns.named, *needs):
            if name not in file.schema.names:
                lacking = [other for other in files if name not in other.schema.names]
                raise UserError(_missing(file, name, lacking, len(files), columns=columns, needs=needs))
        for name, expected in _unfit(file, columns, keep):
            raise UserError(
                f"{file.path}: column {name!r} holds {file.schema.field(name).type}, expected {expected}; "
                + (
                    "name the right column under `source.columns`"
                    if name in columns.named
                    else f"change its type under `source.keep`, or leave it out: --set source.keep={{…}} without {name}"
                )
            )


def differences(files: Sequence[TableFile], keep: dict[str, Kind]) -> list[str]:
    """What a person should know before the files are read as one table."""
    notes: list[str] = []
    formats = _grouped((str(file.format), file) for file in files)
    if len(formats) > 1:
        notes.append(f"files of several formats are read as one table: {_counts(formats)}")
    for name in keep:
        having = [file for file in files if name in file.schema.names]
        lacking = [file for file in files if name not in file.schema.names]
        if having and lacking:
            notes.append(f"column {name!r}: absent in {_of(lacking, len(files))}; samples from there lack it")
        types = _grouped((str(file.schema.field(name).type), file) for file in having if file.typed)
        if len(types) > 1:
            notes.append(f"column {name!r}: {_counts(types)}; kept as {keep[name]} from all of them")
    return notes


def _unfit(file: TableFile, columns: PairColumns, keep: dict[str, Kind]) -> Iterator[tuple[str, str]]:
    """Columns whose type cannot serve, with what is expected."""
    for name in (columns.url, columns.text):
        if name is not None and not is_text(file.schema.field(name).type):
            yield name, "text"
    for optional, kind in ((columns.captions, Kind.LIST_STRING), (columns.captions_similarity, Kind.LIST_FLOAT)):
        if optional is not None and not can_hold(kind, file.schema.field(optional).type):
            yield optional, kind.value
    for name, kind in keep.items():
        if file.typed and name in file.schema.names and not can_hold(kind, file.schema.field(name).type):
            yield name, kind.value


def _missing(
    file: TableFile,
    name: str,
    lacking: Sequence[TableFile],
    num_files: int,
    *,
    columns: PairColumns,
    needs: dict[str, str],
) -> str:
    names = file.schema.names
    extent = f" (absent in {_of(lacking, num_files)})" if num_files > 1 else ""
    if name in needs:
        cause = f"the step `{needs[name]}` reads it"
        mend = f"use metadata that has it, or leave the step out: --set {needs[name]}=null"
    else:
        cause = "the pair is read from it"
        mend = _mend(file, columns.roles[name], _nearest(name, names))
    return f"{file.path}: column {name!r} is missing{extent}; {cause}. The file has {', '.join(map(repr, names))}. Next: {mend}"


def _mend(file: TableFile, role: str, near: str | None) -> str:
    if role == "text" and file.format is Format.TXT:
        return "a txt file has URLs only; build samples without text: --set source.columns.text=null"
    if near is None and any("://" in name for name in file.schema.names):
        return "its first row is data: name the columns, in order: --set 'source.header=[url, text]'"
    right = f"--set source.columns.{role}={near or '…'}"
    optional = f", or none: --set source.columns.{role}=null" if role != "url" else ""
    return f"name the right column: {right}{optional}"


def _nearest(name: str, names: Sequence[str]) -> str | None:
    """The column that was probably meant."""
    plain = {other.strip().lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), plain, n=1)
    return plain[near[0]] if near else None


def _grouped(pairs: Iterator[tuple[str, TableFile]]) -> dict[str, list[TableFile]]:
    groups: dict[str, list[TableFile]] = {}
    for word, file in pairs:
        groups.setdefault(word, []).append(file)
    return groups


def _counts(groups: dict[str, list[TableFile]]) -> str:
    """`int32 in 126 files, double in 2 (b.parquet, c.parquet)`: the most frequent first, the files of the others by name."""
    most, *others = sorted(groups.items(), key=lambda group: -len(group[1]))
    told = [f"{word} in {len(files)} ({_names(files)})" for word, files in others]
    return ", ".join([f"{most[0]} in {len(most[1])} file{'s' * (len(most[1]) > 1)}", *told])


def _of(some: Sequence[TableFile], num_files: int) -> str:
    return f"{len(some)} of {num_files} files: {_names(some)}"


def _names(files: Sequence[TableFile]) -> str:
    shown = ", ".join(base_name(file.path) for file in files[:_SHOWN])
    return shown if len(files) <= _SHOWN else f"{shown} and {len(files) - _SHOWN} more"
