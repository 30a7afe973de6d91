"""The `emu` command as a process of its own, and what of a corpus two runs must have in common."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import main

EMU = Path(sys.executable).with_name("emu")


def emu(*arguments: object, cwd: Path | None = None, timeout: float = 40) -> "subprocess.CompletedProcess[str]":
    """Run `emu` to its end."""
    command = [str(EMU), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False, env=environment()
    )


def emu_here(capsys: pytest.CaptureFixture[str], *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run `emu` in this process: for the many ways to be refused, where a process of its own would only cost time."""
    command = ["emu", *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
    printed = capsys.readouterr()
    return subprocess.CompletedProcess(command, int(end.value.code or 0), printed.out, printed.err)


def environment() -> dict[str, str]:
    """No terminal, no colours, no settings of the person who runs the tests."""
    unwanted = ("EMU_", "FORCE_COLOR", "TTY_", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def content_of(corpus: Path) -> dict[str, str]:
    """Digest by name of everything that two runs of one plan must share: all files, and records without their `run` part."""
    digests: dict[str, str] = {}
    for path in sorted(p for p in corpus.rglob("*") if p.is_file()):
        name = path.relative_to(corpus).as_posix()
        if name.startswith("run/"):
            continue
        data = path.read_bytes()
        if name.startswith("records/"):
            data = json.dumps(json.loads(data)["content"]).encode()
        digests[name] = hashlib.sha256(data).hexdigest()
    return digests
