"""Alembic's entry point: a transaction a migration, bounded waits, one migrator at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import Engine, text

from worker.db.engine import MIGRATION_LOCK, make_engine
from worker.db.models import Base
from worker.settings import load

_PAUSE_SECONDS = 0.2


def run() -> None:
    """Runs the migrations on the engine that the caller brought, or on that of the environment."""
    engine: Engine = context.config.attributes.get("engine") or make_engine(load())
    try:
        _run(engine)
    finally:
        engine.dispose()


def _run(engine: Engine) -> None:
    with _alone(engine), engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            compare_type=True,
            compare_server_default=False,
            # What one migration has locked, the next must not hold on to.
            transaction_per_migration=True,
        )
        # A migration that waits for a lock holds up everybody behind it: it gives up early, and
        # whoever called it tries again. Leases outlast this.
        connection.execute(text("SET lock_timeout = '2s'"))
        connection.execute(text("SET statement_timeout = '60s'"))
        connection.commit()
        with context.begin_transaction():
            context.run_migrations()


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Waits until no other migrator runs.

    Asks again and again: one that waited inside a statement would hold a snapshot, and the index
    that the other one builds concurrently would wait for that for ever.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        key = {"key": MIGRATION_LOCK}
        while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar():
            time.sleep(_PAUSE_SECONDS)
        try:
            yield
        finally:
            # The end of the connection would do, but a pool keeps it.
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)


run()
