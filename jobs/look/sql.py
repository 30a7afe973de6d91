"""`--sql`: one question to the tables of a corpus, through an in-memory DuckDB that can reach nothing else.

The tables are streams of ours (`tables`), so the database itself needs no file: its access to files, networks, extensions and
Python variables is off, its settings are locked, and only statements that read are let in. What it cannot hold in
memory it refuses; nothing is spilled to disk.
"""

import re
from collections.abc import Iterator
from typing import Any

from jobs.look.domains import domain_of
from jobs.look.notes import Notes
from jobs.look.tables import TABLES, table
from schemas.corpus import Corpus
from schemas.errors import CorpusError, UserError

MEMORY_LIMIT = "2GB"
_BATCH_ROWS = 1_000
_READING = ("SELECT", "EXPLAIN")
_SETTINGS = (
    "SET python_enable_replacements = false",
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


class Answer:
    """The rows of one question, fetched as they are asked for. `columns` are their names."""

    def __init__(self, corpus: Corpus, question: str, notes: Notes) -> None:
        import duckdb

        self._database_error = duckdb.Error
        self._connection = duckdb.connect(":memory:")
        self._streams = {name: table(corpus, name, notes) for name in TABLES}
        try:
            self._check_reads(question)
            for name, stream in self._streams.items():
                self._connection.register(name, stream)
            self._connection.create_function("domain", domain_of, ["VARCHAR"], "VARCHAR")
            for setting in (f"SET memory_limit = '{MEMORY_LIMIT}'", *_SETTINGS):
                self._connection.execute(setting)
            self._connection.execute(question)
            self.columns = [column[0] for column in self._connection.description or ()]
        except BaseException as error:
            self.close()
            raise self._refusal(error) from None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The rows, in the order of the answer."""
        try:
            while rows := self._connection.fetchmany(_BATCH_ROWS):
                yield from rows
        except self._database_error as error:
            raise self._refusal(error) from None

    def close(self) -> None:
        """Let go of the database; nothing of it remains."""
        self._connection.close()

    def _check_reads(self, question: str) -> None:
        """Exactly one statement, and one that reads. Raises `UserError`."""
        statements = self._connection.extract_statements(question)
        if len(statements) != 1:
            raise UserError(f"--sql takes one statement, found {len(statements)}")
        kind = str(statements[0].type).rpartition(".")[2]
        if kind not in _READING:
            raise UserError(
                f"--sql only reads: {kind} is refused. Begin with select, or with describe for the columns of a table"
            )

    def _refusal(self, error: BaseException) -> BaseException:
        """What ended a stream, if one was ended; else the complaint of the database without its class, and the line it is about."""
        ended = next((stream.error for stream in self._streams.values() if stream.error is not None), None)
        if ended is not None:
            return CorpusError(str(ended))
        if not isinstance(error, self._database_error):
            return error
        message = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", str(error).strip())
        said = "\n".join([line for line in message.splitlines() if line.strip()][:6])
        return UserError(f"--sql: {said}\nThe tables are {', '.join(TABLES)}; `describe TABLE` lists columns")
