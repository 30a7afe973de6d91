"""A corpus: its manifest, the names of its files, and the records that say what is in it.

    corpus.json      the manifest, immutable          plan/      which unit is what (`schemas.plan`)
    samples/ …       data, one folder a column        records/   exists = committed
    rejects/         what is not in it, and why       run/       advisory

Records are found by column and unit. Ten thousand of them share a folder; once a folder is full it is copied into one immutable
segment, so that resuming a large corpus lists segments, not millions of files. Not here: making shards (`shard_writer`).
"""

import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import canonical
from schemas.errors import CorpusError, UserError
from schemas.plan import Unit, read_plan
from schemas.record import Record, Totals
from schemas.storage import Storage, open_storage

CORPUS_FORMAT = "emu-corpus/1.0"
MANIFEST = "corpus.json"
SAMPLES = "samples"
RECORDS_PER_FOLDER = 10_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_COLUMN = re.compile(r"[a-z]+(/[A-Za-z0-9][A-Za-z0-9._-]{0,150})?")


@dataclass(frozen=True, slots=True)
class Manifest:
    """`corpus.json`: who the corpus is. Written once.

    name: identity across corpora is (name, key). recipe: source kind, steps and settings that decide content. recipe_hash:
    sha256 of the recipe's canonical JSON. licence: of the whole, if known.
    """

    name: str
    recipe: dict[str, Any]
    recipe_hash: str = ""
    licence: str | None = None
    format: str = CORPUS_FORMAT

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UserError(f"corpus name {self.name!r}: use letters, digits and . _ - (at most 100, no leading mark)")
        if not self.recipe_hash:
            object.__setattr__(self, "recipe_hash", canonical.sha256_of(self.recipe))


class RecipeChangedError(UserError):
    """The corpus was begun with another recipe; `changes` lists (setting, then, now)."""

    def __init__(self, url: str, changes: list[tuple[str, Any, Any]]) -> None:
        self.changes = changes
        lines = "\n".join(f"  {name}: {then!r} when it was begun, {now!r} now" for name, then, now in changes)
        super().__init__(
            f"{url} was begun with another recipe:\n{lines}\n"
            f"Build into a new folder, or set these back to go on with this one."
        )


@dataclass(frozen=True, slots=True)
class Corpus:
    """An opened corpus. Cheap to make; holds no file open."""

    storage: Storage
    manifest: Manifest = field(hash=False)

    @classmethod
    def open(cls, url: str) -> "Corpus":
        """Open what lies at `url`. Raises `CorpusError` if it is no corpus or of a newer major version."""
        storage = open_storage(url)
        try:
            data = storage.read(MANIFEST)
        except (FileNotFoundError, NotADirectoryError):
            raise CorpusError(f"{url} is not a corpus: it has no {MANIFEST}") from None
        return cls(storage, _parse_manifest(data, url=storage.url))

    @classmethod
    def create(cls, url: str, manifest: Manifest) -> "Corpus":
        """Begin a corpus, or go on with the one that is there.

        Raises `RecipeChangedError` if it was begun with another recipe, `UserError` if it has another name.
        """
        storage = open_storage(url)
        try:
            _refuse_foreign_folder(storage)
            storage.create(MANIFEST, canonical.dumps(asdict(manifest)))
        except FileExistsError:
            found = cls.open(url)
            _check_same(found.manifest, manifest, url=storage.url)
            return found
        except OSError as error:
            raise UserError(
                f"{storage.url}: cannot begin a corpus here ({error.strerror}); "
                f"name a folder on a disk with space that you may write to"
            ) from None
        return cls(storage, manifest)

    @property
    def url(self) -> str:
        """Where it lies."""
        return self.storage.url

    def plan(self) -> list[Unit]:
        """Every planned unit, by ordinal."""
        return read_plan(self.storage)

    def columns(self) -> list[str]:
        """Names of the columns that have records, `samples` first."""
        found: set[str] = set()
        for folder in self.storage.folders("records"):
            name = folder.removeprefix("records/")
            if name == SAMPLES:
                found.add(name)
            else:
                found.update(f"{name}/{inner.rsplit('/', 1)[1]}" for inner in self.storage.folders(folder))
        return sorted(found, key=lambda column: (column != SAMPLES, column))

    def record(self, column: str, unit: int) -> Record | None:
        """The record of one unit, or None while it is not committed."""
        name = record_name(column, unit)
        try:
            return Record.from_json(self.storage.read(name), name=name)
        except FileNotFoundError:
            return None

    def create_record(self, record: Record, *, draft: Path | None = None) -> Record:
        """Commit. Returns the record that counts: this one, or that of the attempt that was first.

        draft: a file of the record in scratch, made before the data was published. A sweep that takes the data of an attempt
        takes its draft first, so an attempt that sleeps through one cannot commit: raises `FileNotFoundError`.
        """
        name = record_name(record.content.column, record.content.unit)
        try:
            if draft is None:
                self.storage.create(name, record.to_json())
            else:
                self.storage.create_from(draft, name)
        except FileExistsError:
            return Record.from_json(self.storage.read(name), name=name)
        return record

    def records(self, column: str = SAMPLES) -> Iterator[Record]:
        """Every record of a column, by unit; a folder or segment at a time."""
        for _, segment, names in self._folders(column):
            if segment is not None:
                yield from self._read_segment(segment)
            else:
                yield from (Record.from_json(self.storage.read(name), name=name) for name in names)

    def committed(self, column: str = SAMPLES) -> set[int]:
        """Ordinals of the units that have a record; reads no record outside segments."""
        units: set[int] = set()
        for folder, segment, names in self._folders(column):
            if segment is not None:
                first = int(folder) * RECORDS_PER_FOLDER
                units.update(range(first, first + RECORDS_PER_FOLDER))
            else:
                units.update(int(name.rsplit("/", 1)[1].removesuffix(".json")) for name in names)
        return units

    def totals(self, column: str = SAMPLES) -> Totals:
        """Sums over the records of a column."""
        totals = Totals()
        for record in self.records(column):
            totals = totals.add(record.content)
        return totals

    def compact_records(self, column: str = SAMPLES) -> list[str]:
        """Copy each full folder of records into a segment, if it has none; returns the names of those made. Deletes nothing."""
        made = []
        for folder, segment, names in self._folders(column):
            first = int(folder) * RECORDS_PER_FOLDER
            full = [record_name(column, unit) for unit in range(first, first + RECORDS_PER_FOLDER)]
            if segment is None and names == full:
                name = segment_name(column, int(folder))
                try:
                    self.storage.create(name, _segment_bytes((n, self.storage.read(n)) for n in names))
                except FileExistsError:
                    continue
                made.append(name)
        return made

    def _folders(self, column: str) -> Iterator[tuple[str, str | None, list[str]]]:
        """Folder number, its segment if it has one, else the names of its records; by folder."""
        root = f"records/{column}"
        segments = {
            entry.name.rsplit("segment-", 1)[1].removesuffix(".parquet"): entry.name
            for entry in self.storage.list(root)
            if "segment-" in entry.name
        }
        folders = {path.rsplit("/", 1)[1] for path in self.storage.folders(root)}
        for folder in sorted(f for f in segments.keys() | folders if f.isdigit()):
            if folder in segments:
                yield folder, segments[folder], []
            else:
                names = [entry.name for entry in self.storage.list(f"{root}/{folder}")]
                yield folder, None, [name for name in names if name.endswith(".json")]

    def _read_segment(self, name: str) -> Iterator[Record]:
        for unit, record in read_segment(self.storage.read(name), name=name):
            yield Record.from_json(record, name=f"{name} (unit {unit})")


def read_segment(data: bytes, *, name: str) -> list[tuple[int, str]]:
    """Unit and record, as its file has it, of each record in a segment. Raises `CorpusError` if the segment is damaged."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(columns=["unit", "record"])
        table.validate(full=True)
        return list(zip(table.column("unit").to_pylist(), table.column("record").to_pylist(), strict=True))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise CorpusError(
            f"{name}: not a readable segment ({error}); the records it was made of are still there: delete it"
        ) from None


def check_column(column: str) -> str:
    """The column's name, if it may be one. Raises `UserError`."""
    if not _COLUMN.fullmatch(column):
        raise UserError(
            f"column {column!r}: expected a kind such as `samples`, or kind/name such as `features/eva01-g-14.bf16`"
        )
    return column


def record_name(column: str, unit: int) -> str:
    """`records/samples/0042/00420017.json` for unit 420,017."""
    return f"records/{column}/{unit // RECORDS_PER_FOLDER:04d}/{unit:08d}.json"


def segment_name(column: str, folder: int) -> str:
    """The segment that holds all records of a folder."""
    return f"records/{column}/segment-{folder:04d}.parquet"


def segment_of(column: str, unit: int) -> str:
    """The segment that holds a unit's record once its folder is full."""
    return segment_name(column, unit // RECORDS_PER_FOLDER)


def part_stem(column: str, unit: int, part: int, content_sha256: str) -> str:
    """The name of a part without its ending: `samples/00000042-00-3f9c2a1b`."""
    return f"{column}/{unit:08d}-{part:02d}-{content_sha256[:8]}"


def rejects_name(column: str, unit: int, content_sha256: str) -> str:
    """The name of a unit's rejects."""
    return f"rejects/{column}/{unit:08d}-{content_sha256[:8]}.parquet"


def diff_settings(then: Any, now: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """The settings that differ between two recipes, as (`min_side.pixels`, then, now); what is absent is None."""
    if isinstance(then, dict) and isinstance(now, dict):
        names = list(dict.fromkeys([*then, *now]))
        return [d for name in names for d in diff_settings(then.get(name), now.get(name), f"{path}.{name}".lstrip("."))]
    if _is_steps(then) and _is_steps(now):
        return _diff_steps(then, now)
    return [] if then == now else [(path, then, now)]


def _is_steps(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and "kind" in item for item in value)


def _diff_steps(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[tuple[str, Any, Any]]:
    """Steps are compared by name, so that one left out does not make all behind it differ; then their order."""
    ours, theirs = _by_name(then), _by_name(now)
    found = diff_settings(ours, theirs)
    order_then, order_now = [n for n in ours if n in theirs], [n for n in theirs if n in ours]
    return found if order_then == order_now else [*found, ("order of steps", order_then, order_now)]


def _by_name(steps: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Steps by their kind; the second of a kind is `kind#2`."""
    named: dict[str, dict[str, Any]] = {}
    for step in steps:
        times = sum(name.partition("#")[0] == step["kind"] for name in named)
        named[step["kind"] if not times else f"{step['kind']}#{times + 1}"] = step
    return named


def _parse_manifest(data: bytes, *, url: str) -> Manifest:
    from pydantic import TypeAdapter, ValidationError

    _check_version(data, url=url)
    try:
        return TypeAdapter(Manifest).validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise CorpusError(f"{url}/{MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _check_version(data: bytes, *, url: str) -> None:
    """Before any field is looked at: another major version may have other fields."""
    try:
        found = str(json.loads(data)["format"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CorpusError(f"{url}/{MANIFEST}: no JSON object with a `format`; restore it from a copy") from None
    if found.partition(".")[0] != CORPUS_FORMAT.partition(".")[0]:
        raise CorpusError(
            f"{url}: format {found!r}, this version reads {CORPUS_FORMAT!r} and other minor versions of it; "
            f"install a release of emu-corpus that knows the format"
        )


def _refuse_foreign_folder(storage: Storage) -> None:
    """A corpus begins in an empty folder: it would write its README.md over another's. Scratch of a launcher beside is ours."""
    if storage.size(MANIFEST) is not None:
        return
    found = [e.name for e in storage.list("")] + [name for name in storage.folders("") if name != "run"]
    if found and storage.size(MANIFEST) is None:
        raise UserError(
            f"{storage.url} holds {found[0]!r} and no {MANIFEST}: name an empty folder, or a corpus to go on with"
        )


def _check_same(found: Manifest, wanted: Manifest, *, url: str) -> None:
    if found.name != wanted.name:
        raise UserError(f"{url} holds the corpus {found.name!r}, not {wanted.name!r}; name another folder")
    if found.recipe_hash != wanted.recipe_hash:
        raise RecipeChangedError(url, diff_settings(found.recipe, wanted.recipe))


def _segment_bytes(records: Iterable[tuple[str, bytes]]) -> bytes:
    named = list(records)
    units = [int(name.rsplit("/", 1)[1].removesuffix(".json")) for name, _ in named]
    table = pa.table({"unit": pa.array(units, pa.int64()), "record": pa.array([d.decode() for _, d in named])})
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"format": "emu-records/1"}), sink, compression="zstd")
    return sink.getvalue()
