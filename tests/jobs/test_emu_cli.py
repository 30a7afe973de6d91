"""The frame of `emu`: what it lists, how it fails, and what it says to a person and to a script."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.emu_process import emu, emu_here


def test_help_lists_every_command_and_each_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    run = emu("--help")
    assert run.returncode == 0
    for command in ("demo", "plan", "build", "validate", "inspect"):
        assert command in run.stdout
        of_command = emu_here(capsys, command, "--help")
        assert of_command.returncode == 0, of_command.stderr
        assert f"Usage: emu {command}" in of_command.stdout


def test_an_unknown_command_is_refused_with_the_nearest_name() -> None:
    run = emu("biuld")
    assert run.returncode == 2
    assert "Did you mean 'build'?" in run.stderr


def test_a_missing_argument_is_bad_usage() -> None:
    run = emu("build", "laion-2b")
    assert run.returncode == 2
    assert "--output" in run.stderr


@pytest.mark.parametrize("wanted", [False, True])
def test_a_fault_of_ours_is_said_shortly_and_shown_when_asked_for(wanted: bool, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "import jobs.validate\n"
        "def validate(corpus: str) -> None:\n    raise ZeroDivisionError('planted [/x]')\n"
        "jobs.validate.validate = validate\n"
        "from jobs.cli import main\n"
        "main()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, "validate", "x"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"EMU_TRACEBACK": "1"} if wanted else {},
    )
    assert run.returncode == 1
    assert "error: ZeroDivisionError: planted [/x]" in run.stderr
    assert "EMU_TRACEBACK=1" in run.stderr
    assert ("Traceback (most recent call last)" in run.stderr) is wanted


def test_a_reader_that_goes_away_is_no_fault(corpus: Path) -> None:
    script = f"{Path(sys.executable).with_name('emu')} inspect {corpus} | true"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in run.stderr
    assert "fault" not in run.stderr
