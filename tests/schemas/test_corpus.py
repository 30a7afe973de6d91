"""The corpus: begun once, gone on with only by the same recipe; records stay what they are through compaction."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas import corpus as corpus_module
from schemas.corpus import (
    MANIFEST,
    SAMPLES,
    Corpus,
    Manifest,
    RecipeChangedError,
    check_column,
    diff_settings,
    record_name,
)
from schemas.errors import CorpusError, UserError
from schemas.plan import Unit
from schemas.record import Counts, Record, Totals, json_type, merge_types
from schemas.storage import Entry, LocalStorage
from schemas.validate import validate
from tests.small_corpora import Builder

RECIPE = {"source": {"kind": "parquet"}, "steps": [{"kind": "min_side", "pixels": 150}, {"kind": "keep"}]}


def test_the_same_recipe_goes_on(tmp_path: Path) -> None:
    begun = Corpus.create(str(tmp_path), Manifest(name="cats", recipe=RECIPE, licence="CC-BY-4.0"))
    again = Corpus.create(str(tmp_path), Manifest(name="cats", recipe=json.loads(json.dumps(RECIPE))))
    assert again.manifest == begun.manifest == Corpus.open(str(tmp_path)).manifest
    assert begun.columns() == begun.plan() == list(begun.records()) == []


def test_another_recipe_stops_with_the_settings_that_differ(tmp_path: Path) -> None:
    Corpus.create(str(tmp_path), Manifest(name="cats", recipe=RECIPE))
    changed = {"source": {"kind": "jsonl"}, "steps": [{"kind": "min_side", "pixels": 200}, {"kind": "keep"}], "new": 1}
    with pytest.raises(RecipeChangedError) as stopped:
        Corpus.create(str(tmp_path), Manifest(name="cats", recipe=changed))
    assert str(stopped.value) == (
        f"{tmp_path} was begun with another recipe:\n"
        f"  source.kind: 'parquet' when it was begun, 'jsonl' now\n"
        f"  min_side.pixels: 150 when it was begun, 200 now\n"
        f"  new: None when it was begun, 1 now\n"
        f"Build into a new folder, or set these back to go on with this one."
    )
    assert Corpus.open(str(tmp_path)).manifest.recipe == RECIPE


def test_a_step_left_out_or_moved_is_named_and_no_other() -> None:
    a, b, c = {"kind": "a", "x": 1}, {"kind": "b", "y": 1}, {"kind": "b", "y": 2}

    assert diff_settings({"steps": [a, b, c]}, {"steps": [b, c]}) == [("a", a, None)]
    assert diff_settings({"steps": [a, b, c]}, {"steps": [a, b, c | {"y": 3}]}) == [("b#2.y", 2, 3)]
    assert diff_settings({"steps": [a, b]}, {"steps": [b, a]}) == [("order of steps", ["a", "b"], ["b", "a"])]
    assert diff_settings({"steps": [a, b]}, {"steps": [a, b]}) == []


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("MY NOTES")

    with pytest.raises(UserError, match=r"holds 'README\.md' and no corpus\.json: name an empty folder"):
        Corpus.create(str(tmp_path), Manifest(name="cats", recipe=RECIPE))

    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_another_name_stops(tmp_path: Path) -> None:
    Corpus.create(str(tmp_path), Manifest(name="cats", recipe=RECIPE))
    with pytest.raises(UserError, match="holds the corpus 'cats', not 'dogs'; name another folder"):
        Corpus.create(str(tmp_path), Manifest(name="dogs", recipe=RECIPE))


def test_what_is_no_corpus_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(CorpusError, match=rf"{folder} is not a corpus: it has no corpus\.json"):
            Corpus.open(str(folder))


def _rewrite(root: Path, **changes: Any) -> None:
    path = root / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("found", ["emu-corpus/2.0", "emu-corpus/10.1", "other/1.0", ""])
def test_a_newer_major_version_is_refused(builder: Builder, found: str) -> None:
    _rewrite(builder.root, format=found)
    with pytest.raises(
        CorpusError, match=rf"format '{found}', this version reads 'emu-corpus/1\.0'.*install a release"
    ):
        Corpus.open(str(builder.root))


def test_a_newer_minor_version_with_unknown_fields_is_read_and_validated(builder: Builder) -> None:
    builder.commit(0)
    _rewrite(builder.root, format="emu-corpus/1.7", mood="serene")
    name = record_name(SAMPLES, 0)
    record = json.loads((builder.root / name).read_text())
    record["content"]["mood"] = record["mood"] = "serene"
    (builder.root / name).write_text(json.dumps(record))
    corpus = Corpus.open(str(builder.root))
    assert corpus.manifest.format == "emu-corpus/1.7"
    assert corpus.totals().counts.samples == 3
    assert list(validate(corpus)) == []


@pytest.mark.parametrize("name", ["", "../cats", "a b", "-cats", "c" * 101])
def test_a_name_is_a_word(name: str) -> None:
    with pytest.raises(UserError, match="use letters, digits and"):
        Manifest(name=name, recipe={})


_BEGIN = """
import os, sys
from schemas.corpus import Corpus, Manifest
os.setuid(65534) if os.getuid() == 0 else None
Corpus.create(sys.argv[1], Manifest(name="cats", recipe={}))
"""


def test_a_folder_one_may_not_write_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    tmp_path.parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN, str(tmp_path / "new")], capture_output=True, text=True, check=False
    )
    tmp_path.chmod(0o755)
    assert f"UserError: {tmp_path}/new: cannot begin a corpus here (Permission denied)" in done.stderr


@pytest.mark.parametrize("column", ["samples", "features/eva01-g-14.bf16", "packs/a.b.2048.9d8f8abf"])
def test_columns(column: str) -> None:
    assert check_column(column) == column


@pytest.mark.parametrize("column", ["", "Samples", "features/", "features/../x", "a/b/c", "/samples"])
def test_what_is_no_column(column: str) -> None:
    with pytest.raises(UserError, match="expected a kind such as `samples`, or kind/name"):
        check_column(column)


# Records


def test_the_first_record_of_a_unit_counts(builder: Builder) -> None:
    first = builder.commit(0)
    second = replace(first, run=replace(first.run, attempt=2))
    assert builder.corpus.create_record(second) == first
    assert builder.corpus.record(SAMPLES, 0) == first
    assert builder.corpus.record(SAMPLES, 1) is None
    assert builder.corpus.committed() == {0}
    assert builder.corpus.columns() == [SAMPLES]


def test_totals_add_up(builder: Builder) -> None:
    records = [builder.commit(unit) for unit in range(3)]
    totals = builder.corpus.totals()
    assert totals.counts == sum((record.content.counts for record in records), Counts())
    assert (totals.units, totals.parts, totals.max_members) == (3, 3, 1)
    assert totals.reasons == {"row": {"http.404": 3}, "image": {"http.404": 3}}
    assert totals.data_bytes == sum(part.data.bytes for record in records for part in record.content.parts)
    assert json.loads(json.dumps(totals.to_dict())) == totals.to_dict()
    assert Totals().to_dict()["units"] == 0


class Listed(LocalStorage):
    """Remembers which folders were listed."""

    def list(self, folder: str) -> Any:
        self.listed.append(folder)
        return super().list(folder)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.listed: list[str] = []


def test_full_folders_of_records_become_segments(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "RECORDS_PER_FOLDER", 2)
    builder.plan_more(*(Unit(n, "m.parquet", "f", 0, 4) for n in range(3, 7)))
    for unit in (0, 1, 2, 4, 5):
        builder.commit(unit)
    corpus = builder.corpus
    before = (list(corpus.records()), corpus.committed(), corpus.totals(), builder.files())

    made = corpus.compact_records()
    assert made == ["records/samples/segment-0000.parquet", "records/samples/segment-0002.parquet"]
    assert corpus.compact_records() == []
    after = (list(corpus.records()), corpus.committed(), corpus.totals())
    assert after == before[:3]
    assert builder.files() == before[3] | {name: (builder.root / name).read_bytes() for name in made}
    assert list(validate(corpus)) == []

    storage = Listed(builder.root)
    assert Corpus(storage, corpus.manifest).committed() == {0, 1, 2, 4, 5}
    assert storage.listed == ["records/samples", "records/samples/0001"]

    builder.commit(3)
    assert corpus.committed() == {0, 1, 2, 3, 4, 5}
    assert corpus.compact_records() == ["records/samples/segment-0001.parquet"]
    assert corpus.create_record(before[0][0]) == before[0][0]


def test_a_folder_with_a_stranger_in_it_is_not_full(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "RECORDS_PER_FOLDER", 2)
    builder.commit(0)
    (builder.root / "records/samples/0000/note.json").write_text("{}")
    assert builder.corpus.compact_records() == []


def test_two_launchers_may_compact_at_once(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "RECORDS_PER_FOLDER", 2)
    for unit in (0, 1):
        builder.commit(unit)
    real = LocalStorage.create

    def late(self: LocalStorage, name: str, data: bytes) -> None:
        real(self, name, data)  # the other launcher
        real(self, name, data)

    monkeypatch.setattr(LocalStorage, "create", late)
    assert builder.corpus.compact_records() == []
    assert builder.corpus.committed() == {0, 1}


def test_a_damaged_record_is_named(builder: Builder) -> None:
    builder.commit(0)
    name = record_name(SAMPLES, 0)
    path = builder.root / name
    path.write_bytes(path.read_bytes().replace(b'"samples":3', b'"samples":"x"'))
    with pytest.raises(CorpusError, match=rf"{name}: content\.counts\.samples: .*restore the record"):
        builder.corpus.record(SAMPLES, 0)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CorpusError, match=f"{name}: the whole: Invalid JSON"):
        list(builder.corpus.records())


def test_a_record_comes_back_as_it_was(builder: Builder) -> None:
    record = builder.commit(0)
    assert Record.from_json(record.to_json(), name="x") == record
    assert record_name(SAMPLES, 420_017) == "records/samples/0042/00420017.json"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None], "int"),
        ([1, 2.5], "float"),
        ([None], "null"),
        ([True, 1], "mixed"),
        ([["a"], []], "list<string>"),
        ([[1], [0.5], None], "list<float>"),
        ([{"a": 1}], "mixed"),
        (["a", 1, "b"], "mixed"),
    ],
)
def test_types_of_attributes_widen_in_any_order(values: list[Any], kind: str) -> None:
    for order in (values, values[::-1]):
        types: dict[str, str] = {}
        for value in order:
            types = merge_types(types, {"column": json_type(value)})
        assert types == {"column": kind}


def test_an_entry_knows_its_size(builder: Builder) -> None:
    (entry,) = [entry for entry in builder.corpus.storage.list("") if entry.name == MANIFEST]
    assert entry == Entry(MANIFEST, (builder.root / MANIFEST).stat().st_size, entry.modified_unix_seconds)
