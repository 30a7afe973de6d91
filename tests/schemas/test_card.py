"""The card says what is in the corpus, the same for equal corpora, and nothing that came with the metadata breaks out of it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.card import Card, write_card
from schemas.card_features import declared_features, undeclared_attributes
from schemas.corpus import Corpus, Manifest
from schemas.reasons import Reason
from schemas.record import Counts, RunInfo, Totals
from schemas.rejects import Level, Reject
from schemas.sample import make_key
from schemas.shard_writer import ShardWriter

GOLDEN = Path(__file__).parents[1] / "golden" / "corpus"

SAMPLES = Totals(
    units=2,
    counts=Counts(rows=1200, samples=1000, rejected_rows=200, images_asked=2100, images=2000, rejected_images=100),
    reasons={"row": {"http.404": 150, "some.future": 50}, "image": {"decode.truncated": 100}},
    data_bytes=123456,
    parts=2,
    max_members=2,
    extensions=("jpg",),
    attributes={"score": "float"},
)


def render(samples: Totals = SAMPLES, *, planned_units: int = 2, **manifest: Any) -> str:
    recipe = manifest.pop("recipe", {"source": "test"})
    return Card(Manifest(name="corpus", recipe=recipe, **manifest), planned_units, {"samples": samples}).render()


def front_matter(card: str) -> dict[str, Any]:
    """As `datasets` and the Hub take it: the YAML between the first two lines of three hyphens."""
    lines = card.splitlines()
    assert lines[0] == "---"
    found: dict[str, Any] = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    return found


def table_rows(card: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = card.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_it_counts_what_is_there() -> None:
    card = render()
    assert ["samples", "1,000"] in table_rows(card, "What is in it")
    assert ["rejected images", "100"] in table_rows(card, "What is in it")
    assert table_rows(card, "What is not in it, and why") == [
        ["row", "`http.404`", "no", "150"],
        ["row", "`some.future`", "unknown", "50"],
        ["image", "`decode.truncated`", "no", "100"],
    ]
    assert "not complete" not in card
    assert "2 of 5 planned units" in render(planned_units=5)


@pytest.mark.parametrize(
    ("samples", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"), (10_000, "10K<n<100K"),
     (999_999, "100K<n<1M"), (1_000_000, "1M<n<10M"), (2_300_000_000, "1B<n<10B"), (10**12, "n>1T"), (10**15, "n>1T")],
)  # fmt: skip
def test_the_size_category_is_that_of_the_hub(samples: int, category: str) -> None:
    matter = front_matter(render(replace(SAMPLES, counts=Counts(rows=samples, samples=samples))))
    assert matter["size_categories"] == [category]


def test_a_licence_that_the_hub_does_not_know_is_other() -> None:
    assert "license" not in front_matter(render())
    assert front_matter(render(licence="CC-BY-4.0"))["license"] == "cc-by-4.0"
    matter = front_matter(render(licence="ask: us\n---\n"))
    assert (matter["license"], matter["license_name"]) == ("other", "ask: us\n---\n")


def test_every_member_is_declared_with_every_ending() -> None:
    named = declared_features(replace(SAMPLES, max_members=2, extensions=("jpg", "webp")))
    images = [field["name"] for field in named if field.get("dtype") == "image"]
    assert images == ["0.jpg", "0.webp", "1.jpg", "1.webp"]
    assert [field["name"] for field in declared_features(replace(SAMPLES, max_members=0))] == [
        "json",
        "__key__",
        "__url__",
    ]


def test_attributes_have_the_type_of_their_values() -> None:
    kinds = {
        "a": "bool",
        "b": "int",
        "c": "list<list<float>>",
        "d": "null",
        "e": "list<null>",
        "f": "mixed",
        "g": "list<mixed>",
    }
    document = declared_features(replace(SAMPLES, attributes=kinds))[0]["struct"]
    declared = next(field["struct"] for field in document if field["name"] == "attributes")
    assert declared == [
        {"name": "a", "dtype": "bool"},
        {"name": "b", "dtype": "int64"},
        {"name": "c", "list": {"list": "float64"}},
        {"name": "d", "dtype": "string"},
        {"name": "e", "list": "string"},
    ]
    assert undeclared_attributes(kinds) == ["f", "g"]
    only_mixed = declared_features(replace(SAMPLES, attributes={"f": "mixed"}))[0]["struct"]
    assert "attributes" not in [field["name"] for field in only_mixed]


HOSTILE = [
    "a|b",
    "x\n---\nconfigs: []",
    "<script>alert(1)</script>",
    "[go](http://evil.example)",
    "`code`",
    "```",
    "\x00\x1b[31m",
    "é\u2028f",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_came_with_the_metadata_stays_text(text: str) -> None:
    card = render(
        replace(SAMPLES, attributes={text: "mixed", "score": "float"}), licence=text, recipe={"step": text, text: 1}
    )
    calm = render(
        replace(SAMPLES, attributes={"name": "mixed", "score": "float"}),
        licence="words",
        recipe={"step": "a", "name": 1},
    )
    matter = front_matter(card)
    assert matter["license_name"] == text
    assert list(matter) == list(front_matter(calm))
    body = card.split("\n---\n", 1)[1]
    before_recipe, recipe = body.split("\n## Recipe\n")
    assert [line for line in before_recipe.splitlines() if line.startswith("#")] == [
        line for line in calm.split("\n---\n", 1)[1].split("\n## Recipe\n")[0].splitlines() if line.startswith("#")
    ]
    assert "<script>" not in before_recipe
    assert "](http" not in before_recipe.replace("\\]", "")
    assert len(table_rows(card, "Attributes")) == 2
    fence, rest = recipe.split("yaml\n", 1)
    fence = fence.splitlines()[-1]
    assert set(fence) == {"`"}
    assert yaml.safe_load(rest.split(f"\n{fence}\n")[0]) == {"step": text, text: 1}
    assert "\x00" not in card
    assert "\x1b" not in card


def test_a_corpus_without_samples_says_so(tmp_path: Path) -> None:
    corpus = Corpus.create(str(tmp_path / "corpus"), Manifest(name="empty", recipe={"source": "test"}))
    write_card(corpus)
    card = (tmp_path / "corpus/README.md").read_text()
    assert "holds no samples" in card
    assert "configs" not in front_matter(card)
    assert "Nothing was rejected" in card
    with ShardWriter(corpus, column="samples", unit=0, recipe_hash=corpus.manifest.recipe_hash) as writer:
        rejects = [Reject(make_key(0, row), row, Level.ROW, Reason.DNS) for row in range(3)]
        writer.commit(rejects, rows=3, images_asked=0, run=RunInfo(0.0, 0.0, "test"))
    write_card(corpus)
    card = (tmp_path / "corpus/README.md").read_text()
    assert "holds no samples: 3 rows" in card
    assert table_rows(card, "What is not in it, and why") == [["row", "`dns`", "yes", "3"]]


def test_equal_corpora_have_equal_cards_whoever_ran_them(tmp_path: Path) -> None:
    one, other = (shutil.copytree(GOLDEN, tmp_path / name) for name in ("one", "other"))
    for path in (other / "records").rglob("*.json"):
        path.write_text(
            path.read_text().replace('"engine":"golden"', '"engine":"ray"').replace('"machine":""', '"machine":"host7"')
        )
    for folder in (one, other):
        write_card(Corpus.open(str(folder)))
    for name in ("README.md", "shards.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert "host7" not in (other / "README.md").read_text()
    manifest = Corpus.open(str(one)).manifest
    turned = replace(manifest, recipe=dict(reversed(manifest.recipe.items())))
    assert Card(turned, 9, {}).render() == Card(manifest, 9, {}).render()


def test_writing_it_again_changes_nothing(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN, tmp_path / "corpus")
    write_card(Corpus.open(str(folder)))
    once = (folder / "README.md").read_bytes()
    write_card(Corpus.open(str(folder)))
    assert (folder / "README.md").read_bytes() == once
