"""What every room's tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def missing_part():
    """Say loudly that a real part is missing: a skip, or a failure where all parts are required."""

    def miss(reason):
        if os.environ.get("DATAKLUIS_REQUIRE_ALL"):
            pytest.fail(f"a required part is missing: {reason}")
        pytest.skip(f"MISSING PART: {reason}")

    return miss


@pytest.fixture(scope="session")
def test_persons(missing_part):
    """The file of official test persons that DATAKLUIS_TEST_PERSONS names."""
    named = os.environ.get("DATAKLUIS_TEST_PERSONS", "")
    path = Path(named)
    if not named or not path.is_file():
        missing_part(f"DATAKLUIS_TEST_PERSONS names no file ({named!r})")
    return path
