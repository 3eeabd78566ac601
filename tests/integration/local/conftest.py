from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def state_dir() -> Iterator[Path]:
    # Not tmp_path: pytest takes the passage through its directories away from other accounts
    # whenever a test run starts, and run by root, Postgres is another account.
    directory = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    yield directory
    shutil.rmtree(directory)
