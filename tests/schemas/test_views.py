"""Views: the keys that were decided on, once and for ever."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import CorpusError, UserError
from schemas.sample import make_key, split_key
from schemas.views import list_views, read_view, view_name, write_view
from tests.small_corpora import Builder

places = st.tuples(st.integers(0, 3), st.integers(0, 3) | st.integers(999_998, 1_000_002) | st.just(10**11))


def test_a_view_comes_back_by_unit_and_row(builder: Builder) -> None:
    keys = [make_key(1, 0), make_key(0, 1_000_000), make_key(0, 999_999)]
    assert write_view(builder.corpus, "train", keys, definition={"split": "train"}) == "views/train.parquet"
    view = read_view(builder.corpus, "train")
    assert view.keys.to_pylist() == [make_key(0, 999_999), make_key(0, 1_000_000), make_key(1, 0)]
    assert view.as_set() == set(keys)
    assert (view.name, view.definition) == ("train", {"split": "train"})


@settings(max_examples=50, deadline=None)
@given(st.sets(places), st.randoms())
def test_any_order_gives_the_same_bytes(found: set[tuple[int, int]], random: Any) -> None:
    from schemas.views import _sorted_keys

    keys = [make_key(*place) for place in found]
    random.shuffle(keys)
    assert [split_key(key) for key in _sorted_keys(keys, view="v").to_pylist()] == sorted(found)


def test_an_arrow_array_or_nothing_may_be_given(builder: Builder) -> None:
    keys = [make_key(0, 1), make_key(0, 0)]
    write_view(builder.corpus, "chunked", pa.chunked_array([keys[:1], keys[1:]]), definition={})
    write_view(builder.corpus, "empty", [], definition={})
    assert read_view(builder.corpus, "chunked").keys.to_pylist() == sorted(keys)
    assert read_view(builder.corpus, "empty").as_set() == frozenset()
    assert list_views(builder.corpus) == ["chunked", "empty"]


def test_a_name_is_given_once(builder: Builder) -> None:
    write_view(builder.corpus, "train", [make_key(0, 0)], definition={})
    with pytest.raises(UserError, match="there is a view 'train' already, and views never change; choose another name"):
        write_view(builder.corpus, "train", [], definition={})
    assert read_view(builder.corpus, "train").as_set() == {make_key(0, 0)}


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden"])
def test_a_name_is_a_file_name(builder: Builder, name: str) -> None:
    with pytest.raises(UserError, match="use letters, digits"):
        write_view(builder.corpus, name, [], definition={})


def test_only_keys_and_each_once(builder: Builder) -> None:
    with pytest.raises(UserError, match=r"view 'v': 'x' is not a key such as"):
        write_view(builder.corpus, "v", [make_key(0, 0), "x"], definition={})
    with pytest.raises(UserError, match="view 'v': key 00000000-000000 is given twice"):
        write_view(builder.corpus, "v", [make_key(0, 0), make_key(0, 0)], definition={})
    assert list_views(builder.corpus) == []


def test_an_unknown_view_names_those_that_exist(builder: Builder) -> None:
    with pytest.raises(UserError, match="has no view 'trian'; there are: none"):
        read_view(builder.corpus, "trian")
    write_view(builder.corpus, "train", [], definition={})
    with pytest.raises(UserError, match="has no view 'trian'; there are: train"):
        read_view(builder.corpus, "trian")


def test_a_damaged_view_is_named(builder: Builder) -> None:
    write_view(builder.corpus, "train", [make_key(0, 0)], definition={})
    data = builder.corpus.storage.read(view_name("train"))
    for number, damaged in enumerate([b"", data[:-1], data[:20] + b"\xff" * 40 + data[60:]]):
        builder.corpus.storage.replace(view_name(f"v{number}"), damaged)
        with pytest.raises(CorpusError, match=rf"views/v{number}\.parquet: "):
            read_view(builder.corpus, f"v{number}")
