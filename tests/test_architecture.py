"""Imports follow the arrows of the house (`docs/architecture.md`), and `emu` starts without what only some commands need.

Read from the syntax tree, so that an import inside a function, or one that only a type checker sees, counts too.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "jobs": {"jobs", "pipelines", "emu_model", "schemas"},
    "pipelines": {"pipelines", "schemas"},
    "emu_model": {"emu_model", "schemas"},
    "schemas": {"schemas"},
}

# Who may import a heavy library; nobody else does, wherever the import stands.
ONLY_IN = {
    "ray": ("pipelines/runners/ray.py",),
    "apache_beam": ("pipelines/runners/beam.py",),
    "torch": ("emu_model/", "pipelines/columns/features.py"),
    "transformers": ("emu_model/",),
    "triton": ("emu_model/",),
    "open_clip": ("emu_model/",),
}

HEAVY = {"torch", "ray", "apache_beam", "av", "yt_dlp"}

# What `emu --help`, `inspect` and `validate` can do without, though it is always installed.
NOT_TO_READ = HEAVY | {"aiohttp", "cv2", "uvloop", "duckdb", "pipelines", "emu_model"}


def violations(file: str, source: str) -> list[str]:
    """Imports in `file` (relative to the root) that it may not have, as `file:line imports name`."""
    package = file.partition("/")[0]
    found = []
    for line, name in _imports(ast.parse(source)):
        top = name.partition(".")[0]
        stranger = top in MAY_IMPORT and top not in MAY_IMPORT[package]
        misplaced = top in ONLY_IN and not file.startswith(ONLY_IN[top])
        if stranger or misplaced:
            found.append(f"{file}:{line} imports {name}")
    return found


def _imports(tree: ast.Module) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((node.lineno, node.module or ""))
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            found += [(node.lineno, arg.value) for arg in node.args if _is_text(arg)]  # type: ignore[attr-defined]
    return found


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _files() -> list[Path]:
    return sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def test_imports_follow_the_arrows() -> None:
    files = _files()
    assert {path.relative_to(ROOT).parts[0] for path in files} == set(MAY_IMPORT)
    found = [v for path in files for v in violations(path.relative_to(ROOT).as_posix(), path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("file", "source", "culprit"),
    [
        ("schemas/x.py", "import pipelines.run", "pipelines.run"),
        ("schemas/x.py", "def f():\n    from jobs import cli", "jobs"),
        ("pipelines/x.py", "from emu_model.vision import Tower", "emu_model.vision"),
        ("emu_model/x.py", "import json, pipelines", "pipelines"),
        ("pipelines/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jobs.cli", "jobs.cli"),
        ("pipelines/x.py", "import importlib\nimportlib.import_module('emu_model.vision')", "emu_model.vision"),
        ("pipelines/run.py", "import ray", "ray"),
        ("pipelines/runners/ray.py", "import apache_beam as beam", "apache_beam"),
        ("pipelines/steps/images.py", "import torch.nn", "torch.nn"),
        ("jobs/train.py", "import torch", "torch"),
    ],
)
def test_a_planted_violation_is_found(file: str, source: str, culprit: str) -> None:
    assert [v.rpartition(" ")[2] for v in violations(file, source)] == [culprit]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("jobs/x.py", "import pipelines.run, emu_model.train, schemas.corpus"),
        ("pipelines/runners/ray.py", "import ray"),
        ("emu_model/vision.py", "import torch\nfrom schemas.corpus import Corpus"),
        ("pipelines/x.py", "from schemas import plan\nimport rayleigh"),
    ],
)
def test_what_may_be_imported_is_no_violation(file: str, source: str) -> None:
    assert violations(file, source) == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "unwanted"),
    [
        (["--help"], 0, NOT_TO_READ),
        (["--version"], 0, NOT_TO_READ),
        (["no-such-command"], 2, NOT_TO_READ),
        (["inspect", "tests/golden/corpus"], 0, NOT_TO_READ),
        (["inspect", "tests/golden/corpus", "00000000-000000"], 0, NOT_TO_READ),
        (["validate", "--quick", "tests/golden/corpus"], 0, NOT_TO_READ),
        (["build", "--help"], 0, HEAVY),
    ],
)
def test_emu_starts_without_what_it_does_not_need(arguments: list[str], exit_code: int, unwanted: set[str]) -> None:
    program = (
        "import json, sys\n"
        "from jobs.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    code = end.code or 0\n"
        "print('\\n' + json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    code, modules = json.loads(run.stdout.splitlines()[-1])
    assert code == exit_code, run.stdout + run.stderr
    assert "typer" in modules
    assert not unwanted & set(modules)
