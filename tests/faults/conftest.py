from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig import Rig, running


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A stack without a worker: the tests start theirs, when they have set the scene."""
    with running(without={"flower", "worker1"}, worker_concurrency=64) as rig:
        yield rig
