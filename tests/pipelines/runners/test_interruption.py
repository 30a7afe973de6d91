"""Kill workers, drivers and both, at any moment: each unit has one record, and the bytes are those of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from schemas.corpus import Corpus
from schemas.validate import Severity, sweep, validate
from tests.servers.pictures import PictureServer, write_laion
from tests.small_runs import build, contents, small_pipeline, small_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def web() -> Iterator[PictureServer]:
    with PictureServer() as server:
        yield server


@pytest.fixture(scope="module")
def metadata(web: PictureServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    urls = [f"http://h{i % 60}.example/{'slow/40' if i % 4 else 'missing'}/{i}" for i in range(400)]
    return write_laion(tmp_path_factory.mktemp("metadata") / "part-0.parquet", urls)


@pytest.fixture(scope="module")
def undisturbed(web: PictureServer, metadata: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    corpus = tmp_path_factory.mktemp("undisturbed") / "corpus"
    assert build(small_pipeline(metadata), corpus, small_settings(web)).pending == 0
    return contents(corpus)


def start(corpus: Path, metadata: Path, web: PictureServer, *, workers: int = 2) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.small_driver", str(corpus), str(metadata), str(web.port), str(workers)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def workers_of(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        children = psutil.Process(driver.pid).children()
        # Between fork and exec a child still bears its parent's name; frozen there, it would hold up the fork itself.
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def finish(driver: subprocess.Popen[bytes]) -> None:
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 0, errors.decode()


def gone(processes: list[psutil.Process], *, within_seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=within_seconds)
    return not alive


def check(corpus: Path, undisturbed: dict[str, str]) -> None:
    """One record for each unit, nothing wrong, no orphan after a sweep, and the bytes of the undisturbed run."""
    opened = Corpus.open(str(corpus))
    assert len(list(opened.records())) == len(opened.plan())
    assert [problem for problem in validate(opened) if problem.severity is Severity.ERROR] == []
    sweep(opened)
    assert list(validate(opened)) == []
    assert contents(corpus) == undisturbed


def kill_drivers(corpus: Path, metadata: Path, web: PictureServer, *, times: int, seed: int) -> int:
    dice = random.Random(seed)
    killed = 0
    for _ in range(times):
        driver = start(corpus, metadata, web)
        time.sleep(dice.uniform(0.5, 3.0))
        workers = workers_of(driver)
        killed += driver.poll() is None
        driver.kill()
        driver.communicate(timeout=30)
        assert gone(workers, within_seconds=30), "workers outlive their driver"
    return killed


def kill_workers(corpus: Path, metadata: Path, web: PictureServer, *, times: int, seed: int) -> int:
    dice = random.Random(seed)
    driver = start(corpus, metadata, web)
    killed = 0
    while killed < times and driver.poll() is None:
        time.sleep(dice.uniform(0.2, 1.5))
        workers = workers_of(driver)
        if workers:
            dice.choice(workers).kill()
            killed += 1
    finish(driver)
    return killed


def test_killed_workers_are_replaced_and_their_units_built_again(
    web: PictureServer, metadata: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    assert kill_workers(tmp_path / "corpus", metadata, web, times=2, seed=0) == 2

    check(tmp_path / "corpus", undisturbed)


def test_a_killed_driver_leaves_what_the_next_run_completes(
    web: PictureServer, metadata: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    assert kill_drivers(tmp_path / "corpus", metadata, web, times=2, seed=1) > 0
    finish(start(tmp_path / "corpus", metadata, web))

    check(tmp_path / "corpus", undisturbed)


def test_two_launchers_share_a_corpus(
    web: PictureServer, metadata: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    launchers = [start(tmp_path / "corpus", metadata, web, workers=1) for _ in range(2)]
    for launcher in launchers:
        finish(launcher)

    check(tmp_path / "corpus", undisturbed)


def test_a_worker_frozen_past_the_watchdog_is_replaced(
    web: PictureServer, metadata: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    driver = start(tmp_path / "corpus", metadata, web)
    while not (workers := workers_of(driver)):
        time.sleep(0.02)
    os.kill(workers[0].pid, signal.SIGSTOP)
    finish(driver)

    check(tmp_path / "corpus", undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_four_kills_at_random_moments(
    web: PictureServer, metadata: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    killed = 0
    for seed in range(12):
        workers, drivers = tmp_path / f"workers-{seed}", tmp_path / f"drivers-{seed}"
        killed += kill_workers(workers, metadata, web, times=4, seed=seed)
        check(workers, undisturbed)
        killed += kill_drivers(drivers, metadata, web, times=2, seed=seed)
        finish(start(drivers, metadata, web))
        check(drivers, undisturbed)
        if killed >= 24:
            break
    assert killed >= 24
