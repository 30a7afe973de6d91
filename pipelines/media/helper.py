"""The helper: a process that decodes one picture after another for its parent, and may die of it.

It reads requests from stdin and writes replies to stdout until stdin ends. A frame is a head, `>IQ`, with the lengths in bytes of
what follows: settings as JSON, then a payload (the body of a picture, or a rendered one). Nothing is ever unpickled. The first
frame it writes, `{"ready": true}`, says that imports worked and limits hold; what goes wrong before that is told on stderr.

No helper outlives its parent: end of stdin ends it when idle, the kernel's death signal (Linux) and the limit on CPU time when
it is busy. Interrupts of a terminal or a scheduler are for the parent to judge; here they would pass for crashes.
Not here: what a lost or late helper means (`decoder`).
"""

import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import cv2

from pipelines.media.image import OutputFormat, RenderSpec, ResizeMode, read_header, render
from schemas.reasons import Refused

HEAD = struct.Struct(">IQ")

Settings: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[Settings, bytes], tuple[Settings, bytes]]

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def main() -> None:
    """Serve the parent. Arguments: its process id, bytes of memory beyond what the libraries take, seconds of CPU per request."""
    serve(answer)


def serve(answer: Answer) -> None:
    """Answer requests by `answer` until there are no more; tests plant their crashes here."""
    parent_pid, memory_bytes, cpu_seconds = (int(argument) for argument in sys.argv[-3:])
    requests, replies = _take_channels()
    _die_with(parent_pid)
    _limit_memory(memory_bytes)
    _write(replies, {"ready": True}, b"")
    os.dup2(1, 2)  # what libtiff and others have to say of broken files is said by the reason
    while (request := _read(requests)) is not None:
        _limit_cpu(cpu_seconds)
        _write(replies, *_reply(answer, *request))


def answer(settings: Settings, body: bytes) -> tuple[Settings, bytes]:
    """Read a header, or render. Raises what these raise."""
    if settings["ask"] == "header":
        header = read_header(body, max_pixels=settings["max_pixels"])
        return {"format": header.format, "width": header.width, "height": header.height}, b""
    spec = RenderSpec(
        mode=ResizeMode(settings["mode"]),
        side_pixels=settings["side_pixels"],
        only_if_bigger=settings["only_if_bigger"],
        format=OutputFormat(settings["format"]),
        quality=settings["quality"],
        max_pixels=settings["max_pixels"],
    )
    rendered = render(body, spec)
    return {"width": rendered.width, "height": rendered.height, "phash": f"{rendered.phash:016x}"}, rendered.payload


def _reply(answer: Answer, settings: Settings, body: bytes) -> tuple[Settings, bytes]:
    try:
        return answer(settings, body)
    except Refused as refused:
        return {"refused": refused.refusal.reason, "detail": refused.refusal.detail}, b""
    except MemoryError:
        return {"out_of_memory": True}, b""
    except Exception as error:  # a fault of this code: the parent raises it in turn
        if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
            return {"out_of_memory": True}, b""
        return {"failed": f"{type(error).__name__}: {error}"}, b""


def _take_channels() -> tuple[BinaryIO, BinaryIO]:
    """Keep stdin and stdout for frames; whoever reads or prints finds the null device in their place."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return requests, replies


def _die_with(parent_pid: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the signal was ordered
        sys.exit("the parent is gone")


def _limit_memory(memory_bytes: int) -> None:
    """Address space beyond what is mapped now; no core files, for crashes are expected here."""
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        mapped_pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        _limit(resource.RLIMIT_AS, mapped_pages * resource.getpagesize() + memory_bytes)


def _limit_cpu(cpu_seconds: int) -> None:
    """From now on: the kernel counts from the start of the process, and ends it with SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds)


def _limit(kind: int, wanted: int) -> None:
    most = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _read(channel: BinaryIO) -> tuple[Settings, bytes] | None:
    head = channel.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    settings_bytes, payload_bytes = HEAD.unpack(head)
    settings, payload = channel.read(settings_bytes), channel.read(payload_bytes)
    return (json.loads(settings), payload) if len(payload) == payload_bytes else None


def _write(channel: BinaryIO, settings: Settings, payload: bytes) -> None:
    encoded = json.dumps(settings).encode()
    channel.write(HEAD.pack(len(encoded), len(payload)) + encoded)
    channel.write(payload)
    channel.flush()
