"""YAML without its surprises: what is read as what, and what is refused with its line."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines import strict_yaml
from schemas.errors import UserError

# YAML 1.1, which libraries write, takes `0E0` for a word and leaves it bare; in YAML 1.2, which is read here, it is a number.
NUMBER_IN_12_ONLY = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+|0o[0-7]+")


def words(**options):
    return st.text(st.characters(**options)).filter(lambda text: not NUMBER_IN_12_ONLY.fullmatch(text))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words(exclude_categories=["C"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words(categories=["L", "N"]), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_what_yaml_libraries_write_is_read_back(value):
    assert strict_yaml.load(yaml.safe_dump(value, allow_unicode=True), place="x") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("On", "On"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("[null, ]", [None]),
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("3.", 3.0),
        ("-.inf", float("-inf")),
        ("50_000_000", 50_000_000),
        ("-7", -7),
        ("0", 0),
        ("012", "012"),
        ("0x1F", "0x1F"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("'0.3'", "0.3"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("=", "="),
    ],
)
def test_words_are_what_they_look_like(text, value):
    found = strict_yaml.load(text, place="x")
    assert (found, type(found)) == (value, type(value))


def test_anchors_and_merge_keys_work():
    text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\nd: {inner: &d {<<: *a, x: 9}}\ne: {<<: *d, x: 8}"
    a = {"x": 1, "y": 2}
    assert strict_yaml.load(text, place="x") == {
        "a": a,
        "b": a,
        "c": {"x": 1, "y": 3},
        "d": {"inner": {"x": 9, "y": 2}},
        "e": {"x": 8, "y": 2},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "r.yaml, line 4, column 3: the key 'c' stands here twice; remove one"),
        ("a: {1: 2}", "r.yaml, line 1, column 5: the key '1' is not a word; put it in quotes if it is meant"),
        ("? [a]\n: 1", r"r.yaml, line 1, column 3: the key .* is not a word"),
        (
            "a: !!python/object:os.system {}",
            "r.yaml, line 1, column 4: the tag '!!python/object:os.system' is not used here",
        ),
        ("a: !!timestamp 2024-01-01", "r.yaml, line 1, column 4: the tag '!!timestamp' is not used here"),
        ("a: b: c", "r.yaml, line 1, column 5: mapping values are not allowed here"),
        ("a: *b", "r.yaml, line 1, column 4: found undefined alias 'b'"),
        ("a: [1", "r.yaml, line 1, column 6: expected ',' or ']'"),
        ("a: 1\n---\nb: 2", "r.yaml, line 2, column 1: but found another document"),
        ("a: \x07", "r.yaml: not YAML"),
        ("[" * 5_000, "r.yaml: nested too deep to be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(text, message):
    with pytest.raises(UserError, match=message):
        strict_yaml.load(text, place="r.yaml")
