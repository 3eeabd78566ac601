from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig import Rig, running


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """The whole product but Flower, with short leases and retries."""
    with running(without={"flower"}) as rig:
        yield rig
