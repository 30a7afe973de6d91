"""The plan: generations are only added to, one launcher at a time, and a hole or an overlap is noticed."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import CorpusError
from schemas.plan import Unit, append_generation, generation_name, read_plan
from schemas.storage import LocalStorage

UNITS = [
    Unit(0, "a.parquet", "f", 0, 10),
    Unit(1, "a.jsonl", "f", 10, None, byte_offset=100, byte_length=50),
    Unit(2, "rejects", "f", 0, 2, keys=("00000000-000001", "00000000-000002")),
    Unit(3, "empty.parquet", "f", 0, 0, keys=()),
]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def test_generations_come_back_as_one_plan(storage: LocalStorage) -> None:
    assert read_plan(storage) == []
    assert append_generation(storage, UNITS[:2]) == "plan/000000.parquet"
    assert append_generation(storage, UNITS[2:]) == "plan/000001.parquet"
    assert read_plan(storage) == UNITS


def test_the_second_of_two_launchers_that_plan_the_same_units_stops(storage: LocalStorage) -> None:
    append_generation(storage, UNITS[:1])
    append_generation(storage, UNITS[1:3])  # the other launcher was first
    with pytest.raises(FileExistsError, match="units from 1 on were given, unit 3 is due"):
        append_generation(storage, UNITS[1:2])
    assert read_plan(storage) == UNITS[:3]


def test_of_many_launchers_at_once_one_appends(storage: LocalStorage) -> None:
    for round_ in range(20):
        won = []
        barrier = threading.Barrier(4)

        def plan(round_: int = round_, barrier: Any = barrier, won: list[str] = won) -> None:
            unit = replace(UNITS[0], ordinal=round_)
            barrier.wait()
            try:
                won.append(append_generation(storage, [unit]))
            except FileExistsError:
                return

        threads = [threading.Thread(target=plan) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [generation_name(round_)]
    assert [unit.ordinal for unit in read_plan(storage)] == list(range(20))


def test_a_missing_generation_is_a_hole(storage: LocalStorage) -> None:
    for unit in UNITS[:3]:
        append_generation(storage, [unit])
    storage.delete(generation_name(1))
    with pytest.raises(
        CorpusError, match=r"expected plan/000001\.parquet, found plan/000002\.parquet: the plan has a hole"
    ):
        read_plan(storage)


def test_an_overlap_is_noticed(storage: LocalStorage) -> None:
    append_generation(storage, UNITS[:2])
    storage.create(generation_name(1), storage.read(generation_name(0)))
    with pytest.raises(CorpusError, match="the plan holds unit 0 where 2 is due"):
        read_plan(storage)


@pytest.mark.parametrize("damage", [b"", b"not parquet", b"PAR1 cut"])
def test_a_damaged_generation_is_named(storage: LocalStorage, damage: bytes) -> None:
    storage.create(generation_name(0), damage)
    with pytest.raises(CorpusError, match=r"plan/000000\.parquet: not a readable plan .*restore it from a copy"):
        read_plan(storage)


def test_other_files_beside_the_plan_are_no_generations(storage: LocalStorage) -> None:
    append_generation(storage, UNITS[:1])
    storage.create("plan/000000.duplicates.parquet", b"")
    assert read_plan(storage) == UNITS[:1]
