from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig import Rig, running


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A stack of this release without a worker: the tests start those of each release."""
    with running(without={"flower", "worker1"}, worker_concurrency=64) as rig:
        yield rig
