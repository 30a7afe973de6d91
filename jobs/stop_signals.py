"""Ctrl-C and SIGTERM: the first lets a run stop soon, with all that is committed intact; the second ends the process at once.

Ending at once is safe too: a unit counts from the moment its record exists, and workers end when their driver is gone.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def stop_on_signal(announce: Callable[[str], None], *, exit_code: int) -> Iterator[threading.Event]:
    """An event that the first signal sets; `announce` is told its name. The second ends the process with `exit_code`."""
    stop = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            if sys.stderr.isatty():
                sys.stderr.write(_SHOW_CURSOR)
                sys.stderr.flush()
            os._exit(exit_code)
        stop.set()
        announce(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
