"""Claims: what live launchers are at, by the storage's own clock; nothing that is wrong with them does harm."""

import os
import time
from pathlib import Path

import pytest

from schemas.claims import LIVE_SECONDS, Claims, live_launchers, storage_clock
from schemas.errors import UserError
from schemas.storage import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def age(storage: LocalStorage, launcher: str, seconds: float) -> None:
    stamp = storage_clock(storage) - seconds
    os.utime(f"{storage.url}/run/launchers/{launcher}.json", (stamp, stamp))


def test_each_sees_what_the_others_are_at(storage: LocalStorage) -> None:
    one, two = Claims(storage, "one"), Claims(storage, "two")
    assert one.others("samples") == set()
    one.renew("samples", [1, 2])
    two.renew("samples", [7])
    two.renew("features/a", [3])
    assert one.others("samples") == {7}
    assert two.others("samples") == {1, 2}
    assert one.others("features/a") == {3}
    two.renew("samples", [8])
    assert one.others("samples") == {8}
    assert live_launchers(storage) == ["one", "two"]
    two.release()
    assert one.others("samples") == set()
    assert live_launchers(storage) == ["one"]


def test_a_launcher_that_stopped_renewing_is_dead(storage: LocalStorage) -> None:
    one, two = Claims(storage, "one"), Claims(storage, "two")
    one.renew("samples", [1])
    two.renew("samples", [2])
    age(storage, "two", LIVE_SECONDS - 5)
    assert one.others("samples") == {2}
    age(storage, "two", LIVE_SECONDS + 1)
    assert one.others("samples") == set()
    assert live_launchers(storage) == ["one"]


@pytest.mark.parametrize("hours", [-2, 2])
def test_this_host_may_be_hours_off_the_storage(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    one, two = Claims(storage, "one"), Claims(storage, "two")
    one.renew("samples", [1])
    two.renew("samples", [2])
    off = time.time() + hours * 3600
    monkeypatch.setattr(time, "time", lambda: off)
    assert one.others("samples") == {2}
    assert live_launchers(storage) == ["one", "two"]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"claims":3}', b'{"claims":{"samples":["x",4]}}', b"[" * 99_999]
)
def test_a_damaged_file_claims_what_can_be_read_of_it(storage: LocalStorage, damage: bytes) -> None:
    storage.replace("run/launchers/two.json", damage)
    assert Claims(storage, "one").others("samples") <= {4}
    assert live_launchers(storage) == ["two"]


def test_the_clock_leaves_nothing_behind(storage: LocalStorage) -> None:
    assert abs(storage_clock(storage) - time.time()) < 60
    assert [path for path in Path(storage.url).rglob("*") if path.is_file()] == []


def test_an_id_is_a_file_name(storage: LocalStorage) -> None:
    with pytest.raises(UserError, match=r"launcher id '\.\./x': use letters, digits"):
        Claims(storage, "../x")
