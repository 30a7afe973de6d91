"""Rejects: one file a unit, the same bytes in whatever order they fell."""

import random
from pathlib import Path

import pytest

from schemas.errors import CorpusError
from schemas.reasons import Reason
from schemas.rejects import Level, Reject, count_reasons, read_rejects, write_rejects
from schemas.sample import make_key

REJECTS = [
    Reject(make_key(0, 2), 2, Level.ROW, Reason.HTTP_404),
    Reject(make_key(0, 2), 2, Level.IMAGE, Reason.HTTP_404, image=0, url="http://example.com/\ud800"),
    Reject(make_key(0, 2), 2, Level.IMAGE, Reason.DNS, detail="resolver", image=1),
    Reject(make_key(0, 10), 10, Level.IMAGE, Reason.DNS, image=3),
    Reject(make_key(0, 11), 11, Level.ROW, Reason.FILTER_SIMILARITY, detail="similarity<0.28"),
]


def test_any_order_gives_the_same_bytes_sorted_by_row_level_and_image(tmp_path: Path) -> None:
    write_rejects(tmp_path / "sorted", REJECTS)
    for seed in range(20):
        write_rejects(tmp_path / "shuffled", random.Random(seed).sample(REJECTS, len(REJECTS)))
        assert (tmp_path / "shuffled").read_bytes() == (tmp_path / "sorted").read_bytes()
    table = read_rejects((tmp_path / "sorted").read_bytes(), name="x")
    assert table.column("row").to_pylist() == [2, 2, 2, 10, 11]
    assert table.column("image").to_pylist() == [None, 0, 1, 3, None]
    assert table.column("url").to_pylist() == [None, "http://example.com/?", None, None, None]
    assert table.column("detail").to_pylist() == ["", "", "resolver", "", "similarity<0.28"]


def test_reasons_are_counted_by_level() -> None:
    assert count_reasons(REJECTS) == {
        "row": {"http.404": 1, "filter.similarity": 1},
        "image": {"http.404": 1, "dns": 2},
    }
    assert count_reasons([]) == {}


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"x" * 100])
def test_a_damaged_file_is_named(damage: bytes) -> None:
    with pytest.raises(CorpusError, match=r"rejects/a\.parquet: not a readable parquet file"):
        read_rejects(damage, name="rejects/a.parquet")
