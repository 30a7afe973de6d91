"""What was wrong with a target while it was looked at: said at the end, in few lines, and never a reason to stop looking."""

from collections import Counter

MOST_NOTES = 20
_MOST_PER_FILE = 3


class Notes:
    """Findings, each with the file it is of; a file with thousands lists three, a target with thousands of files twenty."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.more = 0
        self._by_file: Counter[str] = Counter()

    def add(self, file: str, finding: str) -> None:
        """Note one finding: which file, what was found, what to do."""
        self._by_file[file] += 1
        if self._by_file[file] <= _MOST_PER_FILE and len(self.lines) < MOST_NOTES:
            self.lines.append(f"{file}: {finding}")
        else:
            self.more += 1
        if len(self._by_file) > 10 * MOST_NOTES:
            self._by_file.clear()

    def __bool__(self) -> bool:
        return bool(self.lines)
