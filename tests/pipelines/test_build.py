"""One unit from rows to record: every row and image accounted for, whatever rows, responses and steps do."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.build import Progress, Stopped, Tools, build_unit
from pipelines.fetch.client import Web
from pipelines.media.decoder import Decoder
from pipelines.pipeline import Draft, Pipeline, PureStep, Step, Work
from pipelines.plan import extend_plan
from pipelines.worker import Job
from schemas.corpus import Corpus, Manifest
from schemas.reasons import Reason, Refusal
from schemas.record import Record
from schemas.shard_reader import CorpusReader
from schemas.shard_writer import ShardWriter
from schemas.validate import validate
from tests.servers.pictures import PictureServer, write_laion
from tests.small_runs import small_pipeline, small_settings


@pytest.fixture(scope="module")
def web() -> Iterator[PictureServer]:
    with PictureServer() as server:
        yield server


@pytest.fixture(scope="module")
def tools(web: PictureServer) -> Iterator[Tools]:
    job = Job(small_pipeline(), "", small_settings(web), "test")
    with Web(job.fetch_settings, job.fetch_policy) as client, Decoder(threads=1) as decoder:
        yield Tools(client, decoder, rows_in_flight=8)


def build_all(pipeline: Pipeline, folder: Path, tools: Tools) -> list[Record]:
    corpus = Corpus.create(str(folder), Manifest("t", pipeline.recipe()))
    return [build_unit(pipeline, u, corpus=corpus, tools=tools, engine="test") for u in extend_plan(corpus, pipeline)]


def with_step(pipeline: Pipeline, step: Step, *, at: int) -> Pipeline:
    return replace(pipeline, steps=(*pipeline.steps[:at], step, *pipeline.steps[at:]))


URLS = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "",
            "UNLIKELY",
            "ftp://a.example/x",
            "http://",
            "http://[::1]/x",
            "http://é.example/jpg/1",
            "http://127.0.0.1/",
        ]
    ),
    st.builds(
        "http://h{}.example/{}/{}".format,
        st.integers(0, 3),
        st.sampled_from(["jpg", "png", "gif", "tiny", "missing", "html"]),
        st.integers(0, 9),
    ),
)
ROWS = st.lists(
    st.tuples(URLS, st.one_of(st.none(), st.text(max_size=30)), st.one_of(st.none(), st.floats(0, 1))), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_whatever_the_rows_every_row_and_image_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, tools: Tools, rows: list[tuple[str | None, str | None, float | None]]
) -> None:
    folder = tmp_path_factory.mktemp("accounting")
    urls, texts, scores = ([row[column] for row in rows] for column in range(3))
    columns = [pa.array(urls, pa.string()), pa.array(texts, pa.string()), pa.array(scores, pa.float64())]
    pq.write_table(pa.table(columns, names=["URL", "TEXT", "similarity"]), folder / "m.parquet")

    records = build_all(small_pipeline(folder / "m.parquet", rows_per_unit=5), folder / "corpus", tools)

    corpus = Corpus.open(str(folder / "corpus"))
    assert sum(record.content.counts.rows for record in records) == len(rows)
    assert all(record.content.counts.imbalance() is None for record in records)
    assert all("internal" not in reasons for record in records for reasons in record.content.reasons.values())
    assert [problem.message for problem in validate(corpus)] == []


def test_samples_hold_what_the_rows_said(tmp_path: Path, tools: Tools) -> None:
    metadata = write_laion(
        tmp_path / "m.parquet", ["http://h.example/jpg/1", "http://h.example/missing/2", "http://h.example/gif/9"]
    )
    build_all(small_pipeline(metadata), tmp_path / "corpus", tools)

    last = list(CorpusReader(Corpus.open(str(tmp_path / "corpus"))))[-1]

    assert last.sample.key == "00000000-000002"
    assert last.sample.segments[1].text == "a photograph, number 2 of 3"  # type: ignore[union-attr]
    image = last.sample.images[0]
    assert (image.width, image.height, image.member) == (83, 64, "0.jpg")
    assert image.original is not None
    assert (image.original.format, image.original.width, image.original.height) == ("gif", 320, 248)
    assert last.sample.attributes == {"WIDTH": 400, "similarity": pytest.approx(0.32), "hash": str((1 << 61) + 2)}
    assert last.media["0.jpg"][:2] == b"\xff\xd8"


def test_rejects_name_key_url_reason_and_detail(tmp_path: Path, tools: Tools) -> None:
    metadata = write_laion(
        tmp_path / "m.parquet", ["http://h.example/missing/1", "http://h.example/html/2", "UNLIKELY"]
    )
    (record,) = build_all(
        replace(small_pipeline(metadata), steps=small_pipeline(metadata).steps[1:]), tmp_path / "corpus", tools
    )
    assert record.content.rejects is not None
    path = tmp_path / "corpus" / record.content.rejects.name

    rows = duckdb.sql(f"select key, level, image, url, reason from '{path}' order by key, level desc").fetchall()

    assert rows[:2] == [
        ("00000000-000000", "row", None, "http://h.example/missing/1", "http.404"),
        ("00000000-000000", "image", 0, "http://h.example/missing/1", "http.404"),
    ]
    assert [reason for _, level, _, _, reason in rows if level == "row"] == [
        "http.404",
        "decode.unsupported",
        "url.invalid",
    ]


@dataclass(frozen=True, slots=True)
class Fragile(PureStep):
    """Fails on one row, as a step with a bug would."""

    row: int

    def map(self, draft: Draft) -> Draft | Refusal:
        """Divide by what is zero for one row."""
        return replace(draft, attributes=draft.attributes | {"x": 1 / (draft.source.row - self.row)})


@pytest.mark.parametrize("at", [0, 5])
def test_a_bug_in_a_step_costs_one_row_and_is_named(tmp_path: Path, tools: Tools, at: int) -> None:
    metadata = write_laion(tmp_path / "m.parquet", [f"http://h.example/jpg/{i}" for i in range(1, 6)])
    pipeline = with_step(small_pipeline(metadata), Fragile(row=3), at=at)

    (record,) = build_all(pipeline, tmp_path / "corpus", tools)

    assert record.content.reasons["row"] == {"filter.similarity": 1, "internal": 1}
    assert record.content.rejects is not None
    details = pq.read_table(tmp_path / "corpus" / record.content.rejects.name).column("detail").to_pylist()
    assert "ZeroDivisionError:test_build.map" in details


@dataclass(frozen=True, slots=True)
class AddsImages(Step):
    """Asks for more images than the row named, and loses one of them."""

    async def apply(self, draft: Draft, work: Work) -> Draft | Refusal:
        """Two more, one refused."""
        extra = [replace(draft.images[0], ordinal=ordinal) for ordinal in (1, 2)]
        work.ask(2)
        work.refuse_image(extra[1], Refusal(Reason.DECODE_CORRUPT))
        return replace(draft, images=(*draft.images, extra[0]))


def test_images_that_steps_add_are_in_the_ledger(tmp_path: Path, tools: Tools) -> None:
    metadata = write_laion(tmp_path / "m.parquet", ["http://h.example/jpg/1", "http://h.example/jpg/2"])
    pipeline = small_pipeline(metadata)
    pipeline = with_step(pipeline, AddsImages(), at=len(pipeline.steps))

    (record,) = build_all(pipeline, tmp_path / "corpus", tools)

    counts = record.content.counts
    assert (counts.samples, counts.images_asked, counts.images, counts.rejected_images) == (1, 4, 2, 2)


def test_a_full_disk_fails_the_unit_and_publishes_nothing(
    tmp_path: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = write_laion(tmp_path / "m.parquet", [f"http://h.example/jpg/{i}" for i in range(1, 6)])

    def full(self: ShardWriter, *args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        build_all(small_pipeline(metadata), tmp_path / "corpus", tools)

    names = {path.name for path in (tmp_path / "corpus").rglob("*") if path.is_file()}
    assert names == {"corpus.json", "000000.parquet"}


def test_a_stopping_run_commits_nothing(tmp_path: Path, tools: Tools) -> None:
    metadata = write_laion(tmp_path / "m.parquet", ["http://h.example/slow/500/1"] * 4)
    pipeline = small_pipeline(metadata)
    corpus = Corpus.create(str(tmp_path / "corpus"), Manifest("t", {}))
    (unit,) = extend_plan(corpus, pipeline)
    stopping = replace(tools, stopping=type(tools.stopping)())
    stopping.stopping.set()

    with pytest.raises(Stopped):
        build_unit(pipeline, unit, corpus=corpus, tools=stopping, engine="test")

    assert corpus.committed() == set()


def test_progress_counts_rows_and_reasons_as_they_close(tmp_path: Path, tools: Tools) -> None:
    metadata = write_laion(tmp_path / "m.parquet", ["http://h.example/jpg/1", "http://h.example/missing/2"])
    pipeline = replace(small_pipeline(metadata), steps=small_pipeline(metadata).steps[1:])
    corpus = Corpus.create(str(tmp_path / "corpus"), Manifest("t", {}))
    progress = Progress()

    build_unit(pipeline, extend_plan(corpus, pipeline)[0], corpus=corpus, tools=tools, engine="t", progress=progress)

    assert (progress.opened, progress.closed, progress.samples, progress.reasons) == (2, 2, 1, {"http.404": 1})


def test_a_committed_unit_is_not_built_again(tmp_path: Path, tools: Tools, web: PictureServer) -> None:
    metadata = write_laion(tmp_path / "m.parquet", ["http://h.example/jpg/1"] * 2)
    first = build_all(small_pipeline(metadata), tmp_path / "corpus", tools)
    before = sum(web.requests.values())

    assert build_all(small_pipeline(metadata), tmp_path / "corpus", tools) == first
    assert sum(web.requests.values()) == before
