"""What every test may use: the real files that stand beside the checkout, and small corpora made on the spot."""

from pathlib import Path

import pytest

_FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """The folder of real files nobody here wrote; tests that need it skip where it is absent."""
    if not _FIXTURES.is_dir():
        pytest.skip("the folder of real fixtures (../shared/fixtures) is not beside this checkout")
    return _FIXTURES
