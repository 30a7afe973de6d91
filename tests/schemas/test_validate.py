"""Validation of a whole corpus: a sound one gives no problem; damage gives one that names file, unit and key."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from schemas import canonical
from schemas import corpus as corpus_module
from schemas.corpus import MANIFEST, SAMPLES, record_name
from schemas.errors import UserError
from schemas.plan import Unit, generation_name
from schemas.record import Record
from schemas.sample import make_key
from schemas.validate import validate
from schemas.views import write_view
from tests.damage import FEATURES, copy_as_column, flip, found, only, path_of, rewrite
from tests.small_corpora import ROWS, Builder


def test_nothing_is_wrong_with_an_empty_corpus(new_builder: Callable[[str], Builder]) -> None:
    assert list(validate(new_builder("empty").corpus)) == []


def test_the_golden_corpus_made_by_other_code_is_sound() -> None:
    golden = corpus_module.Corpus.open(str(Path(__file__).parents[1] / "golden" / "corpus"))
    assert list(validate(golden)) == []
    assert list(validate(golden, quick=True)) == []


# Records


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("samples", 2, "4 rows, but 2 samples + 1 rejected rows"),
        ("samples", 2, "2 samples, its parts say 3"),
        ("images", 4, "4 images asked for, but 4 kept + 1 rejected images"),
        ("images", 4, "images is 4, but the files hold 3"),
        ("text_chars", 1, "text_chars is 1, but the files hold 96"),
        ("rows", 5, "5 rows, the plan says 4"),
    ],
)
def test_counts_that_are_not_those_of_the_files(built: Builder, field: str, value: int, said: str) -> None:
    rewrite(built, 1, lambda content: replace(content, counts=replace(content.counts, **{field: value})))
    for quick in (False, True):
        problems = found(built, column=SAMPLES, quick=quick)
        assert said in [problem.message for problem in problems]
        assert {problem.file for problem in problems} == {record_name(SAMPLES, 1)}


@pytest.mark.parametrize(
    "change",
    [
        {"reasons": {"row": {"dns": 1}, "image": {"http.404": 1}}},
        {"max_members": 2},
        {"extensions": ("png",)},
        {"attributes": {}},
        {"recipe_hash": "0" * 64},
    ],
)
def test_what_else_a_record_says_is_counted_again(built: Builder, change: dict[str, Any]) -> None:
    rewrite(built, 1, lambda content: replace(content, **change))
    problem = only(found(built, column=SAMPLES))
    assert (problem.file, problem.unit) == (record_name(SAMPLES, 1), 1)
    assert next(iter(change)) in problem.message


def test_the_record_of_another_unit(built: Builder) -> None:
    shutil.copy(path_of(built, 2, "record"), path_of(built, 1, "record"))
    assert "it is the record of unit 2 of samples" in found(built, column=SAMPLES)[0].message


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_record_hides_no_other_damage(built: Builder, damage: bytes) -> None:
    path_of(built, 2, "tar").unlink()
    path_of(built, 1, "record").write_bytes(damage)
    record, tar = found(built, column=SAMPLES)
    assert record.file == record_name(SAMPLES, 1)
    assert tar.unit == 2


def test_a_record_that_names_files_elsewhere(built: Builder) -> None:
    outside = {"name": "../../outside.tar", "bytes": 1, "sha256": "0" * 64}
    plain = json.loads(path_of(built, 1, "record").read_bytes())
    plain["content"]["parts"][0] |= {"data": outside, "index": outside}
    path_of(built, 1, "record").write_bytes(canonical.dumps(plain))
    assert any("does not lie inside the corpus" in problem.message for problem in found(built, column=SAMPLES))


def test_a_unit_that_was_never_planned(built: Builder) -> None:
    built.commit(9)
    assert found(built, column=SAMPLES)[0].message == "its unit is not planned"


def test_files_among_the_records_that_are_none(built: Builder) -> None:
    name = "records/samples/0000/notes.json"
    (built.root / name).write_text("{}")
    problem = only(found(built, column=SAMPLES))
    assert (problem.severity, problem.file) == ("note", name)


# Manifest, plan, segments, views, orphans


def test_a_manifest_whose_recipe_was_changed(built: Builder) -> None:
    manifest = asdict(built.corpus.manifest) | {"recipe": {"steps": ["Other"]}}
    (built.root / MANIFEST).write_bytes(canonical.dumps(manifest))
    problem = only(found(built))
    assert problem.file == MANIFEST
    assert "but that of its recipe is" in problem.message


@pytest.mark.parametrize("damage", [None, b"", b"PAR1"])
def test_a_damaged_plan_is_one_problem(built: Builder, damage: bytes | None) -> None:
    path = built.root / generation_name(0)
    path.unlink() if damage is None else path.write_bytes(damage)
    problem = only(found(built))
    assert problem.file == generation_name(1 if damage is None else 0)


def test_a_plan_that_retries_keys_that_cannot_be(built: Builder) -> None:
    built.plan_more(Unit(4, "rejects", "f", 0, None, keys=("x", make_key(3, 0), make_key(0, 4), make_key(9, 0))))
    assert [(p.key, p.message.partition(": ")[2]) for p in found(built)] == [
        ("x", "'x' is not a key: expected eight digits, a hyphen and at least six digits"),
        (make_key(3, 0), "unit 3 retries keys of other units and has none of its own"),
        (make_key(0, 4), "unit 0 has 4 rows"),
        (make_key(9, 0), "unit 9 is not planned"),
    ]


def test_segments_are_copies_of_their_records(built: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "RECORDS_PER_FOLDER", 2)
    for unit in range(4):
        old = built.root / f"records/samples/0000/{unit:08d}.json"
        new = built.root / record_name(SAMPLES, unit)
        new.parent.mkdir(exist_ok=True)
        old.rename(new)
    first, second = built.corpus.compact_records()
    assert found(built, column=SAMPLES) == []
    path = built.root / record_name(SAMPLES, 1)
    record = Record.from_json(path.read_bytes(), name="x")
    path.write_bytes(replace(record, run=replace(record.run, attempt=7)).to_json())
    problem = only(found(built, column=SAMPLES))
    assert (problem.file, problem.unit) == (first, 1)
    (built.root / first).write_bytes((built.root / second).read_bytes())
    problems = found(built, column=SAMPLES)
    assert [(p.file, p.unit) for p in problems] == [(first, 2), (first, 3), (first, 0), (first, 1)]
    (built.root / first).write_bytes(b"no parquet")
    assert "not a readable segment" in only(found(built, column=SAMPLES)).message


def test_a_view_of_keys_that_cannot_be(built: Builder) -> None:
    name = write_view(built.corpus, "bad", [make_key(0, 4), make_key(3, 0), make_key(9, 9)], definition={})
    problems = found(built)
    assert {problem.file for problem in problems} == {name}
    assert [problem.key for problem in problems] == [make_key(0, 4), make_key(3, 0), make_key(9, 9)]


def test_a_view_out_of_order_or_damaged(built: Builder) -> None:
    path = built.root / "views/train.parquet"
    metadata = pq.read_schema(path).metadata
    keys = [make_key(1, 0), make_key(0, 0), make_key(0, 0), None]
    pq.write_table(pa.table({"key": keys}).replace_schema_metadata(metadata), path)
    assert [p.key for p in found(built)][:2] == [make_key(0, 0), make_key(0, 0)]
    path.write_bytes(b"PAR1PAR1")
    assert "not a readable view" in only(found(built)).message


def test_a_file_that_no_record_names(built: Builder) -> None:
    committed, pending = "samples/00000001-00-0123abcd.tar", "samples/00000007-00-0123abcd.tar"
    for name in (committed, pending):
        (built.root / name).write_bytes(b"x")
    one, two = found(built)
    assert (one.severity, one.file, one.unit) == ("orphan", committed, 1)
    assert one.todo == "`emu validate --fix` deletes it"
    assert (two.severity, two.file, two.unit) == ("orphan", pending, 7)
    assert "--abandoned-after" in two.todo


# Keys between units


def test_a_key_in_two_retries_or_in_its_own_unit_too(built: Builder) -> None:
    built.rejected = ()
    built.plan_more(Unit(4, "rejects", "f", 0, None, keys=(make_key(0, 2), make_key(2, 0))))
    built.commit(4, keys=[make_key(0, 2), make_key(2, 0)])
    one, two = found(built, column=SAMPLES)
    assert (one.key, one.unit) == (make_key(0, 2), 4)
    assert one.message == "units 3 and 4 both hold this key, which a corpus holds once"
    assert (two.key, two.message) == (
        make_key(2, 0),
        "units 2 and 4 both hold this key, which a corpus holds once",
    )


def test_a_retry_of_a_unit_that_has_no_record(built: Builder) -> None:
    path_of(built, 0, "record").unlink()
    problems = [problem for problem in found(built) if problem.severity == "error"]
    assert only(problems).message == "later units retry rows of this unit, but it has no record"


def test_a_column_that_is_not_aligned(built: Builder) -> None:
    def swapped(table: pa.Table) -> pa.Table:
        return table.take([1, 0, 2]).replace_schema_metadata(table.schema.metadata)

    record = copy_as_column(built, 2, swapped)
    problems = found(built, column=FEATURES)
    aligned = next(p for p in problems if "in samples it is" in p.message)
    assert (aligned.file, aligned.unit) == (record.content.parts[0].index.name, 2)
    assert aligned.key == make_key(2, 1)
    assert (
        aligned.message == "sample 0 of the unit is 00000002-000001 (row 1), in samples it is 00000002-000000 (row 0)"
    )


def test_a_column_without_its_samples(built: Builder) -> None:
    path_of(built, 1, "record").unlink()
    messages = [p.message for p in found(built, column=FEATURES)]
    assert messages == ["unit 1 has no record in samples to be aligned with"]


def test_columns_made_by_two_models(built: Builder) -> None:
    record = copy_as_column(built, 2)
    path = built.root / record_name(FEATURES, 2)
    changed = replace(record.content, fingerprint={"weights": "other"}, recipe_hash="0" * 64)
    path.write_bytes(replace(record, content=changed).to_json())
    recipe, fingerprint = found(built, column=FEATURES)
    assert "the unit was made by other settings" in recipe.message
    assert fingerprint.message == "fingerprint is {'weights': 'other'}, that of unit 1 is None"


def test_an_unknown_column_names_those_that_exist(built: Builder) -> None:
    with pytest.raises(UserError, match="has no column 'features/x'; it has samples, features/test"):
        validate(built.corpus, column="features/x")


# Scale


def test_many_problems_of_a_file_are_counted_not_listed(new_builder: Callable[[str], Builder]) -> None:
    builder = new_builder("many")
    builder.rejected = ()
    builder.plan_more(Unit(0, "m", "f", 0, 100))
    builder.commit(0, keys=[make_key(0, row) for row in range(100)])
    tar = path_of(builder, 0, "tar")
    tar.write_bytes(tar.read_bytes()[: 10 * 3072])
    problems = found(builder)
    assert problems[21].message == "71 more problems in this file are not listed"
    assert len(problems) == 23


def test_quick_reads_no_tar(built: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(path_of(built, 1, "tar"), b"picture of")
    monkeypatch.setattr(type(built.corpus.storage), "read_range", None)
    assert found(built, column=SAMPLES, quick=True) == []


def test_a_build_that_goes_on_meanwhile_is_no_damage(builder: Builder) -> None:
    """Plans, files and records appear while they are checked."""

    def build() -> None:
        for unit in range(3, 40):
            builder.plan_more(Unit(unit, "m.parquet", "f", 0, ROWS))
            builder.commit(unit)

    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(build)
        while not building.done():
            assert [str(p) for p in validate(builder.corpus) if p.severity == "error"] == []
        building.result()
    assert list(validate(builder.corpus)) == []


# Anything


def test_any_damage_to_any_file_is_found_and_thrown_by_none(built: Builder) -> None:
    """Bytes flipped, zeroed, cut off: a problem, and no exception. Nothing vouches for what a run was like, nor for what the
    parquet of the plan and of views holds: there, damage may pass for another value."""
    random = Random(7)
    files = [path for path in sorted(built.root.rglob("*")) if path.is_file() and path.parent != built.root]
    missed = set()
    for _ in range(300):
        path = random.choice(files)
        data = path.read_bytes()
        damaged = bytearray(data)
        at = random.randrange(len(data))
        match random.choice(["flip", "zero", "cut"]):
            case "flip":
                damaged[at] ^= 1 << random.randrange(8)
            case "zero":
                damaged[at : at + 16] = bytes(len(damaged[at : at + 16]))
            case "cut":
                del damaged[at:]
        path.write_bytes(damaged)
        if damaged != data and not found(built, quick=False):
            in_run = path.suffix == ".json" and at > data.index(b'"run":')
            missed.add("run" if in_run else path.relative_to(built.root).parts[0])
        found(built, quick=True)
        path.write_bytes(data)
    assert missed <= {"run", "plan", "views"}
