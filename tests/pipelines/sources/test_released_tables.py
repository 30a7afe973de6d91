"""Bundled recipes read the columns of the releases they are named after, and every real table at hand is read whole."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.pipeline import Draft, Pipeline
from pipelines.recipe import load_recipe
from pipelines.sources.tables import Kind, PairColumns, Table
from schemas.reasons import Refusal

_RECIPES = Path(__file__).parents[3] / "jobs" / "recipes"

DATACOMP = {
    "uid": ["00000f4bf1b5a0ea7fa1e5a9a1c1c4f4"],
    "url": ["http://a.example/1.jpg"],
    "text": ["A small house by the sea"],
    "original_width": pa.array([640], pa.int32()),
    "original_height": pa.array([480], pa.int32()),
    "clip_b32_similarity_score": pa.array([0.3125], pa.float32()),
    "clip_l14_similarity_score": pa.array([0.25], pa.float32()),
    "face_bboxes": pa.array([[[0.25, 0.5, 0.75, 1.0]]], pa.list_(pa.list_(pa.float64()))),
    "sha256": ["0" * 64],
}
COYO = {
    "id": [841814333321],
    "url": ["http://a.example/1.jpg"],
    "text": ["A dog in a field of orange flowers"],
    "width": [1000],
    "height": [988],
    "image_phash": ["c9b6a7d8469c1959"],
    "text_length": [34],
    "num_faces": [0],
    "clip_similarity_vitb32": [0.4296875],
    "clip_similarity_vitl14": [0.35205078125],
    "nsfw_score_opennsfw2": [0.0003],
    "nsfw_score_gantman": [0.033],
    "watermark_score": [0.1],
    "aesthetic_score_laion_v2": [5.4],
}


def bundled(name: str, *paths: Path, overrides: tuple[str, ...] = ()) -> Pipeline:
    contact = "mailto:you@example.org"
    pipeline = load_recipe(
        _RECIPES / f"{name}.yaml", paths=[str(path) for path in paths], contact=contact, overrides=overrides
    )
    pipeline.check()
    return pipeline


def drafts(source: Any) -> list[Draft | Refusal]:
    return [
        source.parse(row, key=f"{unit.ordinal:08d}-{i:06d}", origin_row=unit.first_row + i, unit=unit)
        for unit in source.units(first_ordinal=0, planned=[])
        for i, row in enumerate(source.rows(unit))
    ]


def opened(pipeline: Pipeline) -> list[Draft | Refusal]:
    """Drafts after the free steps that stand before the web."""
    found: list[Draft | Refusal] = []
    for draft in drafts(pipeline.source):
        for step in pipeline.steps:
            if isinstance(draft, Refusal) or not hasattr(step, "map"):
                break
            draft = step.map(draft)
        found.append(draft)
    return found


def texts(found: list[Draft | Refusal]) -> list[tuple[str, str]]:
    return [(draft.images[0].url, draft.segments[1].text) for draft in found]


def test_datacomp(tmp_path: Path) -> None:
    pq.write_table(pa.table(DATACOMP), tmp_path / "0.parquet")

    (draft,) = opened(bundled("datacomp", tmp_path))

    assert draft.source.id == DATACOMP["uid"][0]
    assert draft.attributes == {
        "uid": DATACOMP["uid"][0],
        "original_width": 640,
        "original_height": 480,
        "clip_b32_similarity_score": 0.3125,
        "clip_l14_similarity_score": 0.25,
        "face_bboxes": [[0.25, 0.5, 0.75, 1.0]],
        "sha256": "0" * 64,
    }


def test_coyo(tmp_path: Path) -> None:
    pq.write_table(pa.table(COYO), tmp_path / "0.parquet")

    (draft,) = opened(bundled("coyo", tmp_path))

    assert draft.source.id == "841814333321"
    assert {name: draft.attributes[name] for name in ("id", "width", "watermark_score")} == {
        "id": "841814333321",
        "width": 1000,
        "watermark_score": 0.1,
    }


@pytest.mark.parametrize(("name", "places"), [("cc12m", (0, 1)), ("cc3m", (1, 0))])
def test_conceptual_captions(tmp_path: Path, name: str, places: tuple[int, int]) -> None:
    pairs = [
        ("http://a/1.jpg", 'a 5" nail, "bent"'),
        ("http://a/2.jpg", '"opened and never closed'),
        ("http://a/3", "plain text"),
    ]
    lines = ["\t".join(pair[place] for place in places) for pair in pairs]
    path = tmp_path / "train.tsv"
    path.write_text("\n".join([*lines, ""]))
    headed = tmp_path / "headed.tsv"
    headed.write_text("\n".join(["\t".join(("url", "caption")[place] for place in places), *lines]))

    assert texts(opened(bundled(name, path))) == pairs
    assert texts(opened(bundled(name, headed, overrides=("source.header=[]",)))) == pairs


def test_pairs_of_any_format_are_the_same_pairs(tmp_path: Path) -> None:
    pairs = [(f"http://a.example/{i}.jpg", f'caption, number "{i}"\twith\nmany signs') for i in range(50)]
    cleaned = [(url, " ".join(text.split())) for url, text in pairs]

    def delimited(delimiter: str) -> bytes:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=delimiter).writerows([("url", "text"), *pairs])
        return out.getvalue().encode()

    as_json = "".join(json.dumps({"url": url, "text": text}) + "\n" for url, text in pairs).encode()
    pq.write_table(pa.table({"url": [u for u, _ in pairs], "text": [t for _, t in pairs]}), tmp_path / "a.parquet")
    for name, data in {"a.csv": delimited(","), "a.tsv": delimited("\t"), "a.jsonl": as_json}.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"z{name}.gz").write_bytes(gzip.compress(data))

    found = {path.name: texts(opened(bundled("pairs", path))) for path in sorted(tmp_path.iterdir())}

    assert len(found) == 7
    assert all(value == cleaned for value in found.values()), [
        name for name, value in found.items() if value != cleaned
    ]


def test_pairs_of_a_txt_are_images_alone(tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("http://a/1\nhttp://a/2")

    found = opened(bundled("pairs", tmp_path / "urls.txt", overrides=("source.columns.text=null",)))

    assert [(draft.images[0].url, len(draft.segments)) for draft in found] == [("http://a/1", 1), ("http://a/2", 1)]


@pytest.mark.parametrize("name", ["laion-2b", "laion-coco"])
def test_the_recipe_hash_does_not_depend_on_the_type_of_file(tmp_path: Path, name: str) -> None:
    columns = {
        "URL": ["http://a"],
        "TEXT": ["some alt text"],
        "top_caption": ["a caption"],
        "all_captions": ['["a caption"]'],
        "all_similarities": ["[0.5]"],
        "similarity": [0.5],
        "punsafe": [0.1],
        "pwatermark": [0.1],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, [values[0] for values in columns.values()]])

    of_parquet, of_csv = bundled(name, tmp_path / "a.parquet"), bundled(name, tmp_path / "a.csv")

    assert of_parquet.recipe_hash == of_csv.recipe_hash
    assert [(d.segments, d.captions, d.attributes) for d in opened(of_csv)] == [
        (d.segments, d.captions, d.attributes) for d in opened(of_parquet)
    ]


@pytest.mark.parametrize("unit_rows", [77, 10_000])
@pytest.mark.parametrize(
    ("name", "count"),
    [("img2dataset_test_1000.txt", 1000), ("img2dataset_unique_images.txt", 54), ("img2dataset_sample_image.txt", 1)],
)
def test_real_lists_of_urls_are_read_whole(shared_fixtures: Path, name: str, count: int, unit_rows: int) -> None:
    path = shared_fixtures / "laion" / name
    source = Table((str(path),), columns=PairColumns(text=None), rows_per_unit=unit_rows)
    source.check({})

    found = [draft.images[0].url for draft in drafts(source)]

    assert found == path.read_text().rstrip("\n").split("\n")
    assert len(found) == count
    assert source.notes() == []


def test_a_real_parquet_is_read_whole(shared_fixtures: Path) -> None:
    path = shared_fixtures / "laion" / "img2dataset_test_1000.parquet"
    expected = pq.read_table(path)

    found = texts(drafts(Table((str(path),), rows_per_unit=130)))

    assert found == list(zip(expected["URL"].to_pylist(), expected["TEXT"].to_pylist(), strict=True))


def test_boxes_of_the_real_parquet_are_kept(shared_fixtures: Path) -> None:
    path = shared_fixtures / "laion" / "img2dataset_test_bbox.parquet"
    source = Table((str(path),), columns=PairColumns(url="url", text="txt"), keep={"bboxes": Kind.BOXES})
    source.check({})

    (draft,) = drafts(source)

    assert draft.attributes["bboxes"] == pq.read_table(path).to_pylist()[0]["bboxes"]


def test_hashes_of_the_real_parquet_are_kept(shared_fixtures: Path) -> None:
    path = shared_fixtures / "laion" / "img2dataset_sample_image.parquet"
    source = Table((str(path),), columns=PairColumns(url="url", text="txt"), keep={"sha256hash": Kind.STRING})

    assert [d.attributes["sha256hash"] for d in drafts(source)] == pq.read_table(path)["sha256hash"].to_pylist()


def test_a_real_parquet_with_its_bytes_inside_is_refused_with_its_columns(shared_fixtures: Path) -> None:
    path = shared_fixtures / "laion" / "datajuicer_images_bytes.parquet"

    with pytest.raises(Exception, match=r"column 'url' is missing.*'images', 'text', 'image_bytes'"):
        bundled("pairs", path)
