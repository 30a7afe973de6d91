"""`emu import` and `emu index` as a person runs them."""

import json
from pathlib import Path

import pytest

from schemas.foreign import read_foreign_index, read_foreign_sample
from tests.emu_process import content_of, emu
from tests.img2dataset_outputs import members, rows, tar, tar_of, write


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of an img2dataset output."""
    folder = tmp_path_factory.mktemp("img2dataset") / "out"
    for shard in range(2):
        write(folder, "webdataset", shard, rows(shard, 8))
    return folder


def test_import_makes_a_corpus_and_the_same_command_does_nothing_more(output: Path, tmp_path: Path) -> None:
    run = emu("import", output, "--output", tmp_path / "corpus", "--workers", "1", "--name", "mine")
    assert run.returncode == 0, run.stderr
    assert "Built 2 units" in run.stdout
    assert "16 = 12 samples + 4 rejected" in run.stdout
    assert "http.404" in run.stdout
    assert "Next: emu inspect" in run.stdout
    assert emu("validate", tmp_path / "corpus").returncode == 0
    again = emu("import", output, "--output", tmp_path / "corpus", "--workers", "0", "--name", "mine")
    assert again.returncode == 0
    assert "Nothing is left to build: all 2 units are committed." in again.stdout
    other = emu("import", output, "--output", tmp_path / "other", "--workers", "0", "--name", "mine", "--json")
    assert json.loads(other.stdout)["totals"]["counts"]["samples"] == 12
    assert content_of(tmp_path / "other") == content_of(tmp_path / "corpus")


def test_settings_and_recipes_of_ones_own(output: Path, tmp_path: Path) -> None:
    run = emu(
        "import", output, "-o", tmp_path / "a", "--workers", "0", "--json", "--set", "source.keep_others=false",
        "--set", "source.keep={similarity: float}",
    )  # fmt: skip
    assert json.loads(run.stdout)["totals"]["attributes"] == {"similarity": "float"}
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nsource: {kind: img2dataset}\nsteps: [hash_image, {min_side: {pixels: 41}}]\n")
    run = emu("import", output, "-o", tmp_path / "b", "--workers", "0", "--json", "--recipe", recipe)
    assert json.loads(run.stdout)["totals"]["reasons"]["row"]["filter.side"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no file there that ends in .tar or .parquet"),
        (["OUT", "--set", "source.keeep={}"], "unknown setting 'keeep'; did you mean 'keep'?"),
        (["OUT", "--set", "source.max_pixels=0"], "max_pixels is 0, expected 1 to"),
        (["OUT", "--recipe", "imprt"], "did you mean 'import'?"),
    ],
)
def test_what_cannot_serve_ends_with_2_and_a_message(
    output: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    named = [str(output) if argument == "OUT" else argument for argument in arguments]
    run = emu("import", *named, "--output", tmp_path / "corpus", "--workers", "0")
    assert run.returncode == 2
    assert message in run.stderr
    assert not (tmp_path / "corpus").exists()


def test_an_index_gives_the_bytes_of_every_member(output: Path, tmp_path: Path) -> None:
    run = emu("index", output, "--output", tmp_path / "indexes", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)["indexes"]
    assert [Path(one["index"]).name for one in told] == ["00000.arrow", "00001.arrow"]
    for shard, one in enumerate(told):
        index, facts = read_foreign_index(Path(one["index"]).read_bytes(), name="x")
        assert facts == {
            "format": "emu-foreign-index/1",
            "tar": f"{shard:05d}.tar",
            "tar_bytes": str(Path(one["tar"]).stat().st_size),
            "broken": "",
        }
        kept = [row for row in rows(shard, 8) if row.picture is not None]
        found = list(index.rows())
        assert [(row.key, row.row) for row in found] == [(row.key, number) for number, row in enumerate(kept)]
        with Path(one["tar"]).open("rb") as opened:
            for row, made in zip(found, kept, strict=True):
                assert read_foreign_sample(opened, row) == members(made)
                assert [(image.offset, image.bytes) for image in row.images] == [
                    (member.offset, member.bytes) for member in row.members if member.name == "jpg"
                ]
                assert row.text_chars == len(made.facts["caption"] or "")


def test_an_index_stands_beside_its_tar_and_tells_where_that_breaks_off(tmp_path: Path) -> None:
    whole = tar_of(rows(0, 8))
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) // 2 + 100])
    (tmp_path / "b.tar").write_bytes(tar([("a.cls", b"1"), ("b.jpg", b"2")]))
    run = emu("index", tmp_path)
    assert run.returncode == 1
    assert "a.tar: breaks off (tar.truncated)" in run.stderr
    index, facts = read_foreign_index((tmp_path / "a.arrow").read_bytes(), name="a")
    assert 0 < len(index) < 6
    assert facts["broken"] == "tar.truncated"
    index, _ = read_foreign_index((tmp_path / "b.arrow").read_bytes(), name="b")
    assert [(row.key, row.json_offset, len(row.images)) for row in index.rows()] == [("a", 0, 0), ("b", 0, 1)]
    (tmp_path / "a.arrow").write_bytes(b"something of somebody else")
    run = emu("index", tmp_path / "a.tar")
    assert run.returncode == 2
    assert "it is left as it is" in run.stderr
    assert (tmp_path / "a.arrow").read_bytes() == b"something of somebody else"
