from __future__ import annotations

from uuid import uuid4

import pytest

from tests.conftest import make_settings
from worker.db.claims import Claims
from worker.db.engine import make_engine
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.pipeline import STEPS
from worker.steps._core import Runtime
from worker.steps._guard import Guard, Next


@pytest.mark.parametrize("way", ["run", "undo"])
def test_a_step_that_cannot_be_claimed_without_the_database_is_left_to_the_sweep(way: str) -> None:
    settings = make_settings("postgresql://nobody@127.0.0.1:1/nothing")
    engine = make_engine(settings)
    guard = Guard(
        Runtime(
            settings=settings,
            jobs=JobRepository(engine, resend_after_seconds=1),
            claims=Claims(engine, resend_after_seconds=1),
            numbers=Numbers(engine),
            notifications=Notifications(engine),
            vault=Vault(settings.vault_keys),
        )
    )
    assert getattr(guard, way)(STEPS[0], uuid4()) is Next.END
