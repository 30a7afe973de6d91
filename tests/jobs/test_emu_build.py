"""`emu plan` and `emu build` from the command line: begin, go on, stop, refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.demo.web import DemoWeb
from tests.emu_process import EMU, content_of, emu, emu_here, environment

UNITS = "source.rows_per_unit=10"
RECORDS = "records/samples/*/*.json"


def build_arguments(metadata: Path, corpus: Path, flags: list[str], *more: str) -> list[str]:
    return ["build", "laion-2b", "--input", str(metadata), "--output", str(corpus), "--set", UNITS, *flags, *more]


def test_both_ledgers_are_told_and_add_up(corpus: Path, metadata: Path, build_flags: list[str]) -> None:
    run = emu(*build_arguments(metadata, corpus, build_flags, "--json"))
    counts = json.loads(run.stdout)["totals"]["counts"]
    assert counts["rows"] == counts["samples"] + counts["rejected_rows"] == 60
    assert counts["images_asked"] == counts["images"] + counts["rejected_images"] == 60
    assert counts["samples"] > 30
    assert counts["rejected_rows"] > 5


def test_a_second_run_finds_nothing_to_do_and_asks_nobody(
    corpus: Path, metadata: Path, build_flags: list[str], web: DemoWeb
) -> None:
    before, requests = content_of(corpus), dict(web.requests)
    run = emu(*build_arguments(metadata, corpus, build_flags))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("Nothing is left to build: all 6 units are committed.")
    assert content_of(corpus) == before
    assert web.requests == requests


def test_the_summary_names_ledgers_reasons_and_what_to_do_next(
    tmp_path: Path, metadata: Path, build_flags: list[str]
) -> None:
    run = emu(*build_arguments(metadata, tmp_path / "c", build_flags))
    assert run.returncode == 0
    for words in ("Built 6 units", "rows", "samples +", "images", "kept +", "http.404", "Next: emu inspect"):
        assert words in run.stdout
    assert all(line == line.rstrip() for line in run.stdout.splitlines())


def test_plan_says_what_a_build_would_do_and_writes_nothing(tmp_path: Path, metadata: Path) -> None:
    run = emu("plan", "laion-2b", "--input", metadata, "--set", UNITS, "--json", cwd=tmp_path)
    told = json.loads(run.stdout)
    assert (told["units"], told["rows_missing"], told["expectation"]) == (6, 60, "assumed")
    assert told["expected_samples"] == 36
    assert list(tmp_path.iterdir()) == []


def test_plan_of_a_corpus_counts_what_is_left_and_measures(tmp_path: Path, corpus: Path, metadata: Path) -> None:
    more = tmp_path / "more"
    shutil.copytree(metadata, more)
    shutil.copy(metadata / "part-00000.parquet", more / "part-00001.parquet")
    before = content_of(corpus)
    both = ["--input", str(metadata), "--input", str(more / "part-00001.parquet")]
    run = emu("plan", "laion-2b", *both, "--set", UNITS, "--output", corpus, "--json")
    told = json.loads(run.stdout)
    assert (told["units"], told["units_missing"], told["rows_missing"], told["expectation"]) == (12, 6, 60, "measured")
    held = sum(path.stat().st_size for path in (corpus / "samples").glob("*.tar"))
    assert told["expected_bytes"] == held  # as many rows again as were measured
    assert content_of(corpus) == before


def test_plan_shows_every_step_with_its_settings(metadata: Path) -> None:
    run = emu("plan", "laion-2b", "--input", metadata, "--set", "max_watermark=null")
    assert run.returncode == 0
    assert "min_similarity" in run.stdout
    assert "cosine 0.28" in run.stdout
    assert "max_watermark" not in run.stdout


def test_inputs_that_a_shell_made_of_a_pattern_are_all_read(tmp_path: Path, metadata: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(metadata / "part-00000.parquet", tmp_path / f"{name}.parquet")
    expanded = sorted(map(str, tmp_path.glob("*.parquet")))
    run = emu("plan", "laion-2b", "--input", *expanded, "--json")
    assert json.loads(run.stdout)["rows_missing"] == 180


def test_a_unit_that_cannot_be_read_is_named_and_the_others_are_built(
    tmp_path: Path, metadata: Path, build_flags: list[str]
) -> None:
    folder = Path(shutil.copytree(metadata, tmp_path / "in"))
    damaged, sound = folder / "part-00001.parquet", (metadata / "part-00000.parquet").read_bytes()
    damaged.write_bytes(sound[:4] + bytes(4000) + sound[4004:])  # its footer is as it was
    arguments = build_arguments(folder, tmp_path / "c", [*build_flags, "--set", "source.rows_per_unit=60"])
    run = emu(*arguments)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "failed: unit 1 (part-00001.parquet, rows 0 to 59), tried once: " in run.stdout
    assert "the file is damaged" in run.stdout
    assert "1 of 2 units are pending" in run.stdout

    stat = damaged.stat()
    damaged.write_bytes(sound)
    os.utime(damaged, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    run = emu(*arguments, "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["units_pending"], told["units_built"], told["failures"]) == (0, 1, [])
    assert told["totals"]["counts"]["rows"] == 120


# What cannot serve is refused before any work


def _columns(**columns: pa.Array) -> Callable[[Path], None]:
    return lambda folder: pq.write_table(pa.table(columns), folder / "bad.parquet")


_SCORES = {"similarity": pa.array([0.3]), "punsafe": pa.array([0.0]), "pwatermark": pa.array([0.0])}

BAD_FILES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing column": (
        _columns(URL=pa.array(["http://a.demo.test/"]), **_SCORES),
        ("bad.parquet", "'TEXT' is missing"),
    ),
    "missing score": (
        _columns(URL=pa.array(["http://a.demo.test/"]), TEXT=pa.array(["a"]), similarity=pa.array([0.3])),
        ("bad.parquet", "'punsafe' is missing", "max_unsafe=null"),
    ),
    "wrong type": (
        _columns(URL=pa.array([1]), TEXT=pa.array(["a"]), **_SCORES),
        ("bad.parquet", "'URL' holds int64, expected text"),
    ),
    "empty file": (lambda folder: (folder / "bad.parquet").touch(), ("bad.parquet is empty",)),
    "no parquet": (
        lambda folder: (folder / "bad.parquet").write_text("x" * 100),
        ("bad.parquet is not a readable parquet file",),
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_metadata_that_cannot_serve_is_refused(
    name: str, tmp_path: Path, build_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = BAD_FILES[name]
    folder = tmp_path / "in"
    folder.mkdir()
    make(folder)
    run = emu_here(capsys, *build_arguments(folder, tmp_path / "out", build_flags))
    assert_refused(run, *words, untouched=tmp_path / "out")


BAD_ARGUMENTS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "unknown setting": (["--set", "min_side.pixel=3"], ("unknown setting 'pixel'", "did you mean 'pixels'?")),
    "unknown step": (["--set", "min_syde.pixels=3"], ("min_syde", "did you mean 'min_side'?")),
    "wrong value": (["--set", "min_side.pixels=many"], ("min_side.pixels", "'many'")),
    "unknown fetch setting": (
        ["--fetch", "max_retry=3"],
        ("unknown setting 'max_retry'", "did you mean 'max_retries'?"),
    ),
    "bad fetch setting": (["--fetch", "max_retries=-3"], ("max_retries: found -3, expected at least 0",)),
    "bad mapping": (["--connect-to", "nonsense"], ("connect_to: 'nonsense' is not HOST:PORT:TOHOST:TOPORT",)),
    "no such certificates": (["--ca-file", "no.pem"], ("ca_file: 'no.pem' cannot be read",)),
    "no such engine": (["--runner", "spark"], ("--runner spark", "local")),
    "bad contact": (["--contact", "mailto:ä@b.c"], ("contact", "must be printable ASCII")),
    "no contact": (["--contact", ""], ("nothing is fetched without a contact", "--contact mailto:")),
    "bad name": (["--name", "../up"], ("corpus name '../up'",)),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_arguments_that_cannot_serve_are_refused(
    name: str, tmp_path: Path, metadata: Path, build_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more, words = BAD_ARGUMENTS[name]
    run = emu_here(capsys, *build_arguments(metadata, tmp_path / "out", build_flags, *more))
    assert_refused(run, *words, untouched=tmp_path / "out")


def test_an_unknown_recipe_is_refused_with_the_nearest_name(tmp_path: Path, metadata: Path) -> None:
    run = emu("build", "laoin-2b", "--input", metadata, "--output", tmp_path / "out")
    assert_refused(run, "no recipe 'laoin-2b'", "did you mean 'laion-2b'?", untouched=tmp_path / "out")


@pytest.mark.parametrize("output", ["in/corpus", "in", "."])
def test_output_that_overlaps_the_input_is_refused(
    output: str, tmp_path: Path, metadata: Path, build_flags: list[str]
) -> None:
    shutil.copytree(metadata, tmp_path / "in")
    run = emu(*build_arguments(Path("in"), Path(output), build_flags), cwd=tmp_path)
    assert_refused(run, "overlap")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "part-00000.parquet"]


def test_output_that_cannot_be_written_is_refused(tmp_path: Path, metadata: Path, build_flags: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    run = emu(*build_arguments(metadata, tmp_path / "file" / "out", build_flags))
    assert_refused(run, str(tmp_path / "file" / "out"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_without_permission_is_refused(tmp_path: Path, metadata: Path, build_flags: list[str]) -> None:
    tmp_path.chmod(0o500)
    try:
        assert_refused(emu(*build_arguments(metadata, tmp_path / "out", build_flags)), str(tmp_path / "out"))
    finally:
        tmp_path.chmod(0o700)


def test_a_changed_recipe_stops_with_the_difference(corpus: Path, metadata: Path, build_flags: list[str]) -> None:
    before = content_of(corpus)
    run = emu(*build_arguments(metadata, corpus, build_flags, "--set", "min_side.pixels=200"))
    assert_refused(run, "was begun with another recipe", "pixels: 150 when it was begun, 200 now")
    assert content_of(corpus) == before


def assert_refused(run: "subprocess.CompletedProcess[str]", *words: str, untouched: Path | None = None) -> None:
    """One message of these words on stderr, exit code 2, and nothing written."""
    assert run.returncode == 2, run.stdout + run.stderr
    assert run.stderr.startswith("error: ")
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in run.stderr
    assert run.stdout == ""
    assert untouched is None or not untouched.exists()


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_stops_soon_and_the_same_command_goes_on_to_the_same_bytes(
    number: signal.Signals, tmp_path: Path, corpus: Path, metadata: Path, build_flags: list[str]
) -> None:
    stopped = tmp_path / "stopped"
    run, seconds = _stopped_run(
        build_arguments(metadata, stopped, build_flags), number, when=lambda: list(stopped.glob(RECORDS))
    )
    assert run.returncode == 75, run.stdout + run.stderr
    assert seconds < 10
    assert "Traceback" not in run.stderr
    assert f"{number.name}: stopping" in run.stderr
    assert "units are pending" in run.stdout
    assert "emu build laion-2b" in run.stdout  # how to go on
    assert 0 < len(list(stopped.glob(RECORDS))) < 6

    assert emu(*build_arguments(metadata, stopped, build_flags)).returncode == 0
    assert content_of(stopped) == content_of(corpus)


def test_ctrl_c_while_workers_start_is_no_traceback(tmp_path: Path, metadata: Path, build_flags: list[str]) -> None:
    stopped = tmp_path / "stopped"
    arguments = build_arguments(metadata, stopped, build_flags)
    run, _ = _stopped_run(arguments, signal.SIGINT, when=lambda: list(stopped.glob("run/launchers/*")), delay=0.3)
    assert run.returncode == 75, run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def _stopped_run(
    arguments: list[str], number: signal.Signals, *, when: Callable[[], object], delay: float = 0.0
) -> tuple["subprocess.CompletedProcess[str]", float]:
    """A slow run that is sent a signal `delay` seconds after `when` holds, and the seconds it then took to end."""
    slowly = ["--fetch", "requests_per_second_per_host=2", "--fetch", "connections_per_host=1"]
    process = subprocess.Popen(
        [str(EMU), *arguments, *slowly],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    _wait_for(when, process)
    time.sleep(delay)
    began = time.monotonic()
    os.killpg(process.pid, number)  # as a terminal does: to driver and workers at once
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err), time.monotonic() - began


def test_the_second_signal_ends_at_once() -> None:
    program = (
        "import time\n"
        "from jobs.stop_signals import stop_on_signal\n"
        "with stop_on_signal(lambda name: print(name, flush=True), exit_code=75):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"  # a run that does not heed the event
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "SIGTERM\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 75


def _wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
