"""What the cells of text tables become: numbers, ids, lists and nulls by the column map, and a refusal where they do not fit."""

import csv
from pathlib import Path
from typing import Any

from pipelines.pipeline import Draft
from pipelines.sources.tables import Kind, PairColumns, Table
from schemas.reasons import Reason, Refusal

MALFORMED = Reason.SOURCE_MALFORMED


def parsed(folder: Path, rows: list[list[str]], **settings: Any) -> list[Draft | Refusal]:
    with (folder / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    source = Table((str(folder / "a.csv"),), **({"columns": PairColumns(url="url", text="text")} | settings))
    (unit,) = source.units(first_ordinal=0, planned=[])
    return [
        source.parse(row, key=f"00000000-{i:06d}", origin_row=i, unit=unit) for i, row in enumerate(source.rows(unit))
    ]


def test_cells_take_the_type_of_the_column_map(tmp_path: Path) -> None:
    keep = {
        "f": Kind.FLOAT,
        "i": Kind.INT,
        "id": Kind.ID,
        "s": Kind.STRING,
        "l": Kind.LIST_FLOAT,
        "b": Kind.BOXES,
    }
    rows = [
        ["http://a", "t", "0.5", "640.0", "-12", "x", "[1, null]", "[[0.5, 1]]"],
        ["http://a", "t", "", "", "", "", "", ""],
        ["http://a", "t", "NULL", "nan", "00ff", "NULL", "null", "N/A"],
        ["http://a", "t", "inf", "1", "1", "s", "[]", "[]"],
        ["http://a", "t", "1_0", "1", "1", "s", "[]", "[]"],
        ["http://a", "t", "1", "1.5", "1", "s", "[]", "[]"],
        ["http://a", "t", "1", "1", "1", "s", "{}", "[]"],
    ]
    found = parsed(tmp_path, [["url", "text", *keep], *rows], keep=keep)

    assert [draft.attributes for draft in found[:4]] == [
        {"f": 0.5, "i": 640, "id": "-12", "s": "x", "l": [1.0, None], "b": [[0.5, 1.0]]},
        dict.fromkeys(keep),
        {"f": None, "i": None, "id": "00ff", "s": "NULL", "l": None, "b": None},
        {"f": None, "i": 1, "id": "1", "s": "s", "l": [], "b": []},
    ]
    assert found[4:] == [Refusal(MALFORMED, name) for name in "fil"]


def test_captions_of_text_tables_are_lists_in_json(tmp_path: Path) -> None:
    columns = PairColumns(url="url", text="text", captions="c", captions_similarity="s")
    rows = [["http://a", "t", '["a", "b"]', "[0.1, 0.2]"], ["http://a", "t", '["a"]', "[0.1, 0.2]"]]
    rows += [["http://a", "t", "['a']", ""], ["http://a", "t", "", ""]]
    good, uneven, no_json, none = parsed(tmp_path, [["url", "text", "c", "s"], *rows], columns=columns)

    assert [(c.text, c.similarity) for c in good.captions] == [("a", 0.1), ("b", 0.2)]
    assert (uneven, no_json, none.captions) == (Refusal(MALFORMED, "s"), Refusal(MALFORMED, "c"), ())
