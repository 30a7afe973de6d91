"""What one command uses: CPU of its whole process tree, wall clock, memory. Also the small program that counts it.

    run([...]) -> this file as a program, which starts the command -> the operating system's account of all that ended below it

The program is a subreaper: processes whose parents died are handed to it, not to init, so every one is waited for and none goes
uncounted. Its own CPU is not in the account. Memory of the tree is sampled from outside, that of its largest process comes from
the operating system. Not here: which commands are raced (the benchmarks), what is made of the numbers (`harness`).
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_SECONDS = 0.2
_TAIL_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command used.

    cpu_seconds: user and system time of every process of the tree. wall_seconds: from its start to the end of its last process.
    peak_process_bytes: resident memory of the largest process. peak_tree_bytes: sum over the tree, of samples; shared pages count
    once for each process that has them. output: what it printed.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_process_bytes: int
    peak_tree_bytes: int
    output: str


class CommandFailedError(Exception):
    """A command of a benchmark ended with an error; the message has the end of what it printed."""


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Usage:
    """Run a command to its end. Raises `CommandFailedError` unless it ends with 0."""
    with tempfile.TemporaryDirectory() as folder:
        account = Path(folder) / "account.json"
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-S", __file__, account, *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                cwd=cwd,
            )
            with _TreeMemory(process.pid) as memory:
                process.wait()
        output = log.read_text(errors="replace")
        found = json.loads(account.read_text()) if account.exists() else None
    if found is None or found["exit_code"] != 0:
        words = " ".join(map(str, command))
        end = "no exit code: it was killed" if found is None else f"exit code {found['exit_code']}"
        raise CommandFailedError(f"{words}\nended with {end}; it printed:\n{output[-_TAIL_CHARS:]}")
    return Usage(**found["counted"], peak_tree_bytes=memory.peak_bytes, output=output)


class _TreeMemory:
    """Samples the resident memory of a process's descendants while the block runs; not of the process itself."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_TreeMemory":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil  # here, for the counting program starts without site-packages

        while not self._over.wait(_SAMPLE_SECONDS):
            total = 0
            try:
                for child in psutil.Process(self._pid).children(recursive=True):
                    total += _resident_bytes(child)
            except psutil.NoSuchProcess:
                return
            self.peak_bytes = max(self.peak_bytes, total)


def _resident_bytes(process: "psutil.Process") -> int:
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _count(account: Path, command: Sequence[str]) -> None:
    """Run the command, wait for everything it leaves behind, and write down what all of it used."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    started = time.monotonic()
    child = subprocess.Popen(command)
    exit_code = child.wait()
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass  # nothing is left
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    counted = {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "wall_seconds": time.monotonic() - started,
        "peak_process_bytes": used.ru_maxrss * 1024,
    }
    account.write_text(json.dumps({"exit_code": exit_code, "counted": counted}))


if __name__ == "__main__":
    _count(Path(sys.argv[1]), sys.argv[2:])
