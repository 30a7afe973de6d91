"""Others read a corpus without our code: `webdataset`, `datasets` through the card, DuckDB, `safetensors`, and plain `tar`."""

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import safetensors
from PIL import Image as Pillow

from schemas.card import write_card
from schemas.corpus import Corpus, Manifest
from schemas.reasons import Reason
from schemas.record import RunInfo
from schemas.rejects import Level, Reject
from schemas.sample import Caption, Image, ImageSegment, Match, Origin, Sample, TextSegment, make_key
from schemas.shard_reader import CorpusReader, StoredSample
from schemas.shard_writer import ShardWriter

GOLDEN = Path(__file__).parents[1] / "golden" / "corpus"
ROWS = 9


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the golden corpus with its card."""
    folder = shutil.copytree(GOLDEN, tmp_path_factory.mktemp("golden") / "corpus")
    write_card(Corpus.open(str(folder)))
    return folder


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two units of samples with 0 to 3 members, fields that come and go, and attributes that are null at first or change type."""
    folder = tmp_path_factory.mktemp("ragged") / "corpus"
    corpus = Corpus.create(str(folder), Manifest(name="ragged", recipe={"source": "test"}))
    for unit in range(2):
        with ShardWriter(corpus, column="samples", unit=unit, recipe_hash=corpus.manifest.recipe_hash) as writer:
            images = 0
            for row in range(ROWS):
                sample, media = ragged_sample(unit, row)
                images += len(sample.images)
                writer.write(sample, media, row=row)
            reject = Reject(make_key(unit, ROWS), ROWS, Level.ROW, Reason.HTTP_404, url="https://example.org/é")
            writer.commit([reject], rows=ROWS + 1, images_asked=images, run=RunInfo(0.0, 0.0, "test"))
    write_card(corpus)
    return folder


def ragged_sample(unit: int, row: int) -> tuple[Sample, list[bytes]]:
    count = row % 4
    names = [f"{number}.jpg" for number in range(count)]
    attributes: dict[str, Any] = {
        "late": None if row < 7 else 0.5,
        "never": None,
        "changing": row if row % 2 else str(row),
        "flag": row > 3,
        "widening": 1 if row < 5 else 1.5,
        "lists": [] if row < 2 else [[1], [2, row]],
        "we|ird: [name]\n---": "x",
    }
    sample = Sample(
        key=make_key(unit, row),
        source=Origin("ragged", "rows.parquet", row, id=f"é{row}" if row % 2 else None),
        segments=(
            *(ImageSegment(n) for n in range(count)),
            TextSegment(f"Text {row} – ünïcode", time=1.5 if row == 8 else None),
        ),
        images=tuple(
            Image(n, 24, 16, match=Match(0, 0.5) if row == 6 else None, url="https://example.org/a") for n in names
        ),
        captions=(Caption("one", 0.25), Caption("two")) if row == 5 else (),
        attributes=attributes if row != 4 else {},
        licence="CC-BY-4.0" if row == 3 else None,
    )
    return sample, [jpeg(unit * 100 + row * 10 + number) for number in range(count)]


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 3, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))


def stored(folder: Path, column: str = "samples") -> dict[str, StoredSample]:
    return {found.sample.key: found for found in CorpusReader(Corpus.open(str(folder)), column=column)}


# Hugging Face `datasets`


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The `datasets` package, told before its import that there is no network."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "HF_HUB_OFFLINE",
            "HF_DATASETS_OFFLINE",
            "HF_HUB_DISABLE_TELEMETRY",
            "HF_DATASETS_DISABLE_PROGRESS_BARS",
        ):
            patch.setenv(name, "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        import datasets

        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):  # another test may have imported it before
            patch.setattr(datasets.config, name, True, raising=False)
        yield datasets


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("which", ["golden", "ragged"])
def test_datasets_loads_every_sample_through_the_card(
    which: str, streaming: bool, hub: ModuleType, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(which)
    loaded = hub.load_dataset(str(folder), split="train", streaming=streaming, cache_dir=str(tmp_path))
    ours = stored(folder)
    seen = []
    for row in loaded:
        expected = ours[row["__key__"]]
        seen.append(row["__key__"])
        assert_same_document(row["json"], expected.sample)
        pictures = {name: value for name, value in row.items() if name not in ("json", "__key__", "__url__")}
        assert {name for name, value in pictures.items() if value is not None} == set(expected.media)
        for name, data in expected.media.items():
            assert np.array_equal(np.asarray(pictures[name].convert("RGB")), pixels_of(data))
    assert seen == list(ours)


def assert_same_document(found: dict[str, Any], sample: Sample) -> None:
    """Equal but for absent fields, which Arrow holds as nulls, and the attribute that has no one type."""
    expected = json.loads(sample.to_json())
    expected.get("attributes", {}).pop("changing", None)
    assert without_absent(found) == without_absent(expected)


def without_absent(value: Any) -> Any:
    if isinstance(value, dict):
        plain = {name: without_absent(item) for name, item in value.items()}
        return {name: item for name, item in plain.items() if item not in (None, [], {})}
    return [without_absent(item) for item in value] if isinstance(value, list) else value


def test_datasets_gets_the_types_that_the_card_declares(ragged: Path, hub: ModuleType, tmp_path: Path) -> None:
    features = hub.load_dataset(str(ragged), split="train", cache_dir=str(tmp_path)).features
    attributes = features["json"]["attributes"]
    types = {name: getattr(kind, "dtype", None) for name, kind in attributes.items()}
    assert types["late"] == types["widening"] == "float64"
    assert (types["never"], types["flag"]) == ("string", "bool")
    assert "changing" not in types
    assert "we|ird: [name]\n---" in types
    assert attributes["lists"] == hub.List(hub.List(hub.Value("int64")))
    assert [name for name in features if isinstance(features[name], hub.Image)] == ["0.jpg", "1.jpg", "2.jpg"]
    assert "changing" in (ragged / "README.md").read_text()


# webdataset


def test_webdataset_reads_samples(golden: Path, ragged: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    for folder in (golden, ragged):
        shards = sorted(str(path) for path in (folder / "samples").glob("*.tar"))
        ours = stored(folder)
        seen = []
        for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil"):
            expected = ours[sample["__key__"]]
            seen.append(sample["__key__"])
            assert Sample.from_json(json.dumps(sample["json"])) == expected.sample
            assert {name for name in sample if not name.startswith("__")} == {"json", *expected.media}
            for name, data in expected.media.items():
                assert np.array_equal(np.asarray(sample[name].convert("RGB")), pixels_of(data))
        assert seen == list(ours)


def test_webdataset_reads_features_by_the_safetensors_library(golden: Path) -> None:
    """torch is no part of this test: `safetensors.torch.load`, the handler for bf16, reads the same parts by the same header."""
    webdataset = pytest.importorskip("webdataset")
    shards = sorted(str(path) for path in (golden / "features/tiny.bf16").glob("*.tar"))
    images = 0
    read = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False)
    for sample in read.decode(webdataset.handle_extension("safetensors", safetensors.deserialize)):
        members = [name for name in sample if name.endswith(".safetensors")]
        for name in members:
            tensors = dict(sample[name])
            assert list(tensors) == ["tokens"]
            assert tensors["tokens"]["dtype"] == "BF16"
            assert tensors["tokens"]["shape"][1:] == [3, 4]
            first = np.frombuffer(tensors["tokens"]["data"][:24], "<u2").astype(np.uint32) << 16
            assert np.array_equal(first.view(np.float32) * 8 % 97 - first.view(np.float32)[0] * 8, np.arange(12))
            images += tensors["tokens"]["shape"][0]
        assert json.loads(json.dumps(sample["json"]))["key"] == sample["__key__"]
    assert images == 84


def test_safetensors_torch_reads_a_member(golden: Path) -> None:
    load = pytest.importorskip("safetensors.torch", reason="torch is not installed").load
    media = stored(golden, "features/tiny.bf16")["00000004-000000"].media
    assert [tuple(load(data)["tokens"].shape) for data in media.values()] == [(64, 3, 4), (6, 3, 4)]


# DuckDB


def test_duckdb_answers_questions_over_the_parquet_files(golden: Path) -> None:
    with duckdb.connect() as database:

        def ask(question: str) -> list[tuple[Any, ...]]:
            return database.execute(question.replace("CORPUS", str(golden))).fetchall()

        assert ask(
            "SELECT level, reason, count(*) FROM 'CORPUS/rejects/samples/*.parquet' GROUP BY ALL ORDER BY ALL"
        ) == [
            ("image", "filter.similarity", 1),
            ("row", "http.404", 1),
            ("row", "http.503", 1),
            ("row", "text.too_short", 1),
            ("row", "url.invalid", 1),
        ]
        assert ask("SELECT count(*), sum(rows), max(ordinal) FROM 'CORPUS/plan/??????.parquet'") == [(9, 14, 8)]
        assert ask(
            'SELECT "column", count(*), sum(samples), sum(images), count(index_name) FROM "CORPUS/shards.parquet" '
            "GROUP BY ALL ORDER BY ALL LIMIT 2"
        ) == [("features/tiny.bf16", 8, 10, 84, 8), ("features/tiny.int8", 1, 1, 70, 1)]
        still_rejected = (
            "SELECT r.key FROM 'CORPUS/rejects/samples/*.parquet' r WHERE level = 'row' AND r.key NOT IN "
            "(SELECT unnest(keys) FROM 'CORPUS/plan/??????.parquet' WHERE keys IS NOT NULL) ORDER BY 1"
        )
        assert ask(still_rejected) == [("00000000-000001",), ("00000006-000001",), ("00000007-000000",)]
        assert ask("SELECT count(*), min(key) FROM 'CORPUS/views/pictures.parquet'") == [(8, "00000000-000000")]


def test_duckdb_reads_an_index_through_pyarrow(golden: Path) -> None:
    index = pa.ipc.open_file(next((golden / "samples").glob("00000004-00-*.arrow"))).read_all()
    with duckdb.connect() as database:
        database.register("found", index)
        answer = database.execute(
            "SELECT key, len(members), len(images), (SELECT count(DISTINCT i.xxh3) FROM unnest(images) AS t(i)) FROM found"
        ).fetchall()
    assert answer == [("00000004-000000", 2, 70, 2)]


def test_shards_parquet_lists_what_lies_there(golden: Path) -> None:
    import hashlib

    import pyarrow.parquet as pq

    rows = pq.read_table(golden / "shards.parquet").to_pylist()
    assert len(rows) == 9 + 8 + 1 + 8 + 8
    for row in rows:
        data = (golden / row["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (row["bytes"], row["sha256"])
        assert row["index_name"] is None or (golden / row["index_name"]).stat().st_size == row["index_bytes"]


# tar


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar command here")
def test_plain_tar_lists_and_extracts_every_member(golden: Path, tmp_path: Path) -> None:
    listed: list[str] = []
    for shard in sorted((golden / "samples").glob("*.tar")):
        listed += subprocess.run(["tar", "tf", shard], check=True, capture_output=True, text=True).stdout.splitlines()
        found = subprocess.run(["tar", "xf", shard, "-C", tmp_path], check=True, capture_output=True, text=True)
        assert found.stderr == ""
    expected: dict[str, bytes] = {}
    for key, sample in stored(golden).items():
        expected[f"{key}.json"] = sample.sample.to_json()
        expected |= {f"{key}.{name}": data for name, data in sample.media.items()}
    assert listed == list(expected)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected
