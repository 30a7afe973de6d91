"""Checks of the settings of steps: what is off is said when the step is built, before any row is read.

A message names the setting, what was found and what was expected; the loader of recipes puts the place before it.
"""

import math
from typing import Any


def check_float(step: Any, name: str, *, low: float, high: float = math.inf) -> None:
    """Require a finite number within `low` and `high`, and keep it as a float: `3` and `3.0` are one recipe with one hash."""
    value = getattr(step, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: found {value!r}, expected a finite number")
    if not low <= value <= high:
        expected = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise ValueError(f"{name}: found {value!r}, expected {expected}")
    object.__setattr__(step, name, float(value))


def check_int(step: Any, name: str, *, low: int, high: int) -> None:
    """Require a whole number within `low` and `high`."""
    value = getattr(step, name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: found {value!r}, expected a whole number from {low:,} to {high:,}")


def check_column(step: Any, name: str = "column") -> None:
    """Require a column's name."""
    if not getattr(step, name):
        raise ValueError(f"{name}: found an empty string, expected the name of a source column")


def check_words(step: Any, name: str) -> None:
    """Require at least one word, and keep them as a sorted tuple without repeats: their order decides nothing."""
    value = getattr(step, name)
    if isinstance(value, str) or not value or not all(isinstance(word, str) and word for word in value):
        raise ValueError(f"{name}: found {value!r}, expected a list of at least one word")
    object.__setattr__(step, name, tuple(sorted(set(value))))
