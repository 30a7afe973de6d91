"""The local runner: the same bytes whatever the workers, and no worker's death costs more than one image."""

import threading
from pathlib import Path

import pytest

from pipelines.run import run
from pipelines.runners.local import LocalRunner
from schemas.corpus import Corpus
from schemas.validate import validate
from tests.servers.pictures import PictureServer, write_laion
from tests.small_runs import build, contents, small_pipeline, small_settings


@pytest.fixture(scope="module")
def web():
    with PictureServer() as server:
        yield server


@pytest.fixture(scope="module")
def metadata(web: PictureServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_laion(tmp_path_factory.mktemp("metadata") / "part-0.parquet", web.urls(130))


@pytest.fixture(scope="module")
def undisturbed(web: PictureServer, metadata: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = tmp_path_factory.mktemp("undisturbed") / "corpus"
    build(small_pipeline(metadata), corpus, small_settings(web))
    return corpus


def test_every_row_and_image_is_accounted_for(undisturbed: Path) -> None:
    corpus = Corpus.open(str(undisturbed))
    counts = corpus.totals().counts

    assert counts.rows == 130
    assert counts.rows == counts.samples + counts.rejected_rows
    assert counts.images_asked == counts.images + counts.rejected_images
    assert 50 < counts.samples < 130
    assert set(corpus.totals().reasons["row"]) == {"filter.similarity", "http.404", "decode.unsupported", "filter.side"}
    assert list(validate(corpus)) == []


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same_bytes(
    web: PictureServer, metadata: Path, undisturbed: Path, tmp_path: Path, workers: int
) -> None:
    build(small_pipeline(metadata), tmp_path / "corpus", small_settings(web, workers=workers))

    assert contents(tmp_path / "corpus") == contents(undisturbed)


def test_random_completion_order_gives_the_same_bytes(web: PictureServer, tmp_path: Path) -> None:
    urls = [f"http://h{i}.example/slow/{(i * 7919) % 200}/{i}" for i in range(40)]
    metadata = write_laion(tmp_path / "m.parquet", urls)
    for name in ("one", "two"):
        settings = small_settings(web, workers=0 if name == "one" else 2, rows_in_flight=40 if name == "one" else 3)
        build(small_pipeline(metadata), tmp_path / name, settings)

    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_second_run_does_nothing(web: PictureServer, metadata: Path, tmp_path: Path) -> None:
    pipeline, settings = small_pipeline(metadata), small_settings(web)
    build(pipeline, tmp_path / "corpus", settings)
    before = sum(web.requests.values())

    result = build(pipeline, tmp_path / "corpus", settings)

    assert (result.built.units, result.pending) == (0, 0)
    assert sum(web.requests.values()) == before


def test_a_stopped_run_commits_nothing_more_and_goes_on_later(
    web: PictureServer, metadata: Path, undisturbed: Path, tmp_path: Path
) -> None:
    stop = threading.Event()
    pipeline, settings = small_pipeline(metadata), small_settings(web, workers=2, units_per_worker=1)

    result = run(
        pipeline,
        str(tmp_path / "corpus"),
        runner=LocalRunner(),
        settings=settings,
        observe=lambda status: stop.set() if status.units_committed else None,
        stop=stop,
    )
    assert result.stopped
    assert 0 < result.pending < 7

    assert build(pipeline, tmp_path / "corpus", settings).pending == 0
    assert contents(tmp_path / "corpus") == contents(undisturbed)
