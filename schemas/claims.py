"""Which units the launchers that share a corpus are at: advice, so that two of them rarely build the same unit.

Each launcher rewrites `run/launchers/ID.json` every few seconds; it is live while that file is younger than `LIVE_SECONDS`.
Ages are differences between two times that the storage itself stamped, never this host's clock against the storage's: hosts
of a cluster disagree by minutes. Claims are never trusted: a wrong one costs a unit built twice, of which one record
wins (`Corpus.create_record`). Not here: in which order units are walked (runners).
"""

import json
import re
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import PurePosixPath

from schemas import canonical
from schemas.errors import UserError
from schemas.storage import Entry, Storage

LAUNCHERS = "run/launchers"
LAUNCHER_FORMAT = "emu-launcher/1"
LIVE_SECONDS = 60.0

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_CLOCKS = "run/clocks"


class Claims:
    """The claims of one launcher, and a look at those of the others. Every method may be called from any thread."""

    def __init__(self, storage: Storage, launcher_id: str) -> None:
        if not _ID.fullmatch(launcher_id):
            raise UserError(f"launcher id {launcher_id!r}: use letters, digits, _ and - (at most 100, no leading mark)")
        self._storage = storage
        self._name = f"{LAUNCHERS}/{launcher_id}.json"
        self._claims: dict[str, list[int]] = {}
        self._renewed: float | None = None
        self._lock = threading.Lock()

    def renew(self, column: str, units: Iterable[int]) -> None:
        """Say that this launcher lives and is at these units of the column; call it well within every `LIVE_SECONDS`."""
        with self._lock:
            self._claims[column] = sorted(set(units))
            self._write()

    def others(self, column: str) -> set[int]:
        """Units of the column that other live launchers are at."""
        with self._lock:
            now = self._now()
        claimed: set[int] = set()
        for entry in _launchers(self._storage):
            if entry.name != self._name and _is_live(entry, now):
                claimed.update(_claimed(self._storage, entry.name, column))
        return claimed

    def release(self) -> None:
        """This launcher is at nothing any more; the others see so at once."""
        with self._lock:
            self._claims.clear()
            self._renewed = None
            self._storage.delete(self._name)

    def _write(self) -> None:
        content = {"format": LAUNCHER_FORMAT, "claims": self._claims}
        self._storage.replace(self._name, canonical.dumps(content))
        self._renewed = time.monotonic()

    def _now(self) -> float:
        """The storage's clock: the stamp of our own file, and the time since we wrote it."""
        mine = next((entry for entry in _launchers(self._storage) if entry.name == self._name), None)
        if mine is None or self._renewed is None:
            return storage_clock(self._storage)
        return mine.modified_unix_seconds + time.monotonic() - self._renewed


def live_launchers(storage: Storage) -> list[str]:
    """Ids of the launchers that renewed their claims less than `LIVE_SECONDS` ago, sorted."""
    entries = list(_launchers(storage))
    if not entries:
        return []
    now = storage_clock(storage)
    return sorted(PurePosixPath(entry.name).stem for entry in entries if _is_live(entry, now))


def storage_clock(storage: Storage) -> float:
    """Unix seconds by the clock that stamps this storage's files: that of a file written for the purpose."""
    name = f"{_CLOCKS}/{uuid.uuid4().hex}"
    storage.replace(name, b"")
    try:
        return next(entry.modified_unix_seconds for entry in storage.list(_CLOCKS) if entry.name == name)
    finally:
        storage.delete(name)


def _launchers(storage: Storage) -> Iterable[Entry]:
    return (entry for entry in storage.list(LAUNCHERS) if entry.name.endswith(".json"))


def _is_live(entry: Entry, now: float) -> bool:
    return now - entry.modified_unix_seconds < LIVE_SECONDS


def _claimed(storage: Storage, name: str, column: str) -> set[int]:
    """The claims in a launcher's file; none if it is gone or unreadable, for they are only advice."""
    try:
        units = json.loads(storage.read(name))["claims"].get(column, [])
        return {unit for unit in units if isinstance(unit, int)}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
