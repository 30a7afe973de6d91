"""A web of photographs, small metadata of it, and a corpus built from both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.demo.site import Behaviour, pages, write_rows
from jobs.demo.web import DemoWeb
from tests.emu_process import emu

CONTACT = "mailto:tests@example.org"
HASTE = ("requests_per_second_per_host=1000", "connections_per_host=16", "retry_wait_seconds=0.01")


@pytest.fixture(scope="session")
def web() -> Iterator[DemoWeb]:
    with DemoWeb() as server:
        yield server


@pytest.fixture(scope="session")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one parquet file of 60 rows, good and bad, none of which takes long."""
    folder = tmp_path_factory.mktemp("laion")
    slow = {Behaviour.LATE, Behaviour.STALL, Behaviour.BUSY_ONCE, Behaviour.BROKEN_SERVER}
    write_rows(folder / "part-00000.parquet", [page for page in pages() if page.behaviour not in slow][:60])
    return folder


@pytest.fixture(scope="session")
def build_flags(web: DemoWeb) -> list[str]:
    """What a build needs to reach the web, and to reach it fast: it is ours."""
    flags = ["--contact", CONTACT, "--workers", "1"]
    flags += [part for mapping in web.connect_to for part in ("--connect-to", mapping)]
    return flags + [part for setting in HASTE for part in ("--fetch", setting)]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, metadata: Path, build_flags: list[str]) -> Path:
    """A finished corpus of six units; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("built") / "corpus"
    run = emu(
        "build", "laion-2b", "--input", metadata, "--output", folder, "--set", "source.rows_per_unit=10", *build_flags
    )
    assert run.returncode == 0, run.stderr
    return folder
