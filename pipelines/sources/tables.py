"""Tables of image–text pairs: files in which a row names an image by URL and says what it shows.

Parquet, csv, tsv, jsonl, and txt with one URL per line; text compressed or not. Planning reads footers of parquet, and passes over
plain text once; a unit streams its rows, so memory stays flat whatever the size of a file. Types are those of the column map, not
those of the file. Not here: cleaning and cut-offs (steps), global duplicates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.pipeline import Draft, DraftImage, Source, run_setting
from pipelines.sources import parquet, text_files
from pipelines.sources.columns import Kind, PairColumns, cast, word
from pipelines.sources.differences import differences, refuse_unfit
from pipelines.sources.files import base_name, check_unchanged, find_files, is_same_file
from pipelines.sources.formats import ENDINGS, TXT_ENDINGS, Format, file_type
from pipelines.sources.parquet import ParquetFile
from pipelines.sources.text_files import TextFile
from pipelines.sources.text_rows import TextSettings, known_encoding
from schemas.errors import UserError
from schemas.plan import Unit
from schemas.reasons import Reason, Refusal
from schemas.sample import Caption, ImageSegment, Origin, TextSegment

__all__ = ["Kind", "PairColumns", "Table", "cast"]


@dataclass(frozen=True, slots=True)
class Table(Source):
    """Files of pairs.

    paths: files, folders or patterns; a corpus may grow by more of them. name: of the data set, written into every sample.
    columns: which column is what. keep: attributes to keep, with their types; those a file lacks are absent from its samples.
    rows_per_unit: rows of one unit; a compressed text file is one unit of any size.
    header: names of the columns of csv and tsv files that have no row of names. quoted: whether fields of csv and tsv may stand in
    double quotes; false where a quote means nothing. encoding: of text files; a row in another one is refused, not guessed at.
    """

    paths: tuple[str, ...] = run_setting(())
    name: str = field(default="pairs", kw_only=True)
    columns: PairColumns = field(default_factory=PairColumns, kw_only=True)
    keep: dict[str, Kind] = field(default_factory=dict, kw_only=True, hash=False)
    rows_per_unit: int = field(default=10_000, kw_only=True)
    header: tuple[str, ...] = field(default=(), kw_only=True)
    quoted: bool = field(default=True, kw_only=True)
    encoding: str = field(default="utf-8", kw_only=True)

    def __post_init__(self) -> None:
        if not 1 <= self.rows_per_unit <= 1_000_000:
            raise ValueError(f"rows_per_unit is {self.rows_per_unit}, expected 1 to 1,000,000")
        if len(set(self.header)) != len(self.header):
            raise ValueError(f"header: found {list(self.header)}, expected a name of its own for every column")
        try:
            object.__setattr__(self, "encoding", known_encoding(self.encoding))
        except ValueError as error:
            raise ValueError(f"encoding: {error}") from None

    @property
    def kept(self) -> tuple[str, ...]:
        """See `Source.kept`."""
        return tuple(self.keep)

    def check(self, needs: dict[str, str]) -> None:
        """See `Source.check`: every file has the columns of the pair and those that steps need, in types that can serve."""
        refuse_unfit(self._files(), columns=self.columns, needs=needs, keep=self.keep)

    def notes(self) -> list[str]:
        """What differs between the files without harm, and what is odd in one of them: a sentence each, for who plans."""
        files = self._files()
        notes = differences(files, self.keep)
        left_out = self._left_out(self._paths())
        if left_out:
            notes.append(
                f"txt files beside tables are not read as lists of URLs: {', '.join(map(base_name, left_out[:3]))}"
                + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
            )
        return notes + [note for file in files for note in file.notes]

    def units(self, *, first_ordinal: int, planned: Sequence[Unit]) -> list[Unit]:
        """See `Source.units`: `rows_per_unit` rows each, file by file."""
        known = {unit.source: unit.fingerprint for unit in planned}
        by_name: dict[str, list[str]] = {}
        for source in known:
            by_name.setdefault(base_name(source), []).append(source)
        units: list[Unit] = []
        for file in self._files():
            path, now = file.path, file.fingerprint
            if path in known:
                check_unchanged(path, now=now, planned=known[path])
            elif not any(
                is_same_file(path, now=now, source=source, planned=known[source])
                for source in by_name.get(base_name(path), ())
            ):
                first = first_ordinal + len(units)
                units.extend(file.units(first_ordinal=first, rows_per_unit=self.rows_per_unit))
                known[path] = now
                by_name.setdefault(base_name(path), []).append(path)
        return units

    def rows(self, unit: Unit) -> Iterator[Any]:
        """See `Source.rows`. A row that cannot be read is the refusal that `parse` will give."""
        names = tuple(dict.fromkeys((*self.columns.named, *self.keep)))
        yield from self._file(unit).unit_rows(unit, columns=names)

    def parse(self, row: Any, *, key: str, origin_row: int, unit: Unit) -> Draft | Refusal:
        """See `Source.parse`: `[image, text]`; a value that does not fit its column is `source.malformed`, naming the column."""
        if isinstance(row, Refusal):
            return row
        pair = self.columns
        url, text = row.get(pair.url), row.get(pair.text) if pair.text else None
        if not url:
            return Refusal(Reason.URL_INVALID, "empty")
        if not text and pair.text:
            return Refusal(Reason.TEXT_EMPTY)
        for name, value in ((pair.url, url), (pair.text or "", text)):
            if not isinstance(value, str | None):
                return Refusal(Reason.SOURCE_MALFORMED, word(name))
        attributes = self._attributes(row)
        captions = self._captions(row)
        if isinstance(attributes, Refusal):
            return attributes
        if isinstance(captions, Refusal):
            return captions
        origin_id = row.get(pair.id) if pair.id else None
        licence = row.get(pair.licence) if pair.licence else None
        return Draft(
            key=key,
            source=Origin(
                self.name,
                file=base_name(unit.source),
                row=origin_row,
                id=None if origin_id is None else str(origin_id),
            ),
            segments=(ImageSegment(0), TextSegment(text)) if text else (ImageSegment(0),),
            images=(DraftImage(0, url),),
            captions=captions,
            attributes=attributes,
            licence=None if licence is None else str(licence),
        )

    def _attributes(self, row: dict[str, Any]) -> dict[str, Any] | Refusal:
        attributes: dict[str, Any] = {}
        for name, kind in self.keep.items():
            if name in row:
                try:
                    attributes[name] = cast(row[name], kind)
                except (ValueError, TypeError, OverflowError, RecursionError):
                    return Refusal(Reason.SOURCE_MALFORMED, word(name))
        return attributes

    def _captions(self, row: dict[str, Any]) -> tuple[Caption, ...] | Refusal:
        pair = self.columns
        name = pair.captions or ""
        try:
            texts = cast(row.get(name), Kind.LIST_STRING)
            if not texts:
                return ()
            name = pair.captions_similarity or ""
            scores = cast(row.get(name), Kind.LIST_FLOAT)
        except (ValueError, TypeError, OverflowError, RecursionError):
            return Refusal(Reason.SOURCE_MALFORMED, word(name))
        if scores is not None and len(scores) != len(texts):
            return Refusal(Reason.SOURCE_MALFORMED, word(name))
        scores = scores if scores is not None else [None] * len(texts)
        return tuple(Caption(text, score) for text, score in zip(texts, scores, strict=True) if text)

    def _paths(self) -> list[str]:
        return find_files(self.paths, endings=ENDINGS)

    def _files(self) -> list[ParquetFile | TextFile]:
        """Every file to read. Raises `UserError` for a table that is there twice."""
        paths = self._paths()
        for path in paths:
            twin = path.removesuffix(file_type(path).compression)
            if twin != path and twin in paths:
                raise UserError(f"{path} and {base_name(twin)} are one table twice; name the one to read")
        left_out = set(self._left_out(paths))
        return [self._inspect(path) for path in paths if path not in left_out]

    def _left_out(self, paths: list[str]) -> list[str]:
        """Txt files that lie in a folder beside tables, and were not named: notes and licences, not lists of URLs."""
        lists = [path for path in paths if path.endswith(TXT_ENDINGS)]
        if not lists or len(lists) == len(paths):
            return []
        named = [path for path in self.paths if path.endswith(TXT_ENDINGS)]
        kept = find_files(named, endings=TXT_ENDINGS) if named else []
        return [path for path in lists if path not in kept]

    def _inspect(self, path: str) -> ParquetFile | TextFile:
        if file_type(path).format is Format.PARQUET:
            return parquet.inspect(path)
        settings = TextSettings(header=self.header, quoted=self.quoted, encoding=self.encoding, line=self.columns.url)
        return text_files.inspect(path, settings)

    def _file(self, unit: Unit) -> ParquetFile | TextFile:
        """The file of a unit, where it was planned or where it lies now. Raises `UserError` if it has changed or is gone."""
        for path in (unit.source, *self._same_name(unit)):
            try:
                file = self._inspect(path)
            except FileNotFoundError:
                continue
            elsewhere = path != unit.source
            if elsewhere and not is_same_file(path, now=file.fingerprint, source=unit.source, planned=unit.fingerprint):
                continue
            check_unchanged(path, now=file.fingerprint, planned=unit.fingerprint, moved=elsewhere)
            return file
        raise UserError(
            f"{unit.source}: the file of unit {unit.ordinal} is gone; put it back, or name the folder it has moved to as input"
        )

    def _same_name(self, unit: Unit) -> Iterator[str]:
        """Files of the same name elsewhere, looked for only if the planned one is gone."""
        name = base_name(unit.source)
        yield from (path for path in self._paths() if path != unit.source and base_name(path) == name)
