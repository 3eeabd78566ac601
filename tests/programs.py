"""Programs that only some tests need, and that not every machine has."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """Returns where a program is, or skips the test.

    TRUNKLINE_REQUIRED names, with spaces between, the programs without which tests fail instead:
    CI sets it to those that it has installed.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is not None:
        return found
    if name in os.environ.get("TRUNKLINE_REQUIRED", "").split():
        pytest.fail(f"{name} is required here (TRUNKLINE_REQUIRED) and cannot be found")
    pytest.skip(f"{name} is not installed")  # a developer's machine; CI requires it, above
