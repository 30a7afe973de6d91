"""The LAION recipes: YAML and Python say the same, releases of any types give the same drafts, what lacks is said before work."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.laion import laion_2b, laion_coco
from pipelines.pipeline import Draft, PureStep, describe
from pipelines.recipe import load_recipe
from schemas import canonical
from schemas.errors import UserError
from schemas.reasons import Reason, Refusal
from schemas.sample import Caption, ImageSegment, TextSegment

RECIPES = Path(__file__).resolve().parents[2] / "jobs" / "recipes"
CONTACT = "mailto:me@a.example"

both = pytest.mark.parametrize(("name", "python"), [("laion-2b", laion_2b), ("laion-coco", laion_coco)])


@both
def test_yaml_and_python_are_the_same_recipe(name, python):
    from_yaml = load_recipe(RECIPES / f"{name}.yaml", paths=("meta/*.parquet",), contact=CONTACT)
    from_python = python("meta/*.parquet", contact=CONTACT)
    assert from_yaml.recipe() == from_python.recipe()
    assert canonical.dumps(from_yaml.recipe()) == canonical.dumps(from_python.recipe())
    assert from_yaml.recipe_hash == from_python.recipe_hash
    assert from_yaml == from_python
    assert from_yaml.name == name


@both
def test_the_recipe_is_the_design_in_its_order(name, python):
    steps = [describe(step) for step in python("a.parquet", contact=CONTACT).steps]
    assert [step["kind"] for step in steps] == [
        "min_similarity",
        "max_unsafe",
        "max_watermark",
        "clean_text",
        "fetch",
        "probe_image",
        "min_side",
        "max_aspect",
        "encode_image",
    ]
    encode = steps[-1]
    assert (encode["side_pixels"], encode["mode"], encode["only_if_bigger"]) == (384, "keep_ratio", True)
    assert (encode["format"], encode["quality"]) == ("jpeg", 95)
    assert [steps[0]["cosine"], steps[1]["probability"], steps[2]["probability"]] == [0.28, 0.5, 0.8]


@both
def test_paths_and_contact_are_not_content_and_settings_are(name, python):
    pipeline = python("a.parquet", contact=CONTACT)
    assert python("b.parquet", contact="https://b.example").recipe_hash == pipeline.recipe_hash
    changed = load_recipe(RECIPES / f"{name}.yaml", overrides=("min_similarity.cosine=0.3",))
    assert changed.recipe_hash != pipeline.recipe_hash


@both
def test_a_pipeline_reaches_other_processes(name, python):
    pipeline = python("a.parquet", contact=CONTACT)
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


def _rows(types):
    """Five rows: kept, below the similarity, unsafe, without a watermark score, with an empty text after cleaning."""
    columns = {
        "URL": [f"http://a.example/{n}.jpg" for n in range(5)],
        "TEXT": ["caf\xc3\xa9 &amp; bar", "dull pair", "bad pair", "odd pair", " &nbsp;\u200b "],
        "WIDTH": [640, None, 640, 640, 640],
        "HEIGHT": [480, 480, 480, 480, 480],
        "similarity": [0.28, 0.27, 0.9, 0.9, 0.9],
        "punsafe": [0.5, 0.1, 0.6, 0.1, 0.1],
        "pwatermark": [0.8, 0.1, 0.1, None, 0.1],
        "hash": [-(2**63), 2, 3, 4, 2**63 - 1],
    }
    return pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})


def _opened(pipeline):
    """What the free steps make of every row."""
    [unit] = pipeline.source.units(first_ordinal=0, planned=[])
    results = []
    for number, row in enumerate(pipeline.source.rows(unit)):
        result = pipeline.source.parse(row, key=f"00000000-{number:06d}", origin_row=number, unit=unit)
        for step in pipeline.steps:
            if isinstance(result, Refusal) or not isinstance(step, PureStep):
                break
            result = step.map(result)
        results.append(result)
    return results


@pytest.mark.parametrize("side", [pa.int32(), pa.int64(), pa.float64()])
@pytest.mark.parametrize("score", [pa.float32(), pa.float64()])
def test_releases_of_any_types_give_the_same_rows(side, score, tmp_path):
    types = {
        "WIDTH": side,
        "HEIGHT": side,
        "similarity": score,
        "punsafe": score,
        "pwatermark": score,
        "hash": pa.int64(),
    }
    pq.write_table(_rows(types), tmp_path / "part-0.parquet")
    pipeline = laion_2b(str(tmp_path / "part-0.parquet"), contact=CONTACT)
    pipeline.check()
    kept, *fallen = _opened(pipeline)
    assert fallen == [
        Refusal(Reason.FILTER_SIMILARITY, "cosine"),
        Refusal(Reason.FILTER_UNSAFE, "probability"),
        Refusal(Reason.FILTER_SCORE_MISSING, "pwatermark"),
        Refusal(Reason.TEXT_EMPTY),
    ]
    assert isinstance(kept, Draft)
    assert kept.segments == (ImageSegment(0), TextSegment("café & bar"))
    assert kept.images[0].url == "http://a.example/0.jpg"
    assert kept.attributes["hash"] == "-9223372036854775808"
    assert (kept.attributes["WIDTH"], kept.attributes["HEIGHT"]) == (640, 480)
    assert kept.attributes["similarity"] == pytest.approx(0.28, abs=1e-7)
    assert not {"aesthetic", "NSFW", "md5"} & set(kept.attributes)


def test_laion_coco_keeps_every_caption_with_its_similarity_and_the_alt_text(tmp_path):
    table = _rows({}).slice(0, 1)
    for column, values in {
        "top_caption": ["a caf\xe9 by night"],
        "all_captions": [["a  caf\xe9", " ", "a bar &amp; a man"]],
        "all_similarities": [[0.31, 0.3, np.nan]],
    }.items():
        table = table.append_column(column, pa.array(values))
    pq.write_table(table, tmp_path / "part-0.parquet")
    pipeline = laion_coco(str(tmp_path), contact=CONTACT)
    pipeline.check()
    [draft] = _opened(pipeline)
    assert isinstance(draft, Draft)
    assert draft.segments == (ImageSegment(0), TextSegment("a café by night"))
    assert draft.captions == (Caption("a café", 0.31), Caption("a bar & a man", None))
    assert draft.attributes["TEXT"] == "caf\xc3\xa9 &amp; bar"


def test_a_release_without_a_score_is_told_which_step_to_leave_out(tmp_path):
    pq.write_table(_rows({}).drop_columns(["punsafe"]), tmp_path / "part-0.parquet")
    with pytest.raises(UserError, match=r"part-0.parquet: column 'punsafe' is missing; the step `max_unsafe` reads it"):
        laion_2b(str(tmp_path), contact=CONTACT).check()
    load_recipe(RECIPES / "laion-2b.yaml", paths=(str(tmp_path),), overrides=("max_unsafe=null",)).check()


def test_real_pairs_without_scores_open_when_the_score_filters_are_left_out(shared_fixtures):
    pipeline = load_recipe(
        RECIPES / "laion-2b.yaml",
        paths=(str(shared_fixtures / "laion/img2dataset_test_1000.parquet"),),
        overrides=("min_similarity=null", "max_unsafe=null", "max_watermark=null"),
    )
    pipeline.check()
    results = _opened(pipeline)
    assert len(results) == 1000
    assert all(isinstance(result, Draft) for result in results)
