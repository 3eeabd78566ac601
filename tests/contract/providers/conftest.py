"""A sandbox a process; a fresh world a test."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import requests
import tenacity.nap

from deploy.sandbox.thread import running
from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases import CASES
from tests.contract.providers.world import World
from worker.providers import Provider


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that try again do so at once: the clock is not what is tested."""
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture(scope="session")
def control() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> ProviderCase:
    found: ProviderCase = request.param
    return found


@pytest.fixture
def world(case: ProviderCase, sandbox: str, control: requests.Session) -> Iterator[World]:
    world = World(case, sandbox, control)
    yield world
    # Whatever a test is about: no number is ever given away or bought.
    assert not {entry["operation"] for entry in world.journal()} & set(case.forbidden)


@pytest.fixture
def provider(world: World) -> Provider:
    return world.provider()
