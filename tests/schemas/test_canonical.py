"""Equal values give equal bytes, whatever order they came in."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import canonical

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), plain, max_size=4), st.randoms())
def test_order_of_insertion_does_not_matter(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical.dumps(dict(items)) == canonical.dumps(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": "é"}, '{"a":"é","b":1}'),
        ([math.nan, math.inf, 0.1, 1e300, -0.0], "[null,null,0.1,1e+300,-0.0]"),
        ("a\ud800b", '"a\ufffdb"'),
        ({"\udfff": (1, 2)}, '{"\ufffd":[1,2]}'),
        ("\x00\u2028", '"\\u0000\u2028"'),
    ],
)
def test_the_form(value: Any, expected: str) -> None:
    assert canonical.dumps(value) == expected.encode()


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        canonical.dumps({"a": b"bytes"})
