"""Corpora for the tests of the format."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.corpus import Corpus, Manifest
from schemas.plan import Unit
from schemas.sample import make_key
from schemas.validate import validate
from schemas.views import write_view
from tests.damage import copy_as_column
from tests.small_corpora import Builder


@pytest.fixture
def new_builder(tmp_path: Path) -> Callable[[str], Builder]:
    """Makes an empty corpus of a name, in a folder of that name."""

    def make(name: str = "corpus") -> Builder:
        return Builder(Corpus.create(str(tmp_path / name), Manifest(name=name, recipe={"steps": ["Keep"]})))

    return make


@pytest.fixture
def builder(new_builder: Callable[[str], Builder]) -> Builder:
    """A corpus with a plan of three units, none built."""
    made = new_builder("corpus")
    made.plan(3)
    return made


@pytest.fixture
def built(builder: Builder) -> Builder:
    """Three units: 0 in two parts, 1 and 2 in one; a retry; a second column; a view."""
    builder.plan_more(Unit(3, "rejects", "f", 0, 2, keys=(make_key(0, 2), make_key(1, 2))))
    for unit in range(3):
        builder.commit(unit, max_part_bytes=7168 if unit == 0 else 1 << 30)
    builder.commit(3, keys=[make_key(0, 2), make_key(1, 2)])
    copy_as_column(builder, 1)
    write_view(builder.corpus, "train", [make_key(0, 0), make_key(2, 2)], definition={})
    assert list(validate(builder.corpus)) == []
    assert list(validate(builder.corpus, quick=True)) == []
    return builder
