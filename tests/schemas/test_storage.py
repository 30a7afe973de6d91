"""Storage: a name appears whole or not at all, once, and never outside the corpus."""

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import CorpusError, UserError
from schemas.storage import SCRATCH, LocalStorage, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "corpus")


def put(folder: Path, data: bytes, name: str = "made") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def listing(storage: LocalStorage, folder: str = "") -> list[str]:
    return [entry.name for entry in storage.list(folder)]


def test_create_publish_replace_read_and_delete(storage: LocalStorage, tmp_path: Path) -> None:
    storage.create("records/a.json", b"one")
    storage.publish(put(tmp_path, b"0123456789"), "samples/b.tar")
    storage.replace("README.md", b"old")
    storage.replace("README.md", b"new")
    assert storage.read("records/a.json") == b"one"
    assert storage.read_range("samples/b.tar", 3, 4) == b"3456"
    assert storage.read_range("samples/b.tar", 8, 40) == b"89"
    assert storage.read("README.md") == b"new"
    assert [storage.size(name) for name in ("samples/b.tar", "samples/c.tar", "README.md/x")] == [10, None, None]
    assert listing(storage) == ["README.md"]
    assert list(storage.folders("")) == ["records", "run", "samples"]
    assert listing(storage, "nowhere") == list(storage.folders("nowhere")) == []
    storage.delete("README.md")
    storage.delete("README.md")
    assert storage.size("README.md") is None
    assert listing(storage, SCRATCH) == []


def test_a_name_that_exists_is_not_created_again(storage: LocalStorage) -> None:
    storage.create("a", b"first")
    with pytest.raises(FileExistsError):
        storage.create("a", b"second")
    assert storage.read("a") == b"first"
    assert listing(storage, SCRATCH) == []


def test_of_many_threads_one_creates(storage: LocalStorage) -> None:
    for round_ in range(50):
        won = []
        barrier = threading.Barrier(8)

        def attempt(me: int, round_: int = round_, barrier: Any = barrier, won: list[int] = won) -> None:
            barrier.wait()
            try:
                storage.create(f"race/{round_}", b"%d" % me * 1000)
            except FileExistsError:
                return
            won.append(me)

        threads = [threading.Thread(target=attempt, args=(me,)) for me in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read(f"race/{round_}") == b"%d" % won[0] * 1000


def _create_all(root: str, me: int, barrier: Any, won: Any) -> None:
    storage = LocalStorage(Path(root))
    barrier.wait()
    for number in range(200):
        try:
            storage.create(f"race/{number}", b"%d" % me)
        except FileExistsError:
            continue
        won.put((number, me))
    won.put(None)


def test_of_many_processes_one_creates(storage: LocalStorage) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_create_all, args=(storage.url, me, barrier, won)) for me in range(3)]
    for worker in workers:
        worker.start()
    winners = [pair for _ in workers for pair in iter(won.get, None)]
    for worker in workers:
        worker.join()
    assert sorted(number for number, _ in winners) == list(range(200))
    assert all(storage.read(f"race/{number}") == b"%d" % me for number, me in winners)


def test_an_equal_file_that_is_there_is_left_alone_and_made_young_again(storage: LocalStorage, tmp_path: Path) -> None:
    storage.publish(put(tmp_path, b"content", "one"), "samples/a.tar")
    os.utime(tmp_path / "corpus/samples/a.tar", (1.0, 1.0))
    storage.publish(put(tmp_path, b"content", "two"), "samples/a.tar")
    (entry,) = storage.list("samples")
    assert (entry.name, entry.bytes) == ("samples/a.tar", 7)
    assert entry.modified_unix_seconds > 1.0


def test_a_file_of_that_name_but_another_size_is_damaged(storage: LocalStorage, tmp_path: Path) -> None:
    storage.publish(put(tmp_path, b"cut", "one"), "samples/a.tar")
    with pytest.raises(
        CorpusError, match=r"a\.tar: holds 3 bytes, but the file of that content hash has 7.*emu validate"
    ):
        storage.publish(put(tmp_path, b"content", "two"), "samples/a.tar")


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_a_file_of_another_file_system_is_copied_first(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real, source = os.link, put(tmp_path, b"content")

    def link(found: Path, target: Path) -> None:
        if found == source:
            raise OSError(code, "no link from there")
        real(found, target)

    monkeypatch.setattr(os, "link", link)
    storage.publish(source, "samples/a.tar")
    storage.publish(source, "samples/a.tar")
    assert storage.read("samples/a.tar") == b"content"
    assert [*listing(storage, SCRATCH), *storage.folders(SCRATCH)] == []


@pytest.mark.parametrize("verb", ["create", "replace"])
def test_a_crash_while_writing_leaves_no_name(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def fsync(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        getattr(storage, verb)("a", b"x" * 100_000)
    assert listing(storage) == listing(storage, SCRATCH) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from schemas import storage
storage.os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
storage.LocalStorage(Path(sys.argv[1])).create("samples/a", b"x" * 1000)
"""


def test_a_kill_while_writing_leaves_no_name(storage: LocalStorage) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, storage.url], check=False)
    assert killed.returncode == -9
    assert listing(storage, "samples") == []


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "samples/../../outside", "a/.."])
def test_no_name_leads_out_of_the_corpus(storage: LocalStorage, tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match="does not lie inside the corpus"):
        storage.create(name, b"")
    with pytest.raises(CorpusError, match="does not lie inside the corpus"):
        storage.read(name)
    assert not (tmp_path / "outside").exists()


def test_scratch_is_gone_afterwards_whatever_happens(storage: LocalStorage) -> None:
    with suppress(RuntimeError), storage.scratch() as folder:
        put(folder, b"x")
        raise RuntimeError
    assert list(storage.folders(SCRATCH)) == []


def test_urls(tmp_path: Path) -> None:
    assert open_storage(str(tmp_path)).url == open_storage(f"file://{tmp_path}").url == str(tmp_path)
    with pytest.raises(UserError, match="corpora on gs:// are not supported; give a local folder"):
        open_storage("gs://bucket/corpus")
