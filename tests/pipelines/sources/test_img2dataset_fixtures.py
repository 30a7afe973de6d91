"""Real shards that nobody here made: every tar, img2dataset's own triples, pictures inside a table, and a remote folder."""

import json
import os
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
import webdataset

from jobs.arguments import load_pipeline
from pipelines.run import RunResult
from pipelines.worker import RunSettings
from schemas.corpus import Corpus
from schemas.sample import TextSegment
from schemas.shard_reader import CorpusReader, StoredSample
from schemas.validate import validate
from tests.img2dataset_outputs import rows, tar, write
from tests.small_runs import build


def imported(corpus: Path, *inputs: str | Path) -> tuple[RunResult, list[StoredSample]]:
    pipeline = load_pipeline("import", inputs=[str(path) for path in inputs])
    result = build(pipeline, corpus, RunSettings(workers=0))
    assert result.pending == 0, result.failures
    opened = Corpus.open(str(corpus))
    assert list(validate(opened)) == []
    return result, list(CorpusReader(opened))


def test_every_real_tar_is_imported_as_webdataset_reads_it(shared_fixtures: Path, tmp_path: Path) -> None:
    tars = sorted((shared_fixtures / "laion").glob("*.tar"))
    assert len(tars) == 3
    result, found = imported(tmp_path / "corpus", *tars)
    expected = [s for path in tars for s in webdataset.WebDataset(str(path), shardshuffle=False)]
    assert result.totals.counts.rejected_rows == 0
    assert [(s.sample.source.id, next(iter(s.media.values()))) for s in found] == [
        (s["__key__"], s["jpg"]) for s in expected
    ]
    keys = [s.sample.source.id for s in found]
    assert len(keys) == 9
    assert len(set(keys)) < 9  # two tars share pictures and their keys


@pytest.mark.parametrize("ending", ["jpg", "mp4"])
def test_triples_of_img2dataset_whatever_the_pictures_are_called(
    shared_fixtures: Path, tmp_path: Path, ending: str
) -> None:
    stems = sorted((shared_fixtures / "laion").glob("video2dataset_laion_*.json"))
    assert len(stems) == 3
    documents = [json.loads(path.read_text()) for path in stems]
    pictures = [path.with_suffix(".jpg").read_bytes() for path in stems]
    texts = [path.with_suffix(".txt").read_bytes() for path in stems]
    files = []
    for path, facts, picture, text in zip(stems, documents, pictures, texts, strict=True):
        files += [(f"{facts['key']}.{ending}", picture), (f"{facts['key']}.json", path.read_bytes())]
        files += [(f"{facts['key']}.txt", text)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "return_all_test.tar").write_bytes(tar(files))
    _, found = imported(tmp_path / "corpus", tmp_path / "in")
    assert [s.media for s in found] == [{"0.jpg": picture} for picture in pictures]
    for stored, facts, text in zip(found, documents, texts, strict=True):
        image = stored.sample.images[0]
        assert stored.sample.source.id == facts["key"]
        assert (image.url, image.sha256_original) == (facts["url"], facts["sha256"])
        assert (image.width, image.height) == (facts["width"], facts["height"])
        assert stored.sample.segments[1] == TextSegment(text.decode())
        assert stored.sample.attributes["exif"] == facts["exif"]
        assert stored.sample.attributes["Id"] == facts["Id"]
        assert stored.sample.attributes["is_laion"] is facts["is_laion"]


def test_pictures_in_a_table(shared_fixtures: Path, tmp_path: Path) -> None:
    file = shared_fixtures / "laion" / "datajuicer_images_bytes.parquet"
    _, found = imported(tmp_path / "corpus", file)
    expected = pq.read_table(file).to_pylist()
    assert [list(s.media.values()) for s in found] == [row["image_bytes"] for row in expected]
    assert [s.sample.attributes["images"] for s in found] == [row["images"] for row in expected]
    texts = [[seg.text for seg in s.sample.segments if isinstance(seg, TextSegment)] for s in found]
    assert texts == [[row["text"]] for row in expected]


def test_a_remote_output_is_read_where_it_is(tmp_path: Path) -> None:
    for shard, layout in enumerate(("webdataset", "parquet", "files")):
        write(tmp_path / "out", layout, shard, rows(shard, 6))
    store = fsspec.filesystem("memory")
    folder = f"/import-{os.getpid()}"
    store.put(f"{tmp_path}/out/", f"{folder}/", recursive=True)
    try:
        _, here = imported(tmp_path / "here", tmp_path / "out")
        _, there = imported(tmp_path / "there", f"memory:/{folder}")
    finally:
        store.rm(folder, recursive=True)
    assert len(here) == 15
    assert [(s.sample.to_json(), s.media) for s in there] == [(s.sample.to_json(), s.media) for s in here]
