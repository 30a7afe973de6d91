"""Plans only grow: new files become new units, and what was planned is never renumbered."""

from pathlib import Path

import pytest

from pipelines.pipeline import Pipeline
from pipelines.plan import extend_plan, refuse_overlap
from pipelines.sources.tables import Table
from schemas import plan as plan_format
from schemas.corpus import Corpus, Manifest
from schemas.errors import UserError
from schemas.plan import Unit, append_generation
from tests.servers.pictures import write_laion


def pipeline(*paths: Path) -> Pipeline:
    return Pipeline("p", Table(tuple(map(str, paths)), rows_per_unit=10), steps=())


def new_corpus(folder: Path) -> Corpus:
    return Corpus.create(str(folder), Manifest("p", {}))


def test_a_grown_list_of_sources_adds_a_generation_and_moves_nothing(tmp_path: Path) -> None:
    first = write_laion(tmp_path / "b.parquet", ["http://a"] * 25)
    corpus = new_corpus(tmp_path / "corpus")
    before = extend_plan(corpus, pipeline(first))
    second = write_laion(tmp_path / "a.parquet", ["http://a"] * 5)

    after = extend_plan(corpus, pipeline(second, first))

    assert [(unit.ordinal, Path(unit.source).name, unit.first_row, unit.rows) for unit in after] == [
        (0, "b.parquet", 0, 10),
        (1, "b.parquet", 10, 10),
        (2, "b.parquet", 20, 5),
        (3, "a.parquet", 0, 5),
    ]
    assert after[:3] == before
    assert extend_plan(corpus, pipeline(first, second)) == after
    assert corpus.plan() == after


def test_a_file_without_rows_is_planned_as_nothing(tmp_path: Path) -> None:
    path = write_laion(tmp_path / "a.parquet", [])

    assert extend_plan(new_corpus(tmp_path / "corpus"), pipeline(path)) == []


def test_two_launchers_that_plan_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_laion(tmp_path / "a.parquet", ["http://a"] * 15)
    corpus = new_corpus(tmp_path / "corpus")
    other = pipeline(path).source.units(first_ordinal=0, planned=[])

    def beaten_once(storage: object, units: list[Unit]) -> str:
        monkeypatch.setattr("pipelines.plan.append_generation", append_generation)
        append_generation(corpus.storage, other)
        return append_generation_at_zero(units)

    def append_generation_at_zero(units: list[Unit]) -> str:
        corpus.storage.create(plan_format.generation_name(0), b"late")
        return ""

    monkeypatch.setattr("pipelines.plan.append_generation", beaten_once)

    assert extend_plan(corpus, pipeline(path)) == other
    assert corpus.plan() == other


@pytest.mark.parametrize(("corpus", "path"), [("in", "in"), ("in/corpus", "in"), ("out", "out/meta")])
def test_output_and_input_may_not_overlap(tmp_path: Path, corpus: str, path: str) -> None:
    with pytest.raises(UserError, match="overlap; choose an output folder outside the input"):
        refuse_overlap(str(tmp_path / corpus), (str(tmp_path / path),))


def test_neighbouring_folders_do_not_overlap(tmp_path: Path) -> None:
    refuse_overlap(
        str(tmp_path / "corpus"), (str(tmp_path / "corp"), str(tmp_path / "corpus-metadata/a.parquet"), "s3://b/c")
    )
    refuse_overlap("s3://bucket/corpus", ("s3://bucket/corpus-metadata", str(tmp_path)))
    with pytest.raises(UserError, match="overlap"):
        refuse_overlap("s3://bucket/corpus", ("s3://bucket/",))
