"""What every test may use: the real files that stand beside the checkout, and small corpora made on the spot."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# CI judges the change at hand by the same examples each time; new ones are looked for by whoever runs the tests elsewhere.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "explore")

_FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """The folder of real files nobody here wrote; tests that need it skip where it is absent."""
    if not _FIXTURES.is_dir():
        pytest.skip("the folder of real fixtures (../shared/fixtures) is not beside this checkout")
    return _FIXTURES
