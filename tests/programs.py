"""Programs that tests run and that pip cannot install. Not here: starting any one of them."""

import os
import shutil
from pathlib import Path

import pytest


def need(program: str, install: str) -> str:
    """Return the path of a program, found by its name or given as a path.

    Where it is missing the test is skipped, saying the command that installs it; in CI, which
    installs everything, the test fails.
    """
    found = shutil.which(program)
    if found is None:
        missing = f"there is no {Path(program).name} here: {install}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return found
