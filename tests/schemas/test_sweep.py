"""`validate --fix`: takes what no record can ever name, and nothing that one may."""

import os
import time
from pathlib import Path

import pytest

from schemas import corpus as corpus_module
from schemas.claims import Claims
from schemas.corpus import SAMPLES
from schemas.errors import UserError
from schemas.storage import SCRATCH
from schemas.validate import sweep, validate
from tests.small_corpora import Builder

DAY = 86_400.0


def put(builder: Builder, name: str, *, age_seconds: float = 0.0) -> str:
    path = builder.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"orphan")
    stamp = time.time() - age_seconds
    os.utime(path, (stamp, stamp))
    return name


def test_nothing_is_swept_from_a_corpus_in_order(builder: Builder) -> None:
    builder.commit(0)
    before = builder.files()
    assert sweep(builder.corpus) == []
    assert builder.files() == before


def test_losers_of_committed_units_go_at_once(builder: Builder) -> None:
    builder.commit(0)
    before = builder.files()
    lost = [
        put(builder, "samples/00000000-00-0123abcd.arrow"),
        put(builder, "samples/00000000-00-0123abcd.tar"),
        put(builder, "samples/00000000-01-0123abcd.tar"),
        put(builder, "rejects/samples/00000000-0123abcd.parquet"),
    ]
    assert sweep(builder.corpus) == lost
    assert builder.files() == before


def test_units_without_a_record_keep_their_files_unless_abandoned(builder: Builder) -> None:
    builder.commit(0)
    young = put(builder, "samples/00000001-00-0123abcd.tar", age_seconds=50)
    old = put(builder, "features/eva.bf16/00000001-00-0123abcd.tar", age_seconds=9 * DAY)
    rejects = put(builder, "rejects/features/eva.bf16/00000001-0123abcd.parquet", age_seconds=9 * DAY)
    assert sweep(builder.corpus) == []
    assert sweep(builder.corpus, abandoned_after_seconds=3600) == [old, rejects]
    assert sweep(builder.corpus, abandoned_after_seconds=40) == [young]


def test_a_column_has_records_of_its_own(builder: Builder) -> None:
    builder.commit(0)
    put(builder, "features/eva.bf16/00000000-00-0123abcd.tar")
    assert sweep(builder.corpus) == []


def test_while_a_launcher_lives_uncommitted_units_are_left_to_it(builder: Builder) -> None:
    put(builder, "samples/00000001-00-0123abcd.tar", age_seconds=9 * DAY)
    claims = Claims(builder.corpus.storage, "node7")
    claims.renew(SAMPLES, [1])
    with pytest.raises(UserError, match=r"launcher node7 is at work.*stop it, wait 60 s, and try again"):
        sweep(builder.corpus, abandoned_after_seconds=3600)
    assert sweep(builder.corpus) == []
    claims.release()
    assert sweep(builder.corpus, abandoned_after_seconds=3600) == ["samples/00000001-00-0123abcd.tar"]


def test_names_that_the_format_does_not_give_are_never_taken(builder: Builder) -> None:
    builder.commit(0)
    kept = [
        "samples/00000000-00-0123abcd.tar.bak",
        "samples/notes.txt",
        "samples/00000000.tar",
        "rejects/samples/00000000-00-0123abcd.tar",
        "my files/00000000-00-0123abcd.tar",
        "Samples/00000000-00-0123abcd.tar",
        "views/00000000-00-0123abcd.tar",
        "00000000-00-0123abcd.tar",
    ]
    for name in kept:
        put(builder, name, age_seconds=9 * DAY)
    assert sweep(builder.corpus, abandoned_after_seconds=0) == []
    assert all((builder.root / name).exists() for name in kept)


def test_scratch_goes_when_all_of_it_is_old(builder: Builder) -> None:
    old = put(builder, f"{SCRATCH}/tmpdead/spool", age_seconds=2 * DAY)
    loose = put(builder, f"{SCRATCH}/0123abcd", age_seconds=2 * DAY)
    busy = [
        put(builder, f"{SCRATCH}/tmpbusy/00.tar", age_seconds=2 * DAY),
        put(builder, f"{SCRATCH}/tmpbusy/spool", age_seconds=60),
    ]
    assert sorted(sweep(builder.corpus)) == sorted([old, loose])
    assert not (builder.root / SCRATCH / "tmpdead").exists()
    assert sweep(builder.corpus, abandoned_after_seconds=30) == busy


def test_launchers_that_died_are_forgotten(builder: Builder) -> None:
    dead = put(builder, "run/launchers/dead.json", age_seconds=2 * DAY)
    recent = put(builder, "run/launchers/recent.json", age_seconds=3600)
    assert sweep(builder.corpus) == [dead]
    assert (builder.root / recent).exists()


def test_a_record_that_cannot_be_read_protects_its_unit(builder: Builder) -> None:
    builder.commit(0)
    put(builder, "samples/00000000-00-0123abcd.tar", age_seconds=9 * DAY)
    (builder.root / "records/samples/0000/00000000.json").write_bytes(b"{")
    before = builder.files()
    assert sweep(builder.corpus, abandoned_after_seconds=0) == []
    assert builder.files() == before


def test_a_record_that_was_lost_protects_its_unit_by_its_copy(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "RECORDS_PER_FOLDER", 1)
    record = builder.commit(0)
    builder.corpus.compact_records()
    (builder.root / "records/samples/0000/00000000.json").unlink()
    orphan = put(builder, "samples/00000000-00-0123abcd.tar")
    assert sweep(builder.corpus, abandoned_after_seconds=0) == [orphan]
    assert all((builder.root / file.name).exists() for file in record.content.files)
    (problem,) = validate(builder.corpus)
    assert problem.file == "records/samples/0000/00000000.json"
    assert "the record is missing; records/samples/segment-0000.parquet holds a copy" in problem.message


def test_a_file_that_cannot_be_deleted_is_named(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    builder.commit(0)
    name = put(builder, "samples/00000000-00-0123abcd.tar")

    def unlink(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    real = Path.unlink
    monkeypatch.setattr(
        Path, "unlink", lambda path, **given: (unlink if path.suffix == ".tar" else real)(path, **given)
    )
    with pytest.raises(UserError, match=rf"{name}: cannot be deleted \(Permission denied\); ask its owner"):
        sweep(builder.corpus)
