"""Runs as a whole: what stops them before any work, and what they say when they end."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.fetch.policy import FetchSettings
from pipelines.run import Status, run
from pipelines.runners.local import LocalRunner
from pipelines.steps.filters import MaxUnsafe, MinSimilarity
from pipelines.steps.images import Fetch
from schemas.corpus import Corpus, RecipeChangedError
from schemas.errors import UserError
from schemas.shard_writer import ShardWriter
from tests.servers.pictures import PictureServer, write_laion
from tests.small_runs import build, contents, small_pipeline, small_settings


@pytest.fixture(scope="module")
def web():
    with PictureServer() as server:
        yield server


def test_a_changed_recipe_stops_with_the_settings_that_differ(web: PictureServer, tmp_path: Path) -> None:
    metadata = write_laion(tmp_path / "m.parquet", web.urls(5))
    build(small_pipeline(metadata), tmp_path / "corpus", small_settings(web))
    before = contents(tmp_path / "corpus")
    pipeline = small_pipeline(metadata)
    changed = replace(pipeline, steps=(MinSimilarity(cosine=0.4), *pipeline.steps[1:]))

    with pytest.raises(RecipeChangedError, match=r"min_similarity\.cosine: 0\.31 when it was begun, 0\.4 now"):
        build(changed, tmp_path / "corpus", small_settings(web))

    assert contents(tmp_path / "corpus") == before


def test_a_changed_source_stops_and_a_grown_list_of_sources_does_not(web: PictureServer, tmp_path: Path) -> None:
    one = write_laion(tmp_path / "one.parquet", web.urls(25))
    build(small_pipeline(one), tmp_path / "corpus", small_settings(web))
    before = contents(tmp_path / "corpus")
    two = write_laion(tmp_path / "two.parquet", web.urls(8))

    result = build(small_pipeline(one, two), tmp_path / "corpus", small_settings(web))

    assert (result.units_planned, result.totals.counts.rows, result.pending) == (3, 33, 0)
    after = contents(tmp_path / "corpus")
    derived = {"README.md", "shards.parquet"}
    assert {name: after[name] for name in before.keys() - derived} == {n: before[n] for n in before.keys() - derived}
    write_laion(one, web.urls(24))
    with pytest.raises(UserError, match=r"one\.parquet has changed since it was planned"):
        build(small_pipeline(one, two), tmp_path / "corpus", small_settings(web))


def test_nothing_is_begun_without_a_contact(web: PictureServer, tmp_path: Path) -> None:
    metadata = write_laion(tmp_path / "m.parquet", web.urls(1))
    pipeline = small_pipeline(metadata)
    pipeline = replace(pipeline, steps=tuple(Fetch() if isinstance(s, Fetch) else s for s in pipeline.steps))
    settings = replace(small_settings(web), fetch=FetchSettings(contact=""))

    with pytest.raises(UserError, match="--contact"):
        build(pipeline, tmp_path / "corpus", settings)

    assert not (tmp_path / "corpus").exists()


def test_a_score_that_a_step_needs_is_missed_before_any_work(web: PictureServer, tmp_path: Path) -> None:
    metadata = write_laion(tmp_path / "m.parquet", web.urls(1))
    pipeline = small_pipeline(metadata)
    pipeline = replace(pipeline, steps=(MaxUnsafe(probability=0.5), *pipeline.steps))

    with pytest.raises(UserError, match="step `max_unsafe` reads the column 'punsafe'"):
        build(pipeline, tmp_path / "corpus", small_settings(web))

    assert not (tmp_path / "corpus").exists()


def test_a_corpus_inside_its_input_is_refused(web: PictureServer, tmp_path: Path) -> None:
    write_laion(tmp_path / "m.parquet", web.urls(1))

    with pytest.raises(UserError, match="overlap"):
        build(small_pipeline(tmp_path), tmp_path / "corpus", small_settings(web))


def test_a_damaged_file_fails_its_units_names_them_and_leaves_the_rest(web: PictureServer, tmp_path: Path) -> None:
    good = write_laion(tmp_path / "a.parquet", web.urls(5))
    bad = write_laion(tmp_path / "b.parquet", web.urls(5))
    data = bytearray(bad.read_bytes())
    data[4:200] = bytes(196)
    bad.write_bytes(data)

    result = build(small_pipeline(good, bad), tmp_path / "corpus", small_settings(web, workers=1))

    assert (result.pending, result.totals.units) == (1, 1)
    (failure,) = result.failures
    assert failure.unit.source == str(bad)
    assert "the file is damaged" in failure.cause


def test_a_file_without_rows_makes_an_empty_corpus(web: PictureServer, tmp_path: Path) -> None:
    metadata = write_laion(tmp_path / "m.parquet", [])

    result = build(small_pipeline(metadata), tmp_path / "corpus", small_settings(web))

    assert (result.units_planned, result.pending, result.totals.counts.rows) == (0, 0, 0)
    assert "README.md" in contents(tmp_path / "corpus")


def test_a_unit_that_is_rejected_whole_has_a_record_and_no_tar(web: PictureServer, tmp_path: Path) -> None:
    metadata = write_laion(tmp_path / "m.parquet", [f"http://h.example/missing/{i}" for i in range(3)])

    build(small_pipeline(metadata), tmp_path / "corpus", small_settings(web))

    record = Corpus.open(str(tmp_path / "corpus")).record("samples", 0)
    assert record is not None
    assert (record.content.parts, record.content.counts.rejected_rows) == ((), 3)


def test_status_counts_rows_of_units_in_hand(web: PictureServer, tmp_path: Path) -> None:
    metadata = write_laion(tmp_path / "m.parquet", [f"http://h{i}.example/slow/{100 + 30 * i}/{i}" for i in range(20)])
    seen: list[Status] = []

    run(
        small_pipeline(metadata),
        str(tmp_path / "corpus"),
        runner=LocalRunner(),
        settings=small_settings(web),
        observe=seen.append,
    )

    rows = [status.rows_closed for status in seen]
    assert rows == sorted(rows)
    assert any(0 < count < 20 for count in rows)


def test_unwritable_folders_are_named(web: PictureServer, tmp_path: Path) -> None:
    metadata = write_laion(tmp_path / "m.parquet", web.urls(1))
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(UserError, match=r"file/corpus: cannot begin a corpus here"):
        build(small_pipeline(metadata), tmp_path / "file" / "corpus", small_settings(web))


def test_a_disk_that_fills_up_stops_the_run_at_once_and_keeps_what_is_committed(
    web: PictureServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = write_laion(tmp_path / "m.parquet", web.urls(60))
    write, written = ShardWriter.write, []

    def write_while_there_is_space(self: ShardWriter, *args: Any, **options: Any) -> None:
        written.append(1)
        if len(written) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, *args, **options)

    monkeypatch.setattr(ShardWriter, "write", write_while_there_is_space)
    halted = build(small_pipeline(metadata), tmp_path / "corpus", small_settings(web))
    assert [failure.cause for failure in halted.failures] == [
        "the corpus cannot be written: [Errno 28] No space left on device; committed units are safe, run again"
    ]
    assert halted.pending == 3 - len(Corpus.open(str(tmp_path / "corpus")).committed()) > 0
    monkeypatch.undo()

    assert build(small_pipeline(metadata), tmp_path / "corpus", small_settings(web)).pending == 0
    build(small_pipeline(metadata), tmp_path / "undisturbed", small_settings(web))
    assert contents(tmp_path / "corpus") == contents(tmp_path / "undisturbed")
