"""Real LAION metadata with its real URLs, most of them https, built offline: every host leads to a local web."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from pipelines.run import RunResult, run
from pipelines.runners.local import LocalRunner
from pipelines.sources.tables import PairColumns, Table
from pipelines.steps.images import Fetch
from schemas.validate import validate
from tests.servers.pictures import PictureServer, any_host, by_hash
from tests.small_runs import small_pipeline, small_settings

EXPECTED = {"http.404", "decode.unsupported", "filter.side", "text.too_short", "url.invalid"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def plain() -> Iterator[PictureServer]:
    with PictureServer(answer=by_hash) as server:
        yield server


@pytest.fixture(scope="module")
def secure(authority: trustme.CA) -> Iterator[PictureServer]:
    with PictureServer(answer=by_hash, tls=any_host(authority)) as server:
        yield server


@pytest.mark.parametrize(
    ("name", "columns", "rows", "least_samples"),
    [
        ("img2dataset_test_1000", PairColumns(), 1000, 600),
        ("img2dataset_sample_image", PairColumns(url="url", text="txt"), 2, 0),
        ("img2dataset_test_bbox", PairColumns(url="url", text="txt"), 1, 0),
    ],
)
def test_every_row_of_a_real_file_ends_as_a_sample_or_with_a_reason(
    shared_fixtures: Path,
    tmp_path: Path,
    authority: trustme.CA,
    plain: PictureServer,
    secure: PictureServer,
    name: str,
    columns: PairColumns,
    rows: int,
    least_samples: int,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    source = Table((str(shared_fixtures / "laion" / f"{name}.parquet"),), columns=columns, rows_per_unit=250)
    # The file has no scores, so the similarity cut-off is left out; robots stay on, as a user has them.
    steps = tuple(Fetch() if isinstance(step, Fetch) else step for step in small_pipeline().steps[1:])
    pipeline = replace(small_pipeline(), source=source, steps=steps)
    settings = small_settings(plain)
    fetch = replace(
        settings.fetch,
        connect_to=(f":80:127.0.0.1:{plain.port}", f":443:127.0.0.1:{secure.port}"),
        ca_file=str(tmp_path / "ca.pem"),
    )

    result: RunResult = run(
        pipeline, str(tmp_path / "corpus"), runner=LocalRunner(), settings=replace(settings, fetch=fetch)
    )

    counts = result.totals.counts
    assert (result.pending, counts.rows, counts.samples + counts.rejected_rows) == (0, rows, rows)
    assert counts.images_asked == counts.images + counts.rejected_images
    assert set(result.totals.reasons.get("row", {})) <= EXPECTED
    assert counts.samples >= least_samples
    assert secure.requests
    assert list(validate(result.corpus)) == []
