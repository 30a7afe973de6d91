"""From every kind of input to a committed corpus: as many rows as the file has, malformed ones in the ledger, and valid."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.sources.tables import PairColumns, Table
from schemas.validate import validate
from tests.servers.pictures import PictureServer
from tests.small_runs import build, small_pipeline, small_settings


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.txt", "a.txt.gz"])
def test_a_corpus_of_text_files_accounts_for_every_row(tmp_path: Path, name: str) -> None:
    with PictureServer() as web:
        urls = web.urls(30)
        if ".csv" in name:
            data = "url,text\n" + "".join(f'{url},"a caption, {i}"\n' for i, url in enumerate(urls)) + 'x,"odd\n'
        elif ".jsonl" in name:
            data = "".join(f'{{"url": "{url}", "text": "a caption, {i}"}}\n' for i, url in enumerate(urls)) + "{\n"
        else:
            data = "\n".join(urls)
        path = tmp_path / "in" / name
        path.parent.mkdir()
        path.write_bytes(gzip.compress(data.encode()) if name.endswith(".gz") else data.encode())
        columns = PairColumns(url="url", text=None if ".txt" in name else "text")
        source = Table((str(path),), columns=columns, rows_per_unit=20)
        pipeline = replace(small_pipeline(), source=source, steps=small_pipeline().steps[1:])

        result = build(pipeline, tmp_path / "corpus", small_settings(web))

    counts = result.totals.counts
    malformed = 0 if ".txt" in name else 1
    assert (result.pending, result.units_planned, counts.rows) == (0, 1 if name.endswith(".gz") else 2, 30 + malformed)
    assert counts.samples > 0
    assert result.totals.reasons["row"].get("source.malformed", 0) == malformed
    assert list(validate(result.corpus)) == []
