from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig import FAST, Rig, running


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A stack without a worker: the tests start theirs, when they have set the scene."""
    # Many jobs are stopped at the same moment: none of them may be held for want of a place.
    env = {**FAST, "TRUNKLINE_ORGANIZATION_CONCURRENCY": "256"}
    with running(without={"flower", "worker1"}, worker_concurrency=64, env=env) as rig:
        yield rig
