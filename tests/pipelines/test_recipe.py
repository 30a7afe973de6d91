"""Recipes as YAML: what they become, what overrides change, and that every mistake is named with its place and its mend."""

from pathlib import Path

import pytest

from pipelines.fetch.policy import FetchPolicy
from pipelines.pipeline import Pipeline
from pipelines.recipe import load_recipe, parse_recipe
from pipelines.registry import SOURCES, STEPS
from pipelines.sources.tables import Kind, PairColumns, Table
from pipelines.steps.filters import MaxWatermark, MinSide, MinSimilarity
from pipelines.steps.images import EncodeImage, Fetch
from pipelines.steps.text import CleanText
from schemas.errors import UserError

SMALL = """
name: small
source:
  kind: table
  name: mine
  columns: {url: url, text: text}
  keep: {score: float, id: id}
steps:
  - min_similarity: {cosine: 0.25, column: score}
  - max_watermark
  - clean_text:
  - fetch: {policy: {max_redirects: 2}}
  - min_side: {pixels: 10}
"""


def parse(text=SMALL, *overrides, **given):
    return parse_recipe(text, place="r.yaml", overrides=overrides, **given)


def test_a_recipe_is_the_pipeline_it_says():
    assert parse(paths=("a.parquet", "b"), contact="mailto:me@a.example") == Pipeline(
        name="small",
        source=Table(
            ("a.parquet", "b"),
            name="mine",
            columns=PairColumns(url="url", text="text"),
            keep={"score": Kind.FLOAT, "id": Kind.ID},
        ),
        steps=(
            MinSimilarity(cosine=0.25, column="score"),
            MaxWatermark(),
            CleanText(),
            Fetch(contact="mailto:me@a.example", policy=FetchPolicy(max_redirects=2)),
            MinSide(pixels=10),
        ),
    )


def test_paths_and_contact_may_stand_in_the_recipe_and_give_way_to_arguments():
    text = SMALL.replace("kind: table", "kind: table\n  paths: [x.parquet]").replace(
        "fetch: {", "fetch: {contact: 'https://x.example', "
    )
    assert parse(text).source.paths == ("x.parquet",)
    assert parse(text).steps[3].contact == "https://x.example"
    given = parse(text, paths=("y.parquet",), contact="mailto:y@a.example")
    assert (given.source.paths, given.steps[3].contact) == (("y.parquet",), "mailto:y@a.example")
    assert given.recipe_hash == parse(text).recipe_hash == parse().recipe_hash


def test_types_come_out_as_declared():
    pipeline = parse(SMALL, "fetch.policy.allowed_networks=[127.0.0.0/8]", "min_similarity.cosine=1")
    assert pipeline.steps[3].policy.allowed_networks == ("127.0.0.0/8",)
    assert repr(pipeline.steps[0].cosine) == "1.0"
    assert all(isinstance(kind, Kind) for kind in pipeline.source.keep.values())
    assert isinstance(pipeline.source, Table)
    text = SMALL + "  - encode_image: {format: png, mode: none, only_if_bigger: false}\n"
    assert parse(text).steps[-1] == EncodeImage(format="png", mode="none", only_if_bigger=False)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("min_similarity.cosine=0.3", lambda p: p.steps[0] == MinSimilarity(cosine=0.3, column="score")),
        ("min_similarity.cosine=1e-1", lambda p: p.steps[0].cosine == 0.1),
        ("min_similarity={cosine: 0.3}", lambda p: p.steps[0] == MinSimilarity(cosine=0.3)),
        ("max_watermark.probability=0.1", lambda p: p.steps[1] == MaxWatermark(probability=0.1)),
        ("max_watermark=null", lambda p: len(p.steps) == 4 and MaxWatermark() not in p.steps),
        ("clean_text.min_chars=9", lambda p: p.steps[2] == CleanText(min_chars=9)),
        (
            "fetch.policy.respect_robots=false",
            lambda p: p.steps[3].policy == FetchPolicy(max_redirects=2, respect_robots=False),
        ),
        (
            'fetch.policy.allowed_networks=["10.0.0.0/8"]',
            lambda p: p.steps[3].policy.allowed_networks == ("10.0.0.0/8",),
        ),
        ("source.rows_per_unit=1_000", lambda p: p.source.rows_per_unit == 1000),
        (
            "source.keep.more=list_float",
            lambda p: p.source.keep.get("more") is Kind.LIST_FLOAT and len(p.source.keep) == 3,
        ),
        ("source.columns.url=a=b", lambda p: p.source.columns.url == "a=b"),
        ("name=other", lambda p: p.name == "other"),
    ],
)
def test_an_override_changes_one_thing(override, changed):
    before, after = parse(), parse(SMALL, override)
    assert changed(after)
    assert not changed(before)
    parts = zip([before.source, *before.steps], [after.source, *after.steps], strict=False)
    assert sum(a != b for a, b in parts) <= 1 or override == "max_watermark=null"


def test_overrides_apply_in_order_and_anchors_are_not_shared():
    assert parse(SMALL, "min_side.pixels=5", "min_side.pixels=7").steps[-1].pixels == 7
    text = "name: a\nsource: {kind: table}\nsteps:\n- max_unsafe: &p {probability: 0.4}\n- max_watermark: *p\n"
    unsafe, watermark = parse(text, "max_unsafe.probability=0.1").steps
    assert (unsafe.probability, watermark.probability) == (0.1, 0.4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "min_similarty.cosine=1",
            "--set min_similarty.cosine=1: unknown step 'min_similarty'; did you mean 'min_similarity'?",
        ),
        (
            "min_similarity.cosin=1",
            "r.yaml with --set min_similarity.cosin=1: min_similarity: unknown setting 'cosin'; did you mean 'cosine'?",
        ),
        ("fetch.policy.max_redirect=1", "fetch.policy: unknown setting 'max_redirect'; did you mean 'max_redirects'?"),
        ("source.row_per_unit=1", "source: unknown setting 'row_per_unit'; did you mean 'rows_per_unit'?"),
        ("source.columns.image=1", "source.columns: unknown setting 'image'; expected one of url, text"),
        ("source.columns.url=5", "source.columns.url: expected a valid string, found 5"),
        ("source.keep.x=flota", "source.keep.x: expected 'float', 'int', .* found 'flota'"),
        ("source.paths=a.parquet", "source.paths: expected a valid array, found 'a.parquet'"),
        ("min_similarity.cosine='0.3'", "min_similarity.cosine: expected a valid number, found '0.3'"),
        ("min_similarity.cosine=no", "min_similarity.cosine: expected a valid number, found 'no'"),
        ("min_similarity.cosine=true", "min_similarity.cosine: expected a valid number, found True"),
        ("min_similarity.cosine=28", "min_similarity: cosine: found 28.0, expected -1 to 1"),
        ("min_side.pixels=10.0", "min_side.pixels: expected a valid integer, found 10.0"),
        ("fetch.policy.respect_robots=no", "respect_robots: expected a valid boolean, found 'no'; write true or false"),
        ("fetch.policy.allowed_networks=[lan]", "fetch.policy: allowed_networks: 'lan' is not a network in CIDR form"),
        ("fetch.policy=strict", "fetch.policy: expected a mapping, found 'strict'"),
        ("clean_text=5", "--set clean_text=5: clean_text: expected its settings by name, found 5"),
        ("clean_text.min_chars.x=5", "clean_text.min_chars: expected a valid integer, found {'x': 5}"),
        ("fetch.policy.max_redirects.x=5", "fetch: 2 has no setting 'x'"),
        (
            "max_unsafe=null",
            "r.yaml has no step `max_unsafe` to change; add it to its steps. It has min_similarity, max_watermark",
        ),
        ("max_watermark=", "--set max_watermark=: expected SETTING=VALUE, .* or STEP=null to remove a step"),
        ("max_watermark", "--set max_watermark: expected SETTING=VALUE"),
        (".cosine=1", "--set .cosine=1: expected SETTING=VALUE"),
        ("source=null", "--set source=null: expected a setting of source, such as source.rows_per_unit"),
        ("name=5", "--set name=5: expected a word, found 5"),
        ("min_side.pixels=[", "--set min_side.pixels=., line 1, column 2: "),
    ],
)
def test_a_wrong_override_is_named_with_its_mend(override, message):
    with pytest.raises(UserError, match=message):
        parse(SMALL, override)


def test_a_step_that_stands_twice_cannot_be_overridden_by_name():
    text = SMALL + "  - min_side: {pixels: 20}\n"
    assert [step.pixels for step in parse(text).steps[-2:]] == [10, 20]
    with pytest.raises(UserError, match=r"r.yaml has 2 steps `min_side`; change the one you mean in the recipe"):
        parse(text, "min_side.pixels=5")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (SMALL, "", "r.yaml: expected a recipe with name, source and steps, found nothing"),
        (SMALL, "- a", r"r.yaml: expected a recipe with name, source and steps, found \['a'\]"),
        ("name: small", "nmae: small", "r.yaml: unknown key 'nmae'; did you mean 'name'?"),
        ("name: small", "", "r.yaml: name is missing; a recipe has name, source and steps"),
        ("name: small", "name: 3", "r.yaml: name: expected a word, found 3"),
        ("name: small", "name: a\nname: b", "r.yaml, line 3, column 1: the key 'name' stands here twice"),
        ("kind: table", "kind: tabel", "r.yaml: source: unknown kind 'tabel'; did you mean 'table'?"),
        ("kind: table\n  ", "", r"r.yaml: source: expected a mapping with a kind \(table"),
        ("max_watermark", "MaxWatermark", "r.yaml: step 2: unknown step 'MaxWatermark'; did you mean 'max_watermark'?"),
        ("max_watermark", "5", "r.yaml: step 2: expected a name, or one name with its settings .* found 5"),
        ("{pixels: 10}", "10", "r.yaml: min_side: expected its settings by name, found 10"),
        ("{pixels: 10}", "{pixel: 10}", "r.yaml: min_side: unknown setting 'pixel'; did you mean 'pixels'?"),
        (
            "- min_side:",
            "- clean_text:\n    min_side:",
            "r.yaml: step 5: expected a name, or one name with its settings",
        ),
        ("- max_watermark", "- language", "r.yaml: language.identifier: a value is required"),
        (
            "- max_watermark",
            "- language: {identifier: 'no_such_module_here:f'}",
            "r.yaml: language: identifier: the module of .* cannot be imported",
        ),
        ("{score: float, id: id}", "&k {score: *k}", "r.yaml: source: an anchor contains itself"),
    ],
)
def test_a_wrong_recipe_is_named_with_its_place(old, new, message):
    assert old in SMALL
    with pytest.raises(UserError, match=message):
        parse(SMALL.replace(old, new))


def test_all_that_is_wrong_with_a_step_is_said_at_once():
    with pytest.raises(UserError) as caught:
        parse(SMALL.replace("{cosine: 0.25, column: score}", "{cosine: high, column: 5}"))
    assert str(caught.value).splitlines() == [
        "r.yaml: min_similarity.cosine: expected a valid number, found 'high'",
        "r.yaml: min_similarity.column: expected a valid string, found 5",
    ]


def test_a_message_stays_short_whatever_was_found():
    with pytest.raises(UserError) as caught:
        parse(SMALL, f"min_side.pixels=[{'x' * 100_000}]")
    assert len(str(caught.value).split("found")[-1]) < 100


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"missing.yaml: the recipe cannot be read .*; check the path"):
        load_recipe(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.yaml: the recipe cannot be read"):
        load_recipe(tmp_path / "latin.yaml")
    (tmp_path / "marked.yaml").write_text(SMALL, encoding="utf-8-sig")
    assert load_recipe(tmp_path / "marked.yaml") == parse()


def test_every_name_of_the_registry_is_that_of_its_class():
    assert SOURCES["table"] is Table
    assert STEPS["min_similarity"] is MinSimilarity
    assert len(STEPS) == len(set(STEPS.values())) > 10
    for name, kind in STEPS.items():
        assert name.replace("_", "") == kind.__name__.lower()
