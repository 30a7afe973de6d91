"""The decoder around the decoders: loops stay free, memory bounded, and a crash, a hang or a bomb costs one picture."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from PIL import Image

from pipelines.media import decoder as decoder_module
from pipelines.media import image
from pipelines.media.decoder import Decoder
from pipelines.media.image import ImageHeader, OutputFormat, Rendered, RenderSpec, ResizeMode
from schemas.reasons import Refusal, Refused

T = TypeVar("T")

SPEC = RenderSpec(
    mode=ResizeMode.KEEP_RATIO,
    side_pixels=64,
    only_if_bigger=True,
    format=OutputFormat.JPEG,
    quality=90,
    max_pixels=20_000_000,
)

PLANT = """
import ctypes, os, time
from pipelines.media import helper

seen = 0

def answer(settings, body):
    global seen
    seen += 1
    deed = body.rpartition(b"|")[2]
    if deed == b"segfault":
        ctypes.string_at(0)
    if deed == b"exit":
        os._exit(3)
    if deed == b"segfault if not the first" and seen > 1:
        ctypes.string_at(0)
    if deed == b"sleep":
        time.sleep(600)
    if deed == b"sleep in C":
        ctypes.PyDLL(None).sleep(600)
    if deed == b"spin":
        while True:
            pass
    if deed == b"eat":
        bytearray(4 << 30)
    if deed == b"print":
        print("hello from a library")
        os.write(1, b"hello from C")
    if deed == b"babble":
        for descriptor in range(3, 20):
            try:
                os.write(descriptor, b"no frame at all" * 9)
            except OSError:
                pass
    if deed == b"bug":
        raise LookupError("a fault of ours")
    return helper.answer(settings, body)

def main():
    helper.serve(answer)
"""


def a_gif(deed: str = "", colour: str = "teal") -> bytes:
    """A picture for the helper; the plant reads what it should do from behind its end."""
    body = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(body, "GIF")
    return body.getvalue() + b"|" + deed.encode()


def a_png(size: tuple[int, int] = (40, 30)) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", size, "teal").save(body, "PNG")
    return body.getvalue()


async def outcome(rendering: Coroutine[Any, Any, T]) -> T | str:
    try:
        return await rendering
    except Refused as refused:
        return str(refused)


def helpers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "helper" in " ".join(child.cmdline())]


def wait_until(condition: Callable[[], bool], *, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a helper module that does what a body tells it to."""
    (tmp_path / "planted_helper.py").write_text(PLANT)
    monkeypatch.syspath_prepend(tmp_path)
    return "planted_helper"


@pytest.fixture(autouse=True)
def _no_helper_is_left() -> Iterator[None]:
    yield
    assert wait_until(lambda: not helpers())


def test_thread_and_helper_agree_with_a_plain_call(shared_fixtures: Path) -> None:
    files = sorted((shared_fixtures / "images/good").iterdir()) + sorted((shared_fixtures / "images/hostile").iterdir())
    bodies = {file.name: file.read_bytes() for file in files}
    assert len(bodies) > 150

    def plainly(call: Callable[[bytes], T], body: bytes) -> T | Refusal:
        try:
            return call(body)
        except Refused as refused:
            return refused.refusal

    async def through(decoder: Decoder) -> dict[str, tuple[ImageHeader | Refusal, Rendered | Refusal]]:
        async def one(body: bytes) -> tuple[ImageHeader | Refusal, Rendered | Refusal]:
            answers: list[Any] = await asyncio.gather(
                decoder.read_header(body, max_pixels=SPEC.max_pixels),
                decoder.render(body, SPEC),
                return_exceptions=True,
            )
            header, rendered = (answer.refusal if isinstance(answer, Refused) else answer for answer in answers)
            return header, rendered

        return dict(zip(bodies, await asyncio.gather(*map(one, bodies.values())), strict=True))

    with Decoder(threads=2) as decoder:
        in_threads = asyncio.run(through(decoder))
    with Decoder(threads=1, always_in_helper=True) as decoder:
        in_helper = asyncio.run(through(decoder))
    assert in_threads == in_helper
    for name, body in bodies.items():
        if not name.endswith((".tif", "timeout-6646305047838720")):  # libtiff would write to the terminal
            header = plainly(lambda body: image.read_header(body, max_pixels=SPEC.max_pixels), body)
            assert in_threads[name] == (header, plainly(lambda body: image.render(body, SPEC), body)), name


def test_common_formats_start_no_helper() -> None:
    with Decoder(threads=1) as decoder:
        assert asyncio.run(decoder.render(a_png(), SPEC)).width == 40
        assert not helpers()
    with Decoder(threads=1, always_in_helper=True) as decoder:
        assert asyncio.run(decoder.render(a_png(), SPEC)).width == 40
        assert len(helpers()) == 1


@pytest.mark.parametrize("deed", ["segfault", "exit", "babble"])
def test_a_crash_costs_one_picture(planted: str, deed: str) -> None:
    async def run(decoder: Decoder) -> list[Rendered | str]:
        bodies = [a_gif(), a_gif(deed), a_gif(colour="red"), a_gif(deed), a_gif(colour="blue")]
        return list(await asyncio.gather(*(outcome(decoder.render(body, SPEC)) for body in bodies)))

    with Decoder(threads=1, helper_module=planted) as decoder:
        results = asyncio.run(run(decoder))
    assert results[1] == results[3] == "decode.crash"
    expected = [image.render(a_gif(colour=colour), SPEC) for colour in ("teal", "red", "blue")]
    assert results[::2] == expected


def test_a_crash_that_others_caused_costs_none(planted: str) -> None:
    async def run(decoder: Decoder) -> list[int]:
        bodies = [a_gif(), a_gif("segfault if not the first"), a_gif()]
        return [(await decoder.render(body, SPEC)).width for body in bodies]

    with Decoder(threads=1, helper_module=planted) as decoder:
        assert asyncio.run(run(decoder)) == [40, 40, 40]


@pytest.mark.parametrize("deed", ["sleep", "spin"])
def test_a_hang_is_a_timeout_and_holds_up_no_loop(planted: str, deed: str) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.02)
            beats += 1

    async def run(decoder: Decoder) -> tuple[Rendered | str, Rendered | str, int]:
        await decoder.render(a_gif(), SPEC)
        heart = asyncio.create_task(beat())
        hung = await outcome(decoder.render(a_gif(deed), SPEC))
        heart.cancel()
        return hung, await outcome(decoder.render(a_gif(), SPEC)), beats

    with Decoder(threads=1, helper_module=planted, timeout_seconds=1.5) as decoder:
        hung, after, counted = asyncio.run(run(decoder))
    assert hung == "decode.timeout"
    assert isinstance(after, Rendered)
    assert counted > 10


def test_cpu_time_is_limited_besides_the_clock(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = decoder_module._wait
    monkeypatch.setattr(decoder_module, "_wait", lambda *where: wait(*where[:2], time.monotonic() + 60))
    with Decoder(threads=1, helper_module=planted, timeout_seconds=1) as decoder:
        started = time.monotonic()
        assert asyncio.run(outcome(decoder.render(a_gif("spin"), SPEC))) == "decode.timeout"
        assert time.monotonic() - started < 20


def test_a_picture_that_eats_memory_is_a_bomb(planted: str) -> None:
    async def run(decoder: Decoder) -> list[Rendered | str]:
        return [await outcome(decoder.render(body, SPEC)) for body in (a_gif(), a_gif("eat"), a_gif())]

    with Decoder(threads=1, helper_module=planted, helper_memory_bytes=1 << 30) as decoder:
        before, eaten, after = asyncio.run(run(decoder))
    assert eaten == "decode.bomb"
    assert before == after == image.render(a_gif(), SPEC)


def test_memory_is_limited_for_what_pillow_does() -> None:
    body = io.BytesIO()
    Image.new("RGB", (5000, 5000)).save(body, "TIFF", compression="tiff_lzw")
    spec = RenderSpec(**{**{name: getattr(SPEC, name) for name in SPEC.__slots__}, "max_pixels": 30_000_000})
    with Decoder(threads=1, helper_memory_bytes=100 << 20) as decoder:
        assert asyncio.run(outcome(decoder.render(body.getvalue(), spec))) == "decode.bomb"
    with Decoder(threads=1) as decoder:
        assert asyncio.run(decoder.render(body.getvalue(), spec)).width == 64


def test_what_libraries_print_is_no_reply(planted: str) -> None:
    with Decoder(threads=1, helper_module=planted) as decoder:
        assert asyncio.run(decoder.render(a_gif("print"), SPEC)).width == 40


def test_a_fault_of_ours_is_raised_and_not_a_reason(planted: str) -> None:
    with Decoder(threads=1, helper_module=planted) as decoder:
        with pytest.raises(
            RuntimeError, match=r"the image helper failed on a body of .* bytes: LookupError: a fault of ours"
        ):
            asyncio.run(decoder.render(a_gif("bug"), SPEC))
        assert asyncio.run(decoder.render(a_gif(), SPEC)).width == 40


def test_a_helper_that_cannot_start_is_no_crash_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stillborn_helper.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        Decoder(threads=1, helper_module="stillborn_helper") as decoder,
        pytest.raises(RuntimeError, match=r"stillborn_helper did not start \(exit 1\)[\s\S]*no_such_module"),
    ):
        asyncio.run(decoder.render(a_gif(), SPEC))


def test_signals_for_the_parent_do_not_end_its_helper() -> None:
    with Decoder(threads=1) as decoder:
        asyncio.run(decoder.render(a_gif(), SPEC))
        (helper,) = helpers()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(helper.pid, number)
        asyncio.run(decoder.render(a_gif(), SPEC))
        assert [process.pid for process in helpers()] == [helper.pid]


@pytest.mark.parametrize("deed", ["", "sleep in C"])
def test_a_helper_dies_with_its_parent(planted: str, tmp_path: Path, deed: str) -> None:
    """Idle or deep in a library that holds the GIL, and though the parent had no chance to say anything."""
    script = f"""
import asyncio, pathlib, sys, psutil
sys.path.insert(0, {str(tmp_path)!r})
from pipelines.media.decoder import Decoder
from pipelines.media.image import *
body = pathlib.Path({str(tmp_path / "body.gif")!r}).read_bytes()
first = body.rpartition(b"|")[0]
decoder = Decoder(threads=1, helper_module={planted!r}, timeout_seconds=300)

async def run():
    await decoder.read_header(first, max_pixels=10_000)
    print(psutil.Process().children()[0].pid, flush=True)
    await decoder.read_header(body, max_pixels=10_000)
    await asyncio.sleep(300)

asyncio.run(run())
"""
    (tmp_path / "body.gif").write_bytes(a_gif(deed))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        helper_pid = int(parent.stdout.readline())
        assert psutil.pid_exists(helper_pid)
        time.sleep(0.3)  # for the second request to arrive
        parent.kill()
    assert wait_until(lambda: not psutil.pid_exists(helper_pid) or _is_zombie(helper_pid), seconds=10)


def _is_zombie(pid: int) -> bool:
    """Whether it ended, and only an init that reaps no orphans keeps its entry."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Gauge:
    """Stands in for `render`: waits to be released, and counts how many wait at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = self.done = 0
        self.release = threading.Event()

    def __call__(self, body: bytes, spec: RenderSpec, *, layout: object = None) -> Rendered:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.release.wait(20)
        time.sleep(0.02)
        with self.lock:
            self.inside -= 1
            self.done += 1
        return Rendered(b"", 1, 1, 0)


@pytest.fixture
def gauge(monkeypatch: pytest.MonkeyPatch) -> Gauge:
    gauge = Gauge()
    monkeypatch.setattr(decoder_module, "render", gauge)
    return gauge


@pytest.mark.parametrize(("pictures_at_once", "most"), [(0.5, 1), (1, 1), (2, 2), (100, 4)])
def test_pixels_in_flight_are_bounded(gauge: Gauge, pictures_at_once: float, most: int) -> None:
    body = a_png((100, 50))
    gauge.release.set()

    async def run(decoder: Decoder) -> None:
        await asyncio.gather(*(decoder.render(body, SPEC) for _ in range(12)))

    with Decoder(threads=4, max_pixels_in_flight=int(4 * 5000 * pictures_at_once)) as decoder:
        asyncio.run(run(decoder))
    assert gauge.done == 12
    assert gauge.most == most


def test_two_loops_share_one_decoder(gauge: Gauge) -> None:
    gauge.release.set()

    async def run(decoder: Decoder) -> None:
        await asyncio.gather(*(decoder.render(a_png((100, 50)), SPEC) for _ in range(8)))

    with Decoder(threads=4, max_pixels_in_flight=2 * 4 * 5000) as decoder:
        loops = [threading.Thread(target=asyncio.run, args=(run(decoder),)) for _ in range(2)]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join()
    assert gauge.done == 16
    assert gauge.most == 2


def test_cancelled_callers_give_back_what_they_took_or_waited_for(gauge: Gauge) -> None:
    async def run(decoder: Decoder) -> None:
        tasks = [asyncio.create_task(decoder.render(a_png((100, 50)), SPEC)) for _ in range(6)]
        while gauge.inside < 1:
            await asyncio.sleep(0.01)
        for task in tasks[:3]:  # one at work, two that wait
            task.cancel()
        await asyncio.sleep(0.05)
        gauge.release.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [True] * 3 + [False] * 3
        await asyncio.wait_for(decoder.render(a_png((100, 50)), SPEC), 10)

    with Decoder(threads=4, max_pixels_in_flight=4 * 5000) as decoder:
        asyncio.run(run(decoder))
    assert gauge.most == 1
    assert gauge.done == 5  # the first went on to its end


def test_who_waits_behind_a_cancelled_caller_moves_up(gauge: Gauge) -> None:
    small, large = a_png((100, 50)), a_png((100, 100))

    async def run(decoder: Decoder) -> None:
        first = asyncio.create_task(decoder.render(small, SPEC))
        while gauge.inside < 1:
            await asyncio.sleep(0.01)
        tasks = [asyncio.create_task(decoder.render(body, SPEC)) for body in (large, small)]
        await asyncio.sleep(0.1)
        assert gauge.inside == 1  # the large one does not fit beside it, and nobody overtakes
        tasks[0].cancel()
        async with asyncio.timeout(10):
            while gauge.inside < 2:
                await asyncio.sleep(0.01)
        gauge.release.set()
        await asyncio.gather(first, tasks[1])

    with Decoder(threads=4, max_pixels_in_flight=2 * 4 * 5000) as decoder:
        asyncio.run(run(decoder))


def test_refusals_take_nothing_from_the_budget(shared_fixtures: Path) -> None:
    broken = (shared_fixtures / "images/hostile/pillow_truncated_jpeg.jpg").read_bytes()

    async def run(decoder: Decoder) -> None:
        for _ in range(5):
            assert await outcome(decoder.render(broken, SPEC)) == "decode.truncated jpeg"
            assert await outcome(decoder.render(b"plain text", SPEC)) == "decode.unsupported unknown"
        assert (await asyncio.wait_for(decoder.render(a_png(), SPEC), 10)).width == 40

    with Decoder(threads=1, max_pixels_in_flight=10) as decoder:
        asyncio.run(run(decoder))


def test_closing_ends_a_busy_helper_at_once(planted: str) -> None:
    decoder = Decoder(threads=1, helper_module=planted, timeout_seconds=300)

    async def run() -> None:
        await decoder.render(a_gif(), SPEC)
        hung = asyncio.create_task(decoder.render(a_gif("sleep"), SPEC))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await asyncio.to_thread(decoder.close)
        assert time.monotonic() - started < 5
        with pytest.raises(RuntimeError, match="the decoder was closed"):
            await hung

    asyncio.run(run())
    assert not helpers()
