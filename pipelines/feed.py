"""Which unit is next: the launcher's list of what is planned and not committed, shared politely with other launchers.

Every launcher begins at a place of its own and walks round, so that neighbouring units stay together and launchers meet late.
Claims are advisory: a unit claimed by a live launcher waits until it is committed or the claim goes stale; records alone decide.
Not here: building (`worker`), processes (`runners`).
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.worker import Assignment
from schemas.claims import Claims
from schemas.corpus import SAMPLES, Corpus
from schemas.plan import Unit
from schemas.record import Content, Totals

_TICK_SECONDS = 5.0


@dataclass(slots=True)
class Failure:
    """A unit that was given up: its number, source, how often it was tried, and the last cause."""

    unit: Unit
    attempts: int
    cause: str


@dataclass(slots=True)
class UnitFeed:
    """Units to build, those in hand, and what became of the others. Used from one thread."""

    corpus: Corpus
    claims: Claims
    units: Sequence[Unit]
    max_attempts: int
    start: int = 0
    totals: Totals = field(default_factory=Totals)
    failures: dict[int, Failure] = field(default_factory=dict)
    halted: bool = False
    _pending: deque[Assignment] = field(default_factory=deque)
    _in_hand: dict[int, Assignment] = field(default_factory=dict)
    _others: set[int] = field(default_factory=set)
    _next_tick: float = 0.0

    def __post_init__(self) -> None:
        self._pending.extend(Assignment(unit) for unit in self.units)
        self._pending.rotate(-self.start)
        self.tick()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to build, here or at another launcher, or nothing more can be."""
        return self.halted or (not self._pending and not self._in_hand)

    @property
    def num_done(self) -> int:
        """Units that this launcher has seen committed."""
        return self.totals.units

    def take(self) -> Assignment | None:
        """The next unit to build; None while there is none, or all that are left are claimed by others."""
        for _ in range(len(self._pending)):
            assignment = self._pending.popleft()
            if assignment.unit.ordinal not in self._others:
                self._in_hand[assignment.unit.ordinal] = assignment
                return assignment
            self._pending.append(assignment)
        return None

    def done(self, content: Content) -> None:
        """A unit in hand is committed."""
        if self._in_hand.pop(content.unit, None) is not None:
            self.totals = self.totals.add(content)

    def lost(self, ordinal: int, cause: str, *, blamed: bool = True) -> None:
        """A unit in hand was lost with its worker: try again, with every decode in the helper if it is to blame, or give it up."""
        assignment = self._in_hand.pop(ordinal, None)
        if assignment is None:
            return
        if not blamed:
            self._pending.appendleft(assignment)
        elif assignment.attempt >= self.max_attempts:
            self.failures[ordinal] = Failure(assignment.unit, assignment.attempt, cause)
        else:
            self._pending.appendleft(Assignment(assignment.unit, assignment.attempt + 1, isolated=True))

    def failed(self, ordinal: int, cause: str, *, fatal: bool = False) -> None:
        """A unit in hand cannot be built, and would fail again; `fatal` if every other unit would too: the run ends."""
        assignment = self._in_hand.pop(ordinal, None)
        if assignment is not None:
            self.failures[ordinal] = Failure(assignment.unit, assignment.attempt, cause)
        self.halted = self.halted or fatal

    def tick(self) -> None:
        """Every few seconds: renew our claims, look at those of others, and let go of what others have committed."""
        if time.monotonic() < self._next_tick:
            return
        self._next_tick = time.monotonic() + _TICK_SECONDS
        self.claims.renew(SAMPLES, sorted(self._in_hand))
        before = self._others
        self._others = self.claims.others(SAMPLES) - self._in_hand.keys()
        if before or self._others:
            committed = self.corpus.committed(SAMPLES)
            self._pending = deque(a for a in self._pending if a.unit.ordinal not in committed)
